package ioc

import "fmt"

// uncollected says why a kind is not collected on this system, or nothing.
func uncollected(k Kind) string {
	switch k {
	case KindFile, KindProcess, KindPort, KindService:
		return ""
	case KindDNS, KindARP, KindUser, KindSystem, KindVolume:
	}
	return fmt.Sprintf("%s is not collected on Windows: have Kaspersky Endpoint Security look for it through KSC", k)
}

// unknownHere reports whether a field has no value on this system.
func unknownHere(k Kind, field int) bool {
	switch k {
	case KindFile:
		return field == fileChanged || field == fileUser || field == fileUID || field == fileInode
	case KindProcess:
		return field == processUID
	case KindPort, KindService, KindDNS, KindARP, KindUser, KindSystem, KindVolume:
	}
	return false
}
