package redisbus

import (
	"syscall"
	"time"
)

// tcpMaxRT is TCP_MAXRT, in seconds.
// Source: learn.microsoft.com/windows/win32/winsock/ipproto-tcp-socket-options.
const tcpMaxRT = 5

func setUserTimeout(fd uintptr, d time.Duration) error {
	return syscall.SetsockoptInt(syscall.Handle(fd), syscall.IPPROTO_TCP, tcpMaxRT, int(d.Seconds()))
}
