//go:build !race

package store_test

// policyShare is which part of the cases runs: all of them.
const policyShare = 1
