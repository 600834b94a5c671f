package syslog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// readAhead is how much of a stream is read at once, in bytes; an idle connection costs that much.
const readAhead = 4 << 10

// ErrFrame marks a stream whose framing is broken; it cannot be read on, because nobody knows where the next frame begins.
var ErrFrame = errors.New("broken frame")

// Frames yields the frames of a TCP stream of syslog messages (RFC 6587). A stream that begins with a digit from 1 to 9 counts octets
// (§3.4.1, "17 <13>…"), every other one ends its frames by a line break or NUL (§3.4.2); a carriage return before the line break
// belongs to the end, and empty frames are left out. Each frame has memory of its own.
//
// A frame longer than limit bytes, a broken count, or a stream that ends or fails inside a frame ends the frames with an error that
// wraps ErrFrame, and the error of r where there is one: the beginning of a message could name another path or host than the whole.
// A stream that ends between two frames ends them without an error; one that fails there ends them with the error of r alone.
// A limit below 1 is MaxMessage.
func Frames(r io.Reader, limit int) iter.Seq2[[]byte, error] {
	if limit < 1 {
		limit = MaxMessage
	}
	return func(yield func([]byte, error) bool) {
		// go-syslog's readers of both framings parse what they split and hand over a message or an error, never the bytes: what does
		// not parse could not become a dead letter. The one of §3.4.2 also takes a line without end for a whole one.
		s := splitter{r: bufio.NewReaderSize(r, readAhead), limit: limit}
		next := s.line
		first, err := s.r.Peek(1)
		if err == nil && '1' <= first[0] && first[0] <= '9' {
			next = s.counted
		}
		for {
			var frame []byte
			if err == nil {
				frame, err = next()
			}
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(nil, err)
				return
			case len(frame) > 0 && !yield(frame, nil):
				return
			}
		}
	}
}

type splitter struct {
	r     *bufio.Reader
	limit int
}

// counted reads "LENGTH SPACE MESSAGE". io.EOF says that the stream ended before the length.
func (s *splitter) counted() ([]byte, error) {
	size := 0
	for digits := 0; ; digits++ {
		c, err := s.r.ReadByte()
		switch {
		case err != nil:
			return nil, endInside(err, digits > 0)
		case c == ' ' && digits > 0:
			return s.message(size)
		case c < '0' || c > '9' || c == '0' && digits == 0:
			return nil, fmt.Errorf("%w: a message is not preceded by its length and a space", ErrFrame)
		}
		digit := int(c - '0')
		if size > (s.limit-digit)/10 || digit > s.limit {
			return nil, s.tooLong()
		}
		size = 10*size + digit
	}
}

// message reads size bytes, taking memory only as they come.
func (s *splitter) message(size int) ([]byte, error) {
	frame := make([]byte, 0, min(size, readAhead))
	for len(frame) < size {
		if len(frame) == cap(frame) {
			frame = append(make([]byte, 0, min(size, 2*cap(frame))), frame...)
		}
		n, err := s.r.Read(frame[len(frame):cap(frame)])
		frame = frame[:len(frame)+n]
		if err != nil && len(frame) < size {
			return nil, endInside(err, true)
		}
	}
	return frame, nil
}

// line reads up to a line break or NUL. io.EOF says that the stream ended before a frame began.
func (s *splitter) line() ([]byte, error) {
	var frame []byte
	for {
		if _, err := s.r.Peek(1); err != nil {
			return nil, endInside(err, len(frame) > 0)
		}
		part, _ := s.r.Peek(s.r.Buffered()) // what is buffered is always there
		end := bytes.IndexByte(part, '\n')
		if nul := bytes.IndexByte(part[:max(end, 0)], 0); nul >= 0 {
			end = nul
		} else if end < 0 {
			end = bytes.IndexByte(part, 0)
		}
		whole := end >= 0
		if !whole {
			end = len(part)
		}
		// One byte more than the limit may be the carriage return of the end.
		if len(frame)+end-1 > s.limit {
			return nil, s.tooLong()
		}
		frame = append(frame, part[:end]...)
		if !whole {
			_, _ = s.r.Discard(end)
			continue
		}
		if part[end] == '\n' {
			frame = bytes.TrimSuffix(frame, []byte{'\r'})
		}
		_, _ = s.r.Discard(end + 1)
		if len(frame) > s.limit {
			return nil, s.tooLong()
		}
		return frame, nil
	}
}

func (s *splitter) tooLong() error {
	return fmt.Errorf("%w: a message is longer than %d bytes", ErrFrame, s.limit)
}

// endInside is the error of a stream that ended or failed; begun says that a part of a frame was read.
func endInside(err error, begun bool) error {
	switch {
	case !begun:
		return err
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the stream ends inside a message", ErrFrame)
	default:
		return fmt.Errorf("%w: the stream fails inside a message: %w", ErrFrame, err)
	}
}
