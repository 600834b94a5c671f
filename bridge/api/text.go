package api

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// text crosses the wire byte for byte: as a JSON string, or as {"base64":"…"} where it holds what a JSON string cannot carry
// or what strict readers refuse (bytes that are no UTF-8, NUL). Alerts may put both anywhere.
type text string

type rawText struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t text) MarshalJSON() ([]byte, error) {
	if !utf8.ValidString(string(t)) || strings.ContainsRune(string(t), 0) {
		return json.Marshal(rawText{[]byte(t)})
	}
	return json.Marshal(string(t))
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(doc []byte) error {
	if !bytes.HasPrefix(doc, []byte("{")) {
		return json.Unmarshal(doc, (*string)(t))
	}
	var raw rawText
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	*t = text(raw.Base64)
	return nil
}

func texts(list []string) []text {
	var out []text
	for _, s := range list {
		out = append(out, text(s))
	}
	return out
}

func stringsOf(list []text) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

// period is a duration as "4h0m0s".
type period time.Duration

// MarshalText implements encoding.TextMarshaler.
func (p period) MarshalText() ([]byte, error) { return []byte(time.Duration(p).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *period) UnmarshalText(word []byte) error {
	d, err := time.ParseDuration(string(word))
	if err != nil {
		return err
	}
	*p = period(d)
	return nil
}

// digest is a hash as lower-case hex digits.
type digest []byte

// MarshalText implements encoding.TextMarshaler.
func (d digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *digest) UnmarshalText(word []byte) error {
	sum, err := hex.AppendDecode(nil, word)
	if err != nil {
		return fmt.Errorf("is no hex: %w", err)
	}
	if len(sum) == 0 {
		sum = nil
	}
	*d = sum
	return nil
}

// into copies a hash of fixed length; a missing one leaves zeros.
func (d digest) into(sum []byte) error {
	if len(d) == 0 {
		return nil
	}
	if len(d) != len(sum) {
		return errors.New("a hash has the wrong length")
	}
	copy(sum, d)
	return nil
}

// utc is the moment as it is written: in UTC, so that it reads back as the same time.Time.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}
