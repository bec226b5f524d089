//go:build race

package engine

// raceEnabled tells that the race detector makes everything slower.
const raceEnabled = true
