//go:build !linux

package main

import "os"

func kill(pid int) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	_ = p.Kill()
	_ = p.Release()
}
