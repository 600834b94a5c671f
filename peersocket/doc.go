// Package peersocket listens on Unix sockets whose callers the kernel names.
//
// A socket appears at its place only when its owner, group and mode are right, and goes with its listener. Each accepted connection
// knows the user at its other end (SO_PEERCRED); nothing a caller says about itself counts.
package peersocket
