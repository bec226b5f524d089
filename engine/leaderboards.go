package engine

var leaderboardCommands []Command
