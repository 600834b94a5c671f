package scan

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// maxLine bounds a line: a pattern of maxPattern bytes in hex, its name and its offset.
	maxLine = 16 << 10
	// maxSignatures bounds the memory: about 150 bytes each.
	maxSignatures = 500_000
	// maxPattern bounds a byte pattern; the matcher keeps as many bytes of a file from one window to the next.
	maxPattern = 4 << 10
	// minKnown is how many known bytes in a row a pattern must have, to be found fast and not everywhere.
	minKnown = 4
	// anywhere is the offset and the size "*".
	anywhere = -1
)

// hashSig is what a digest stands for.
type hashSig struct {
	name string
	size int64 // anywhere = any
}

// pattern is a byte pattern: bytes where known is set, any byte elsewhere.
type pattern struct {
	name   string
	offset int64 // anywhere = any
	bytes  []byte
	known  []bool // nil = all
}

// signatures is what a signatures file holds.
type signatures struct {
	md5      map[[16]byte]hashSig
	sha256   map[[32]byte]hashSig
	patterns []pattern
}

func (s *signatures) count() int { return len(s.md5) + len(s.sha256) + len(s.patterns) }

// parseSignatures reads a signatures file: one signature a line, each as ClamAV writes it
// (https://docs.clamav.net/manual/Signatures/HashSignatures.html, …/BodySignatureFormat.html), in any mixture:
//
//	44d88612fea8a8f36de82e1278abb02f:68:Name            MD5, size in bytes (or *), name     .hdb
//	<64 hex digits>:*:Name:73                           SHA-256; the last field is ignored  .hsb
//	Name:0:*:deadbeef??c0de                             bytes at any offset, or at the given one .ndb
//	# a comment; empty lines are fine
//
// Patterns know "??" for any byte and nothing else; SHA-1, other target types and computed offsets are refused. The error names
// the first line that is wrong; of a file with an error nothing is taken.
func parseSignatures(r io.Reader) (*signatures, error) {
	s := &signatures{md5: map[[16]byte]hashSig{}, sha256: map[[32]byte]hashSig{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimRight(lines.Text(), "\r \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if s.count() >= maxSignatures {
			return nil, fmt.Errorf("line %d: more than %d signatures", n, maxSignatures)
		}
		if err := s.add(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: longer than %d bytes", n+1, maxLine)
	} else if err != nil {
		return nil, fmt.Errorf("after line %d: %w", n, err)
	}
	return s, nil
}

func (s *signatures) add(line string) error {
	fields := strings.Split(line, ":")
	if len(fields) < 3 {
		return fmt.Errorf("has %d fields, want DIGEST:SIZE:NAME or NAME:0:OFFSET:HEX", len(fields))
	}
	digest, err := hex.DecodeString(fields[0])
	if err == nil && isDigestSize(len(digest)) {
		return s.addHash(digest, fields)
	}
	return s.addPattern(fields)
}

func isDigestSize(n int) bool { return n == 16 || n == 20 || n == 32 }

func (s *signatures) addHash(digest []byte, fields []string) error {
	if len(fields) > 4 {
		return fmt.Errorf("has %d fields, a digest has 3: DIGEST:SIZE:NAME", len(fields))
	}
	if len(fields) == 4 {
		if _, err := strconv.ParseUint(fields[3], 10, 16); err != nil {
			return fmt.Errorf("field 4 is %q, want a minimum engine version of ClamAV", fields[3])
		}
	}
	size, err := number(fields[1], "size")
	if err != nil {
		return err
	}
	if size == 0 {
		return errors.New("has the size 0: every empty file would be malware")
	}
	name, err := sigName(fields[2])
	if err != nil {
		return err
	}
	switch len(digest) {
	case 16:
		if hex.EncodeToString(digest) == emptyMD5 {
			return errors.New("is the MD5 of the empty file")
		}
		s.md5[[16]byte(digest)] = hashSig{name, size}
	case 32:
		if hex.EncodeToString(digest) == emptySHA256 {
			return errors.New("is the SHA-256 of the empty file")
		}
		s.sha256[[32]byte(digest)] = hashSig{name, size}
	default:
		return errors.New("is a SHA-1, which is not computed: want MD5 or SHA-256")
	}
	return nil
}

// The digests of the empty file.
const (
	emptyMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func (s *signatures) addPattern(fields []string) error {
	if len(fields) != 4 {
		return fmt.Errorf("has %d fields, want DIGEST:SIZE:NAME or NAME:0:OFFSET:HEX", len(fields))
	}
	name, err := sigName(fields[0])
	if err != nil {
		return err
	}
	if fields[1] != "0" {
		return fmt.Errorf("has the target type %q, only 0 (any file) is known", fields[1])
	}
	p := pattern{name: name}
	if p.offset, err = number(fields[2], "offset"); err != nil {
		return err
	}
	if err := p.parse(fields[3]); err != nil {
		return err
	}
	s.patterns = append(s.patterns, p)
	return nil
}

// parse reads the hex of a pattern.
func (p *pattern) parse(text string) error {
	if len(text)%2 != 0 {
		return errors.New("has half a byte in its pattern")
	}
	if len(text) > 2*maxPattern {
		return fmt.Errorf("has a pattern of %d bytes, allowed are %d", len(text)/2, maxPattern)
	}
	p.bytes = make([]byte, len(text)/2)
	known := make([]bool, len(p.bytes))
	run, best, unknown := 0, 0, 0
	for i := range p.bytes {
		pair := text[2*i : 2*i+2]
		if pair == "??" {
			run = 0
			unknown++
			continue
		}
		if _, err := hex.Decode(p.bytes[i:i+1], []byte(pair)); err != nil {
			return fmt.Errorf("has %q in its pattern at byte %d: want two hex digits or ??", pair, i)
		}
		known[i] = true
		run++
		best = max(best, run)
	}
	if best < minKnown {
		return fmt.Errorf("has no %d known bytes in a row in its pattern", minKnown)
	}
	if unknown > 0 {
		p.known = known
	}
	return nil
}

// at reports whether the pattern stands at the beginning of b.
func (p *pattern) at(b []byte) bool {
	if len(b) < len(p.bytes) {
		return false
	}
	if p.known == nil {
		return string(b[:len(p.bytes)]) == string(p.bytes)
	}
	for i, c := range p.bytes {
		if p.known[i] && b[i] != c {
			return false
		}
	}
	return true
}

func number(text, what string) (int64, error) {
	if text == "*" {
		return anywhere, nil
	}
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("has the %s %q, want a number or *", what, text)
	}
	return int64(n), nil
}

// sigName takes what is safe in every log and receipt.
func sigName(name string) (string, error) {
	if name == "" || len(name) > maxName {
		return "", fmt.Errorf("has a name of %d bytes, want 1 to %d", len(name), maxName)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return "", fmt.Errorf("has the name %q, want visible ASCII without spaces", name)
		}
	}
	return name, nil
}
