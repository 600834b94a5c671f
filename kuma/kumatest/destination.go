package kumatest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"hash/crc32"
	"math"
	"net/http"
)

// Framing is how a destination packs events into one body. KUMA is documented to send batches with a delimiter; the
// other forms are what receivers must not break on.
type Framing string

// The framings.
const (
	Lines        Framing = "lines"        // one document a line; CEF lines too
	Array        Framing = "array"        // one JSON array
	Concatenated Framing = "concatenated" // objects without a separator
)

// Compression is how the body is packed after that. Which of the two forms of snappy KUMA sends is not documented.
type Compression string

// The compressions.
const (
	Plain        Compression = ""
	SnappyBlock  Compression = "snappy-block"
	SnappyFramed Compression = "snappy-framed"
)

// Destination plays a destination of type http of a correlator.
type Destination struct {
	// URL is the full address of the receiver.
	URL string
	// User and Password are the secret of type Plain; "" = none. Header is added to every request.
	User, Password string
	Header         http.Header
	Framing        Framing
	Compression    Compression
	TLS            *tls.Config
}

// Post sends a batch of documents (JSON objects or CEF lines).
func (d Destination) Post(ctx context.Context, docs ...[]byte) (Reply, error) {
	header := d.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if d.User != "" {
		req := http.Request{Header: header}
		req.SetBasicAuth(d.User, d.Password)
	}
	return post(ctx, d.TLS, http.MethodPost, d.URL, header, d.Body(docs...))
}

// Body returns the bytes Post sends.
func (d Destination) Body(docs ...[]byte) []byte {
	var body []byte
	switch d.Framing {
	case Array:
		body = append(append([]byte{'['}, bytes.Join(docs, []byte{','})...), ']')
	case Concatenated:
		body = bytes.Join(docs, nil)
	case Lines:
		fallthrough
	default:
		body = append(bytes.Join(docs, []byte{'\n'}), '\n')
	}
	switch d.Compression {
	case SnappyBlock:
		return snappyBlock(body)
	case SnappyFramed:
		return snappyFramed(body)
	case Plain:
		return body
	default:
		return body
	}
}

// snappyBlock writes the block format with literals only (google/snappy format_description.txt).
func snappyBlock(b []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(len(b)))
	for len(b) > 0 {
		n := min(len(b), math.MaxUint16+1)
		out = append(out, 61<<2) // a literal whose length stands in two bytes
		out = binary.LittleEndian.AppendUint16(out, uint16(n-1))
		out = append(out, b[:n]...)
		b = b[n:]
	}
	return out
}

// snappyFramed writes the framing format with uncompressed chunks (google/snappy framing_format.txt).
func snappyFramed(b []byte) []byte {
	out := []byte("\xff\x06\x00\x00sNaPpY")
	for len(b) > 0 {
		n := min(len(b), 1<<16)
		sum := crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli))
		sum = (sum>>15 | sum<<17) + 0xa282ead8
		out = binary.LittleEndian.AppendUint32(out, uint32(n+crc32.Size)<<8|1) // the type of chunk and three bytes of length
		out = binary.LittleEndian.AppendUint32(out, sum)
		out = append(out, b[:n]...)
		b = b[n:]
	}
	return out
}
