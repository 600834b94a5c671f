//go:build race

package ioc

// raceDetector says that the race detector takes memory of its own.
const raceDetector = true
