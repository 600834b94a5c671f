// Package prevention keeps files from being executed (preventExecution): by path, by digest, or both.
//
// On Linux the kernel asks it before each execution (fanotify, permission events); it answers from memory, and whatever goes wrong
// opens: a machine must never hang because of its guard. On Windows it writes the policies the system itself enforces.
package prevention
