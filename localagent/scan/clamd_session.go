package scan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	// maxReply bounds an answer: a target, a name and a word.
	maxReply = 4 << 10
	// streamChunk is how much of a file goes out at once; clamd takes chunks of any length.
	streamChunk = 64 << 10
)

// errSilent says that a connection ended before the first byte of an answer.
var errSilent = errors.New("clamd closed the connection without an answer")

// session is an IDSESSION of clamd: one connection, questions one after the other, numbered from 1.
type session struct {
	conn  net.Conn
	asked uint64
	reply [maxReply]byte
	chunk []byte
}

func newSession(conn net.Conn) (*session, error) {
	if _, err := conn.Write([]byte("zIDSESSION\x00")); err != nil {
		return nil, fmt.Errorf("begin session: %w", err)
	}
	return &session{conn: conn}, nil
}

func (s *session) close() { _ = s.conn.Close() }

// interrupt makes what waits on the connection return at once.
func (s *session) interrupt() { _ = s.conn.SetDeadline(time.Unix(1, 0)) }

// scan asks about one file; again says whether the session is still in step.
func (s *session) scan(f *os.File, size int64, local bool) (v Verdict, again bool, err error) {
	s.asked++
	if local {
		err = s.sendFile(f, size)
	} else {
		err = s.stream(f, size)
	}
	if err != nil {
		// clamd may have answered before it closed: a stream that is too long.
		if reply, readErr := readReply(s.conn, s.reply[:]); readErr == nil {
			v, parseErr := parseReply(reply, s.asked)
			return v, false, parseErr
		}
		return Verdict{}, false, fmt.Errorf("hand the file to clamd: %w", errors.Join(errSilent, err))
	}
	reply, err := readReply(s.conn, s.reply[:])
	if err != nil {
		return Verdict{}, false, fmt.Errorf("wait for clamd: %w", err)
	}
	v, err = parseReply(reply, s.asked)
	return v, !errors.Is(err, errReply) && !isLimit(reply), err
}

// stream sends size bytes of the file: chunks of a length (4 bytes, big-endian) and the data; a length of zero ends it.
func (s *session) stream(f *os.File, size int64) error {
	if s.chunk == nil {
		s.chunk = make([]byte, 4+streamChunk)
	}
	if _, err := s.conn.Write([]byte("zINSTREAM\x00")); err != nil {
		return err
	}
	in := io.NewSectionReader(f, 0, size)
	for {
		n, err := io.ReadFull(in, s.chunk[4:])
		binary.BigEndian.PutUint32(s.chunk, uint32(n)) //nolint:gosec // at most streamChunk
		if n > 0 {
			if _, err := s.conn.Write(s.chunk[:4+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_, err := s.conn.Write([]byte{0, 0, 0, 0})
			return err
		case err != nil:
			return fmt.Errorf("read: %w", bare(err))
		}
	}
}

// readReply reads up to the NUL that ends an answer. More than that, or more than buf holds, is no answer.
func readReply(r io.Reader, buf []byte) (string, error) {
	for n := 0; n < len(buf); {
		got, err := r.Read(buf[n:])
		end := bytes.IndexByte(buf[n:n+got], 0)
		switch {
		case end >= 0 && end < got-1:
			return "", fmt.Errorf("%w: two answers to one question", errReply)
		case end >= 0:
			return string(buf[:n+end]), nil
		}
		n += got
		switch {
		case err != nil && n == 0:
			return "", fmt.Errorf("%w: %w", errSilent, err)
		case err != nil:
			return "", fmt.Errorf("the connection broke in the middle: %w", err)
		}
	}
	return "", fmt.Errorf("%w: longer than %d bytes", errReply, len(buf))
}
