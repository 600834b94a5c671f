package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed request.
const (
	headerKey       = "X-Edr-Key"
	headerTimestamp = "X-Edr-Timestamp"
	headerNonce     = "X-Edr-Nonce"
	headerSignature = "X-Edr-Signature"
	headerHub       = "X-Hub-Signature-256"
)

const (
	signatureVersion = "v1"
	// signatureWindow is how far a timestamp may be from the bridge's clock, in seconds.
	signatureWindow = 300
)

// hmacCheck is HMACAuth at work.
type hmacCheck struct {
	ids    []string
	keys   []*authSecret
	nonces *authNonces
	now    func() time.Time
}

func newHMACCheck(a HMACAuth, now func() time.Time) (*hmacCheck, error) {
	c := &hmacCheck{now: now, nonces: newAuthNonces(now().Unix(), maxNonces)}
	var list []Secret
	for _, k := range a.Keys {
		if !plainWord(k.ID, 1, 64, "._-") {
			return nil, fmt.Errorf("hmac key id %q: want 1 to 64 of A-Z a-z 0-9 . _ -", k.ID)
		}
		if slices.Contains(c.ids, k.ID) {
			return nil, fmt.Errorf("hmac key id %s: two keys have it", k.ID)
		}
		c.ids = append(c.ids, k.ID)
		list = append(list, k.Secret)
	}
	var err error
	c.keys, err = newSecrets(list, minKey, "hmac keys", now)
	return c, err
}

// signed is what a request says about its signature.
type signed struct {
	key, nonce string
	timestamp  string
	at         int64
	sum        [sha256.Size]byte
}

func (c *hmacCheck) before(_ context.Context, r *http.Request) error {
	_, err := c.headers(r.Header)
	return err
}

// headers reads what can be judged without a key; no answer tells more than that something is wrong.
func (c *hmacCheck) headers(h http.Header) (s signed, err error) {
	for _, name := range []string{headerKey, headerTimestamp, headerNonce, headerSignature} {
		if len(h[name]) > 1 {
			return s, denied("a signature header comes twice")
		}
	}
	s.key, s.timestamp, s.nonce = h.Get(headerKey), h.Get(headerTimestamp), h.Get(headerNonce)
	if s.key != "" && !plainWord(s.key, 1, 64, "._-") {
		return s, denied("the key id is malformed")
	}
	if !plainWord(s.timestamp, 1, 12, "") {
		return s, denied("there is no timestamp")
	}
	if s.at, err = strconv.ParseInt(s.timestamp, 10, 64); err != nil {
		return s, denied("the timestamp is malformed")
	}
	if !plainWord(s.nonce, 16, 128, "._~+/=-") {
		return s, denied("the nonce is malformed")
	}
	version, digits, _ := strings.Cut(h.Get(headerSignature), "=")
	if version != signatureVersion || !parseSum(&s.sum, digits) {
		return s, denied("the signature is malformed")
	}
	return s, nil
}

func parseSum(sum *[sha256.Size]byte, digits string) bool {
	if len(digits) != 2*sha256.Size {
		return false
	}
	_, err := hex.Decode(sum[:], []byte(digits))
	return err == nil
}

// after checks the signature first: only who holds the key is told that its clock is wrong, or can fill the memory of nonces.
func (c *hmacCheck) after(ctx context.Context, r *http.Request, body []byte) (authTicket, error) {
	s, err := c.headers(r.Header)
	if err != nil {
		return authTicket{}, err
	}
	if err := c.verify(ctx, s, signedText(r, s, body)); err != nil {
		return authTicket{}, err
	}
	now := c.now().Unix()
	if d := s.at - now; d > signatureWindow || d < -signatureWindow {
		return authTicket{}, fmt.Errorf("%w: it is %d s off, at most %d s are allowed: set the clocks by NTP", errSkewed, d, signatureWindow)
	}
	sum := c.nonces.hash(s.nonce)
	switch c.nonces.use(s.at, now, sum) {
	case nonceFresh:
		return authTicket{c.nonces, s.at, sum}, nil
	case nonceUsed:
		return authTicket{}, errReplayed
	default:
		return authTicket{}, errTooEarly
	}
}

func (c *hmacCheck) verify(ctx context.Context, s signed, message []byte) error {
	keys := c.keys
	if s.key != "" {
		at := slices.Index(c.ids, s.key)
		if at < 0 {
			return denied("no key has this id")
		}
		keys = keys[at : at+1]
	}
	err := anySecret(ctx, keys, equalMAC(message, s.sum))
	if errors.Is(err, errDenied) {
		return denied("the signature does not fit")
	}
	return err
}

func equalMAC(message []byte, given [sha256.Size]byte) func(*secretValue) (int, error) {
	return func(v *secretValue) (int, error) {
		sum, err := v.sum(message)
		return subtle.ConstantTimeCompare(sum[:], given[:]), err
	}
}

// signedText is what the signature is over. No part but the target can hold a line break, and net/http refuses one there.
func signedText(r *http.Request, s signed, body []byte) []byte {
	sum := sha256.Sum256(body)
	b := make([]byte, 0, 384)
	for _, part := range []string{signatureVersion, r.Method, r.RequestURI, s.timestamp, s.nonce} {
		b = append(b, part...)
		b = append(b, '\n')
	}
	return hex.AppendEncode(b, sum[:])
}

// bodyHMACCheck is BodyHMACAuth at work.
type bodyHMACCheck struct {
	header string
	keys   []*authSecret
}

func newBodyHMACCheck(a BodyHMACAuth, now func() time.Time) (*bodyHMACCheck, error) {
	header := http.CanonicalHeaderKey(a.Header)
	if header == "" {
		header = headerHub
	}
	if !plainWord(header, 1, 64, "-") {
		return nil, fmt.Errorf("signature header %q: want a header's name", a.Header)
	}
	keys, err := newSecrets(a.Keys, minKey, "hmac keys", now)
	return &bodyHMACCheck{header, keys}, err
}

func (c *bodyHMACCheck) signature(h http.Header) (sum [sha256.Size]byte, err error) {
	values := h[c.header]
	if len(values) != 1 || !parseSum(&sum, strings.TrimPrefix(values[0], "sha256=")) {
		return sum, denied("the signature is missing or malformed")
	}
	return sum, nil
}

func (c *bodyHMACCheck) before(_ context.Context, r *http.Request) error {
	_, err := c.signature(r.Header)
	return err
}

func (c *bodyHMACCheck) after(ctx context.Context, r *http.Request, body []byte) (authTicket, error) {
	sum, err := c.signature(r.Header)
	if err != nil {
		return authTicket{}, err
	}
	err = anySecret(ctx, c.keys, equalMAC(body, sum))
	if errors.Is(err, errDenied) {
		err = denied("the signature does not fit")
	}
	return authTicket{}, err
}
