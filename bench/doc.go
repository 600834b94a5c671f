// Command bench measures the built program against the least Go program that makes the same calls (bench/bare) in the
// same run, and prints one table of medians, spreads and ratios. The mock KSC and Redis share the machine with
// both, so compare ratios, not absolutes. It needs redis-server and, for the kills, Linux.
package main
