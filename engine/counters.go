package engine

var counterCommands []Command
