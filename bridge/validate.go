package bridge

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	maxPathLength  = 32767 // UTF-16 units Windows allows in a path
	maxCommandLine = 32767 // UTF-16 units CreateProcess takes
	minPrefix4     = 24
	minPrefix6     = 64
)

// The digests of the empty file: a task that goes by one of them hits every empty file and nothing else.
const (
	emptyMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

var errRequired = errors.New("required")

// Validate needs the path of a file; digests are optional.
func (t GetFile) Validate() error { return checkFileTask(t.MD5, t.SHA256, t.Path) }

// Validate needs the path of a file; digests are optional.
func (t QuarantineFile) Validate() error { return checkFileTask(t.MD5, t.SHA256, t.Path) }

// Validate needs the path of a file; digests are optional.
func (t DeleteFile) Validate() error { return checkFileTask(t.MD5, t.SHA256, t.Path) }

// Validate needs one of path, md5hash and sha256hash.
func (t TerminateProcess) Validate() error {
	var p problems
	p.add("md5hash", checkDigest(t.MD5, 32))
	p.add("sha256hash", checkDigest(t.SHA256, 64))
	if t.Path != "" {
		p.add("path", checkFilePath(t.Path))
	} else if t.MD5 == "" && t.SHA256 == "" {
		p.add("path", errors.New("required when neither md5hash nor sha256hash is given"))
	}
	return p.join()
}

// Validate needs the hash or the path; what is given must both match. KSC needs an MD5, the local agent also takes a SHA-256, or a path alone.
func (t PreventExecution) Validate() error {
	var p problems
	if t.Hash == "" {
		if t.Path == "" {
			p.add("hash", errRequired)
		}
	} else if len(t.Hash) != 64 {
		p.add("hash", checkDigest(t.Hash, 32))
	} else {
		p.add("hash", checkDigest(t.Hash, 64))
	}
	if t.Path != "" {
		p.add("path", checkFilePath(t.Path))
	}
	return p.join()
}

// Validate needs the executable; the arguments are one line of text without control characters.
func (t StartProcess) Validate() error {
	var p problems
	if t.ExecutablePath == "" {
		p.add("executablePath", errRequired)
	} else {
		p.add("executablePath", checkFilePath(t.ExecutablePath))
	}
	// Windows puts the quoted path and a space in front.
	if n := utf16Len(t.ExecutablePath) + utf16Len(t.Arguments) + len(`"" `); n > maxCommandLine {
		p.add("arguments", fmt.Errorf("makes a command line of %d UTF-16 units, allowed are %d", n, maxCommandLine))
	} else {
		p.add("arguments", checkText(t.Arguments))
	}
	if t.WorkingFolder != "" {
		p.add("workingFolder", CheckPath(t.WorkingFolder))
	}
	return p.join()
}

// Validate takes the two actions only.
func (t IsolateHost) Validate() error {
	var p problems
	if t.Action != IsolationOff && t.Action != IsolationOn {
		p.add("action", fmt.Errorf("is %d, want 1 (isolate) or 0 (release)", t.Action))
	}
	return p.join()
}

// Validate takes 1 to 100 objects; only a folder has a path and it must have one.
func (t OnDemandScan) Validate() error {
	var p problems
	if n := len(t.Objects); n == 0 || n > maxScanObjects {
		p = append(p, fmt.Errorf("params: holds %d scan objects, want 1 to %d", n, maxScanObjects))
		return p.join()
	}
	for i, o := range t.Objects {
		at := func(field string, err error) {
			if err != nil {
				p = append(p, fmt.Errorf("params[%d].%s: %w", i, field, err))
			}
		}
		switch {
		case !o.Type.valid():
			at("type", fmt.Errorf("is %d, want 14 to 18 or 22 to 25", int(o.Type)))
		case o.Type != ScanFolder:
			if o.Path != "" {
				at("path", fmt.Errorf("must be empty for type %d: only type %d scans a folder", o.Type, ScanFolder))
			}
		case o.Path == "":
			at("path", fmt.Errorf("required for type %d", ScanFolder))
		default:
			at("path", CheckPath(o.Path))
		}
	}
	return p.join()
}

// Validate needs an address of one peer or a small network (see Prefix).
func (t BlockAddress) Validate() error {
	var p problems
	_, err := t.Prefix()
	p.add("address", err)
	return p.join()
}

// Prefix returns the address as a masked prefix, single addresses as /32 or /128, IPv4 in IPv6 form
// (::ffff:203.0.113.7) as IPv4. It refuses zones, prefixes shorter than /24 or /64, prefixes with host bits,
// and what overlaps loopback, unspecified, multicast or broadcast addresses.
func (t BlockAddress) Prefix() (netip.Prefix, error) {
	if t.Address == "" {
		return netip.Prefix{}, errRequired
	}
	prefix, err := parsePrefix(t.Address)
	if err != nil {
		return netip.Prefix{}, err
	}
	least := minPrefix6
	if prefix.Addr().Is4() {
		least = minPrefix4
	}
	switch {
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits behind its prefix: write %s, or the address alone", prefix, prefix.Masked())
	case prefix.Bits() < least:
		return netip.Prefix{}, fmt.Errorf("%s is too wide: want /%d or longer", prefix, least)
	}
	for _, never := range neverBlocked() {
		if prefix.Overlaps(never) {
			return netip.Prefix{}, fmt.Errorf("%s touches %s, which is no peer (loopback, unspecified, multicast or broadcast)", prefix, never)
		}
	}
	return prefix, nil
}

// problems collects what is wrong with the fields of one task.
type problems []error

func (p *problems) add(field string, err error) {
	if err != nil {
		*p = append(*p, fmt.Errorf("params.%s: %w", field, err))
	}
}

func (p problems) join() error { return errors.Join(p...) }

func checkFileTask(md5, sha256, path string) error {
	var p problems
	p.add("md5hash", checkDigest(md5, 32))
	p.add("sha256hash", checkDigest(sha256, 64))
	if path == "" {
		p.add("path", errRequired)
	} else {
		p.add("path", checkFilePath(path))
	}
	return p.join()
}

// checkFilePath takes what CheckPath takes and can be a file.
func checkFilePath(path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	if base := BaseName(path); base == "" || base == "." || strings.HasSuffix(path, "/") || strings.HasSuffix(path, `\`) {
		return errors.New("names a folder: want a file")
	}
	return nil
}

// checkDigest takes "" or hex digits of the length, in either case.
func checkDigest(digest string, length int) error {
	if digest == "" {
		return nil
	}
	if len(digest) != length {
		return fmt.Errorf("is %d characters long, want %d hex digits%s", len(digest), length, digestHint(digest))
	}
	if _, err := hex.DecodeString(digest); err != nil {
		return fmt.Errorf("holds more than hex digits: %s", show(digest))
	}
	if slices.Contains([]string{emptyMD5, emptySHA256}, strings.ToLower(digest)) {
		return errors.New("is the digest of the empty file, which says nothing about a file")
	}
	return nil
}

func digestHint(digest string) string {
	switch {
	case strings.ContainsAny(digest, ":="):
		return ": leave the name of the digest out"
	case len(digest) == 32:
		return ": this looks like an MD5, which goes into md5hash"
	case len(digest) == 40:
		return ": this looks like a SHA-1, which KSC does not take"
	case len(digest) == 64:
		return ": this looks like a SHA-256, which goes into sha256hash"
	default:
		return ""
	}
}

func (t ScanType) valid() bool { return slices.Contains(scanTypes(), t) }

// parsePrefix reads an address or a prefix and takes IPv4 out of its IPv6 form.
func parsePrefix(s string) (netip.Prefix, error) {
	if len(s) > maxSegment {
		return netip.Prefix{}, errors.New("is too long for an address")
	}
	if strings.Contains(s, "%") {
		return netip.Prefix{}, errors.New("has a zone, which means something else on every host: leave it out")
	}
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%s is not an IPv4 or IPv6 address", show(s))
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s is not a prefix like 203.0.113.0/24", show(s))
	}
	if prefix.Addr().Is4In6() {
		const mapped = 96
		if prefix.Bits() < mapped {
			return netip.Prefix{}, fmt.Errorf("%s is wider than IPv4", show(s))
		}
		return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mapped), nil
	}
	return prefix, nil
}

func neverBlocked() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"),
		netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("::/127"), netip.MustParsePrefix("ff00::/8"),
	}
}
