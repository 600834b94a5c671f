package scan

import (
	"bytes"
	"io"
)

// containerHeads are how files begin that hold other files: ZIP (and JAR, OOXML, ODF), gzip, compress, bzip2, xz, lzip, zstd, lz4, 7-Zip, RAR,
// CAB, ar (and deb), OLE2 (and MSI), PDF, RTF, cpio, RPM, CHM, InstallShield, ARJ, xar, SquashFS, TNEF, Flash, and mail.
func containerHeads() []string {
	return []string{
		"PK\x03\x04", "PK\x05\x06", "PK\x07\x08", "\x1f\x8b", "\x1f\x9d", "BZh", "\xfd7zXZ", "LZIP", "\x28\xb5\x2f\xfd", "\x04\x22\x4d\x18",
		"7z\xbc\xaf\x27\x1c", "Rar!", "MSCF", "!<arch>\n", "\xd0\xcf\x11\xe0", "%PDF", "{\\rt", "070701", "070702", "070707", "\xc7\x71", "\xed\xab\xee\xdb",
		"ITSF", "ISc(", "\x60\xea", "xar!", "hsqs", "sqsh", "\x78\x9f\x3e\x22", "CWS", "ZWS", "From ", "From:", "Return-Path:", "Received:", "Delivered-To:",
		"MIME-Version:", "Message-ID:", "X-",
	}
}

// isContainer reports whether a file holds other files, as far as its head and its end tell: the kinds above, tar, LHA, ISO 9660, and programs
// that unpack themselves from a ZIP archive. When it cannot be read it may.
func isContainer(r io.ReaderAt, size int64) bool {
	head := make([]byte, min(size, 512))
	if _, err := r.ReadAt(head, 0); err != nil {
		return true
	}
	for _, h := range containerHeads() {
		if bytes.HasPrefix(head, []byte(h)) {
			return true
		}
	}
	at := func(offset int64, text string) bool {
		b := make([]byte, len(text))
		n, _ := r.ReadAt(b, offset)
		return string(b[:n]) == text
	}
	return at(257, "ustar") || at(2, "-lh") || at(32769, "CD001") || looksZipped(r, size, [4]byte{})
}
