//go:build race

package store_test

// policyShare is which part of the cases runs: the race detector costs about ten times.
const policyShare = 20
