package engine

var hashCommands []Command
