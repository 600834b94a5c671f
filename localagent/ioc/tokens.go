package ioc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxToken bounds one tag, text or comment in bytes; it bounds the number of attributes of an element with it.
const maxToken = 256 << 10

// tokens hands the bytes of a document to the XML decoder and ends when one token takes too many: the decoder
// builds a token whole before anybody sees it.
type tokens struct {
	r    *bufio.Reader
	left int
}

func newTokens(r io.Reader) *tokens { return &tokens{r: bufio.NewReaderSize(r, 32<<10)} }

// next begins a token.
func (t *tokens) next() { t.left = maxToken }

// ReadByte makes the decoder read byte by byte, with nothing read ahead.
func (t *tokens) ReadByte() (byte, error) {
	if t.left == 0 {
		return 0, fmt.Errorf("has a tag or text of more than %d bytes", maxToken)
	}
	t.left--
	return t.r.ReadByte()
}

// Read is never called while there is ReadByte, but the decoder asks for an io.Reader.
func (t *tokens) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := t.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// start skips the UTF-8 byte order mark and refuses the UTF-16 ones.
func (t *tokens) start() error {
	head, err := t.r.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		_, err := t.r.Discard(3)
		return err
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")), bytes.IndexByte(head, 0) >= 0:
		return errNotUTF8
	}
	return nil
}
