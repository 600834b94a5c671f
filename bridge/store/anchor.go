package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxAnchorLine is more than a line of an anchor file is long: 19 digits, 64 of the hash and a time.
const maxAnchorLine = 256

// Anchor returns the head of the chain; the zero value when it has no record.
func (s *Store) Anchor(ctx context.Context) (Anchor, error) {
	var out Anchor
	err := s.read(ctx, func(c *conn) error {
		row, err := c.first(ctx, `SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1`)
		if err != nil || row == nil {
			return err
		}
		out.Seq = asInt(row[0])
		copy(out.Hash[:], asBytes(row[1]))
		return nil
	})
	return out, damaged(err)
}

// FormatAnchor returns the anchor as "SEQ:HASH", the hash in 64 lower-case hex digits.
func FormatAnchor(a Anchor) string {
	return strconv.FormatInt(a.Seq, 10) + ":" + hex.EncodeToString(a.Hash[:])
}

// ParseAnchor reads what FormatAnchor writes; Seq is at least 1.
func ParseAnchor(text string) (Anchor, error) {
	var out Anchor
	seq, digits, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(seq, 10, 64)
	if err != nil || n < 1 {
		return out, fmt.Errorf("anchor %q: want SEQ:HASH with a number from 1 on", text)
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != len(out.Hash) {
		return out, fmt.Errorf("anchor %q: want SEQ:HASH with %d hex digits", text, 2*len(out.Hash))
	}
	out.Seq = n
	copy(out.Hash[:], raw)
	return out, nil
}

// AppendAnchor adds a line "SEQ:HASH TIME" (RFC 3339, UTC) to the file and syncs it before it returns. The file is made with mode 0640
// when it is not there; its folder must be. A symbolic link, a device or a pipe in its place is refused, because whoever
// can put one there could have the bridge write elsewhere. One line is one write to the end of the file, so several processes may
// add to it at once.
func AppendAnchor(path string, a Anchor, at time.Time) error {
	f, err := openAppend(path)
	if err != nil {
		return fmt.Errorf("anchor file: %w", err)
	}
	err = appendAnchor(f, a, at)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("anchor file: %w", err)
	}
	return nil
}

func appendAnchor(f *os.File, a Anchor, at time.Time) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	line := FormatAnchor(a) + " " + at.UTC().Format(time.RFC3339) + "\n"
	torn, err := endsInside(f, info.Size())
	if err != nil {
		return err
	}
	if torn {
		line = "\n" + line // what a crash left of a line must not spoil this one
	}
	if _, err := f.WriteString(line); err != nil {
		return err
	}
	return f.Sync()
}

// endsInside reports whether the last line of the file has no end.
func endsInside(f *os.File, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}

// ReadAnchors returns the anchors of a file in its order. A line that is no anchor is an error that names it, unless it is the last
// one and has no end, or is the beginning of an anchor: then a crash tore it, and it is left out.
func ReadAnchors(path string) ([]Anchor, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's setting
	if err != nil {
		return nil, fmt.Errorf("anchor file: %w", err)
	}
	out, err := readAnchors(f)
	if err != nil {
		err = fmt.Errorf("anchor file %s: %w", path, err)
	}
	return out, errors.Join(err, f.Close())
}

func readAnchors(r io.Reader) ([]Anchor, error) {
	var out []Anchor
	in := bufio.NewReaderSize(r, maxAnchorLine)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		whole := err == nil
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return out, fmt.Errorf("line %d is too long for an anchor", n)
		case err != nil && !errors.Is(err, io.EOF):
			return out, err
		}
		line = bytes.TrimRight(line, "\r\n")
		text, _, _ := strings.Cut(string(line), " ")
		a, perr := ParseAnchor(text)
		switch {
		case perr == nil:
			out = append(out, a)
		case whole && len(line) > 0 && !isTorn(text):
			return out, fmt.Errorf("line %d: %w", n, perr)
		}
		if !whole {
			return out, nil
		}
	}
}

// isTorn reports whether the text could be the beginning of an anchor that a crash cut short.
func isTorn(text string) bool {
	seq, digits, _ := strings.Cut(text, ":")
	return strings.Trim(seq, "0123456789") == "" && len(digits) < 2*32 && strings.Trim(digits, "0123456789abcdef") == ""
}
