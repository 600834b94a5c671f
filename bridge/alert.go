package bridge

import (
	"net/netip"
	"time"
)

// Alert is one detection, normalised by a preset, with the document it came from.
// Absent facts are zero values; a preset never guesses one.
type Alert struct {
	// ID names the alert within its source: the product's own id, else a digest of the document.
	ID string
	// Source is the name of the source in the settings, Preset the reading of its documents.
	Source, Preset string
	// Tenant is the product's id of the tenant the alert belongs to; it chooses among several KSC servers.
	Tenant string
	// Case is the product's id of the case the alert belongs to, such as the alert of KUMA a correlation event is part of;
	// outcomes are written back to it.
	Case string
	// Received is when the bridge got the document (UTC).
	Received time.Time
	// Time is when the product says it happened (UTC); zero when the document does not tell.
	Time time.Time

	// Level is the severity, one of LOW, MEDIUM, HIGH, CRITICAL or empty.
	Level                       string
	Title, Description, Details string
	// Host is the endpoint as the product names it: GUID, FQDN, NetBIOS name or address.
	Host string
	User string

	Process Process
	File    File
	// SourceAddress is the peer the attack came from, DestinationAddress where it went to.
	SourceAddress, DestinationAddress netip.Addr

	// Raw is the document as received.
	Raw []byte
}

// Process is what is known of one process of an alert or order.
type Process struct {
	// PID is the process id, 0 when unknown. It means nothing without Start.
	PID int
	// Start is the kernel's start time of the process in clock ticks since boot
	// (field 22 of /proc/PID/stat, proc_pid_stat(5)); 0 when unknown.
	Start uint64
	// Started is the same as wall-clock time (UTC, good to a second); zero when unknown.
	Started time.Time
	// Name is the file name of the image, Path its absolute path.
	Name, Path string
	// MD5 and SHA256 are lower-case hex digests of the image, or empty.
	MD5, SHA256 string
	CommandLine string
	// ParentName and ParentPath name the image of the parent.
	ParentName, ParentPath string
	// Tree, in the subject of an order, asks for the descendants of what is ended as well. Only the local agent can do that.
	Tree bool
}

// File is what is known of one file of an alert.
type File struct {
	Path, MD5, SHA256 string
}
