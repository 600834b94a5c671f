package cef

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// MaxLine is the size of the longest line that is read, in bytes.
	MaxLine = 1 << 20
	// MaxPairs is how many pairs the extension of a line may have.
	MaxPairs = 1024

	// prefix begins every line.
	prefix = "CEF:"
	// maxKey is the size of the longest key, in bytes; the published ones have at most 37.
	maxKey = 128
	// headerFields is how many fields end in a pipe, the version among them.
	headerFields = 7
)

// Parse reads one line, without the line break that ends it. It refuses a line that does not begin with "CEF:", has fewer than seven
// header fields each ended by a pipe, is of another version than 0 or 1, is not UTF-8, holds a NUL or a line break, is longer than
// MaxLine, has more than MaxPairs pairs, gives a key twice, or has text before the first key.
//
// A key is a run of ASCII letters, digits and "_.-[]" that begins with a letter, a digit or "_", follows a space or the header, and
// ends in "="; every other "=" belongs to the value around it. Spaces around a value are dropped, inside they are kept.
// In a value \= \\ \n and \r are escapes. A backslash before anything else shows that the product does not escape backslashes
// (filePath=C:\Users\nina): then all backslashes of that value are kept and only \= is read as "=". The same holds in
// header fields for \| and \\.
//
// Strings without escapes share one copy of the line. The line itself is not kept. Errors may quote a key, never a value.
func Parse(line []byte) (Record, error) {
	if err := check(line); err != nil {
		return Record{}, fmt.Errorf("cef: %w", err)
	}
	s := string(line)
	var r Record
	rest, err := r.readHeader(s[len(prefix):])
	if err != nil {
		return Record{}, fmt.Errorf("cef: %w", err)
	}
	if r.Extension, err = readExtension(rest); err != nil {
		return Record{}, fmt.Errorf("cef: %w", err)
	}
	return r, nil
}

func check(line []byte) error {
	switch {
	case len(line) > MaxLine:
		return fmt.Errorf("line has %d bytes, at most %d are read", len(line), MaxLine)
	case !bytes.HasPrefix(line, []byte(prefix)):
		return errors.New(`line does not begin with "CEF:"`)
	case bytes.IndexByte(line, 0) >= 0:
		return errors.New("line holds a NUL")
	case bytes.IndexByte(line, '\n') >= 0 || bytes.IndexByte(line, '\r') >= 0:
		return errors.New("line holds a line break: send one record a line and breaks inside a value as \\n")
	case !utf8.Valid(line):
		return errors.New("line is not UTF-8")
	default:
		return nil
	}
}

// readHeader fills in the header from what follows the prefix and returns the extension.
func (r *Record) readHeader(s string) (string, error) {
	var fields [headerFields]string
	for i := range fields {
		end := fieldEnd(s)
		if end < 0 {
			return "", fmt.Errorf("header has %d fields, want %d, each ended by |", i, headerFields)
		}
		fields[i] = unescape(s[:end], '|')
		s = s[end+1:]
	}
	// FortiOS is known to write "CEF: 0|".
	switch strings.TrimPrefix(fields[0], " ") {
	case "0":
	case "1":
		r.Version = 1
	default:
		return "", errors.New("version of the format is neither 0 nor 1")
	}
	r.Vendor, r.Product, r.DeviceVersion = fields[1], fields[2], fields[3]
	r.ClassID, r.Name, r.Severity = fields[4], fields[5], fields[6]
	return s, nil
}

// fieldEnd is where the first pipe stands that is not escaped, or -1.
func fieldEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '|':
			return i
		case '\\':
			i++ // whatever follows does not end the field
		}
	}
	return -1
}

// readExtension splits a line's extension into pairs. A value ends where the next key begins, so it is cut when that key is found.
func readExtension(s string) ([]Pair, error) {
	equals := strings.Count(s, "=")
	if equals == 0 {
		if strings.Trim(s, " ") != "" {
			return nil, errors.New("extension has text but no key")
		}
		return nil, nil
	}
	pairs := make([]Pair, 0, min(equals, MaxPairs))
	seen := keySet{}
	value := 0 // where the value of the last pair begins
	for at := 0; ; {
		next := strings.IndexByte(s[at:], '=')
		if next < 0 {
			break
		}
		at += next + 1
		begin := keyBegin(s[:at-1])
		if begin < 0 {
			continue
		}
		key := s[begin : at-1]
		switch {
		case len(key) > maxKey:
			return nil, fmt.Errorf("key %.40q… has %d bytes, at most %d are read", key, len(key), maxKey)
		case len(pairs) == MaxPairs:
			return nil, fmt.Errorf("extension has more than %d pairs", MaxPairs)
		case seen.has(pairs, key):
			return nil, fmt.Errorf("key %q is given twice", key)
		case len(pairs) > 0:
			pairs[len(pairs)-1].Value = unescape(strings.Trim(s[value:begin], " "), '=')
		case strings.Trim(s[:begin], " ") != "":
			return nil, errors.New("extension begins with text that has no key")
		}
		pairs = append(pairs, Pair{Key: key})
		value = at
	}
	if len(pairs) == 0 {
		return nil, errors.New("extension has text but no key")
	}
	pairs[len(pairs)-1].Value = unescape(strings.Trim(s[value:], " "), '=')
	return pairs, nil
}

// keyBegin is where the key begins that ends s, or -1 when s does not end in a key.
func keyBegin(s string) int {
	begin := len(s)
	for begin > 0 && isKeyByte(s[begin-1]) {
		begin--
	}
	if begin == len(s) || begin > 0 && s[begin-1] != ' ' {
		return -1
	}
	// A word such as -enc= is an option inside a command line.
	if c := s[begin]; c == '.' || c == '-' || c == '[' || c == ']' {
		return -1
	}
	return begin
}

func isKeyByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return c == '_' || c == '.' || c == '-' || c == '[' || c == ']'
	}
}

// fewPairs is up to how many keys comparing with each of them costs less than hashing.
const fewPairs = 48

// keySet knows the keys of the pairs read so far; it is a map only where they are many.
type keySet struct{ many map[string]struct{} }

// has reports whether key is among the pairs, and takes it in.
func (k *keySet) has(pairs []Pair, key string) bool {
	if len(pairs) < fewPairs {
		for i := range pairs {
			if pairs[i].Key == key {
				return true
			}
		}
		return false
	}
	if k.many == nil {
		k.many = make(map[string]struct{}, 2*fewPairs)
		for i := range pairs {
			k.many[pairs[i].Key] = struct{}{}
		}
	}
	_, given := k.many[key]
	k.many[key] = struct{}{}
	return given
}
