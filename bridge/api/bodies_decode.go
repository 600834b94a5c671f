package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/golang/snappy"
)

// The content encodings a source may declare.
const (
	encodingIdentity = "identity"
	encodingGzip     = "gzip"
	encodingSnappy   = "snappy"
)

// framedSnappy is what a stream in snappy's framing format begins with (google/snappy, framing_format.txt §4.1).
const framedSnappy = "\xff\x06\x00\x00sNaPpY"

var (
	errBodyTooLarge = errors.New("the body is too large")
	errEncoded      = errors.New("the body is not encoded as its Content-Encoding says")
	errEncoding     = errors.New("this Content-Encoding is not declared for the source")
	errCharset      = errors.New("the charset must be UTF-8")
)

// checkHeaders refuses a request whose headers name an encoding that is not declared, and returns the one it uses.
func checkHeaders(h http.Header, declared []string) (encoding string, err error) {
	if ct := h.Get("Content-Type"); strings.Contains(strings.ToLower(ct), "charset") {
		_, params, err := mime.ParseMediaType(ct)
		if cs := strings.ToLower(params["charset"]); err != nil || cs != "utf-8" && cs != "utf8" && cs != "us-ascii" {
			return "", errCharset
		}
	}
	names := h["Content-Encoding"]
	switch {
	case len(names) == 0:
		return "", nil
	case len(names) > 1:
		return "", errEncoding
	}
	name := strings.ToLower(strings.TrimSpace(names[0]))
	if name == "" || name == encodingIdentity {
		return encodingIdentity, nil
	}
	if name == "x-gzip" { // RFC 9110 §8.4.1.3
		name = encodingGzip
	}
	if !slices.Contains(declared, name) {
		return "", errEncoding
	}
	return name, nil
}

// decodeBody undoes a content encoding. The result has at most limit bytes, else the error is errBodyTooLarge; a body that does not
// decode is errEncoded. With no encoding named and snappy declared, a body that decodes is taken for it.
//
// Not documented: whether KUMA names its compression in a Content-Encoding, and whether it uses blocks or frames (support.kaspersky.com/kuma/3.2/en-US/232961);
// both are taken with and without the header.
func decodeBody(body []byte, encoding string, declared []string, limit int64) ([]byte, error) {
	switch encoding {
	case encodingGzip:
		return gunzip(body, limit)
	case encodingSnappy:
		return unsnap(body, limit)
	case "":
		if !slices.Contains(declared, encodingSnappy) {
			return body, nil
		}
		plain, err := unsnap(body, limit)
		if err == nil && len(plain) > 0 || errors.Is(err, errBodyTooLarge) && checkText(body) == nil {
			return plain, err
		}
		return body, nil // it is text: one that happens to decode does not exist in practice
	default:
		return body, nil
	}
}

func gunzip(body []byte, limit int64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEncoded, err)
	}
	return readLimited(r, len(body), limit)
}

func unsnap(body []byte, limit int64) ([]byte, error) {
	if bytes.HasPrefix(body, []byte(framedSnappy)) {
		return readLimited(snappy.NewReader(bytes.NewReader(body)), len(body), limit)
	}
	n, err := snappy.DecodedLen(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEncoded, err)
	}
	if int64(n) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes without its snappy encoding", errBodyTooLarge, limit)
	}
	// A block cannot say so much in so few bytes: its longest copy makes 64 bytes of three (format_description.txt §2.2.2).
	if n > 64*len(body) {
		return nil, fmt.Errorf("%w: %w", errEncoded, snappy.ErrCorrupt)
	}
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEncoded, err)
	}
	return plain, nil
}

// readLimited reads all, at most limit bytes. The buffer grows with what really comes.
func readLimited(r io.Reader, encoded int, limit int64) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(int(min(limit+bytes.MinRead, int64(2*encoded+bytes.MinRead))))
	n, err := out.ReadFrom(io.LimitReader(r, limit+1))
	if n > limit {
		return nil, fmt.Errorf("%w: more than %d bytes without its encoding", errBodyTooLarge, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEncoded, err)
	}
	return out.Bytes(), nil
}
