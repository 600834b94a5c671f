package ioc

import (
	"net"
	"strings"
)

// hardwareAddress adds a MAC address in the two spellings in use: 00:11:22:33:44:55 and 00-11-22-33-44-55.
func hardwareAddress(o *object, field int, a net.HardwareAddr) {
	o.text(field, a.String(), strings.ReplaceAll(a.String(), ":", "-"))
}
