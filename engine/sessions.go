package engine

var sessionCommands []Command
