package engine

var kvCommands []Command
