//go:build race

package bridge_test

// slowdown is what time budgets are multiplied with: the race detector costs about ten times.
const slowdown = 10
