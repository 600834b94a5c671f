//go:build !linux

package main

// checkTrusted has nothing to say here: who may change files is a matter of access lists, which the installer sets.
func (a *app) checkTrusted(...string) error { return nil }
