package engine

var sortedSetCommands []Command
