//go:build !race

package bridge_test

// slowdown is what time budgets are multiplied with.
const slowdown = 1
