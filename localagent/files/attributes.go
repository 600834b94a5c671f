package files

import "unicode/utf8"

// maxXattrs bounds the bytes of extended attributes that are kept of one file: names and values.
const maxXattrs = 512 << 10

// Moment is a time as filesystems keep it; time.Time cannot be written as JSON beyond the year 9999, which files may claim.
type Moment struct {
	Sec  int64 `json:"sec"`
	Nsec int64 `json:"nsec"`
}

// Attributes are what a file is besides its content and its name.
type Attributes struct {
	// Mode are the twelve permission bits of inode(7); UID and GID the owner. Linux only.
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	// Flags are the inode flags of chattr(1). Linux only.
	Flags uint32 `json:"flags"`
	// Accessed and Modified are the times programs can set; Created only Windows can set back.
	Accessed Moment `json:"accessed"`
	Modified Moment `json:"modified"`
	Created  Moment `json:"created"`
	// Xattrs are the extended attributes, POSIX ACLs and security.capability among them (xattr(7)). Linux only.
	Xattrs []Xattr `json:"xattrs,omitempty"`
	// Bits are the attributes of the file, SDDL its owner, group and access list. Windows only.
	Bits uint32 `json:"bits,omitempty"`
	SDDL string `json:"sddl,omitempty"`
}

// Xattr is one extended attribute.
type Xattr struct {
	// Name is its name, Raw the name when it is not valid UTF-8.
	Name  string `json:"name,omitempty"`
	Raw   []byte `json:"raw,omitempty"`
	Value []byte `json:"value"`
}

func newXattr(name string, value []byte) Xattr {
	if utf8.ValidString(name) {
		return Xattr{Name: name, Value: value}
	}
	return Xattr{Raw: []byte(name), Value: value}
}

func (x Xattr) name() string {
	if x.Name != "" {
		return x.Name
	}
	return string(x.Raw)
}
