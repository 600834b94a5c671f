//go:build !linux

package main

import "io/fs"

// ownerOf has no implementation for this platform: KUMA's correlator runs on Linux.
func ownerOf(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }

func mountedNoExec(string) bool { return false }

func kumaProcesses(string, string) []string { return nil }
