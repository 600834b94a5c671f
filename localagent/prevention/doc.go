// Package prevention keeps files from being executed (preventExecution): by path, by digest, or both.
//
// On Linux the kernel asks it before each execution (fanotify, permission events), and before each open of a file a rule is about. A process of
// its own answers (Listen), from memory; whatever goes wrong opens: a machine must never hang because of its guard. On Windows it writes the
// policies the system itself enforces.
package prevention
