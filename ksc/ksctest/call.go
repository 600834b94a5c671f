package ksctest

import (
	"errors"
	"io"
	"net/http"
	"strconv"
)

const (
	maxBody    = 16 << 20 // bytes of a request; more is 413
	keepBuffer = 64 << 10 // larger buffers are not pooled
)

// call is one request on its way through a method.
type call struct {
	request *http.Request
	route   *route
	conn    *conn
	session *session
	args    args
	// out is the answer's body while it grows; empty means {}.
	out []byte
	// room is memory that later calls reuse.
	room struct {
		body []byte
		args [16]arg
	}
}

// readBody reads the whole body and returns the status to refuse with, or 0.
func (c *call) readBody() int {
	r := c.request
	if r.ContentLength == 0 {
		return 0
	}
	if r.ContentLength > maxBody {
		return http.StatusRequestEntityTooLarge
	}
	body := c.room.body[:0]
	if n := int(r.ContentLength); n > 0 && n >= cap(body) {
		body = make([]byte, 0, n+1)
	}
	for {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		c.room.body = body
		switch {
		case errors.Is(err, io.EOF):
			return 0
		case err != nil:
			return http.StatusBadRequest
		case len(body) > maxBody:
			return http.StatusRequestEntityTooLarge
		}
	}
}

// recycle forgets the request and keeps its memory for a later one.
func (s *Server) recycle(c *call) {
	body, out := c.room.body, c.out
	*c = call{}
	if cap(body) <= keepBuffer {
		c.room.body = body[:0]
	}
	if cap(out) <= keepBuffer {
		c.out = out[:0]
	}
	s.calls.Put(c)
}

// header returns the first value of a header given in canonical form.
func (c *call) header(name string) string {
	if v := c.request.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// result sets {"PxgRetVal":v} and further out-parameters. Params given as such are written bare.
func (c *call) result(v any, more ...member) {
	c.out = append(c.out[:0], `{"PxgRetVal":`...)
	c.out = appendBareValue(c.out, v)
	c.outs(more)
}

// outParams sets out-parameters without a return value.
func (c *call) outParams(first member, more ...member) {
	c.out = append(c.out[:0], '{')
	c.out = appendString(c.out, first.name)
	c.out = append(c.out, ':')
	c.out = appendBareValue(c.out, first.value)
	c.outs(more)
}

func (c *call) outs(more []member) {
	for _, m := range more {
		c.out = append(c.out, ',')
		c.out = appendString(c.out, m.name)
		c.out = append(c.out, ':')
		c.out = appendBareValue(c.out, m.value)
	}
	c.out = append(c.out, '}')
}

func appendBareValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case params:
		return v.appendBare(dst)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	default:
		return appendValue(dst, v)
	}
}
