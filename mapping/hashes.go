package mapping

import "strings"

// digests are the digests of one image or file, lower-case hex or empty.
type digests struct{ md5, sha256 string }

// readDigests takes the digests out of a text: "SHA1=…,MD5=…,SHA256=…" as Sysmon writes it, "sha256:…", or a bare digest,
// which is told by its length. Each is checked alone: one of wrong length or with other characters than hex digits is left out,
// and so are two that contradict each other. A digest that was cut on the way (a 31-character MD5 stands in real KES texts)
// is therefore absent; it is never completed and never used.
func readDigests(text string) digests {
	var d digests
	var clash5, clash256 bool
	for item := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
		label, digest, labelled := strings.Cut(item, "=")
		if !labelled {
			label, digest, labelled = strings.Cut(item, ":")
		}
		if !labelled {
			label, digest = "", item
		}
		is256 := strings.EqualFold(label, "sha256") || strings.EqualFold(label, "sha-256")
		switch {
		case isHex(digest, 32) && (strings.EqualFold(label, "md5") || !labelled):
			clash5 = clash5 || d.md5 != "" && d.md5 != strings.ToLower(digest)
			d.md5 = strings.ToLower(digest)
		case isHex(digest, 64) && (is256 || !labelled):
			clash256 = clash256 || d.sha256 != "" && d.sha256 != strings.ToLower(digest)
			d.sha256 = strings.ToLower(digest)
		}
	}
	if clash5 {
		d.md5 = ""
	}
	if clash256 {
		d.sha256 = ""
	}
	return d
}
