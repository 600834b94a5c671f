package ksc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The wrappers below are the typed values of OpenAPI: strings, 32-bit numbers, booleans and arrays stand bare, these
// four stand as {"type":…,"value":…} inside params and arrays. A params object that is itself an argument, an
// out-parameter or PxgRetVal stands bare.
// (support.kaspersky.com/help/KSC/15.1/KSCAPI/index.html, "Types"; observed: Params.py of KlAkOAPI 15.1.)

// layout is the only form the vendor's client reads back: UTC, whole seconds.
const layout = "2006-01-02T15:04:05Z"

// DateTime is a moment, sent as UTC with its fraction cut off: {"type":"datetime","value":"2026-11-20T17:06:56Z"}.
// The empty text, legal in answers, is the zero time.
type DateTime struct{ time.Time }

// MarshalJSON writes the wrapped form.
func (t DateTime) MarshalJSON() ([]byte, error) {
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return nil, fmt.Errorf("datetime: year %d cannot be written", y)
	}
	b := make([]byte, 0, 64)
	b = append(b, `{"type":"datetime","value":"`...)
	b = t.UTC().AppendFormat(b, layout)
	return append(b, `"}`...), nil
}

// UnmarshalJSON reads the wrapped form; a fraction or an offset is taken too.
func (t *DateTime) UnmarshalJSON(data []byte) error {
	value, err := unwrap(data, "datetime")
	if err != nil {
		return err
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return fmt.Errorf("datetime: %w", err)
	}
	if text == "" {
		*t = DateTime{}
		return nil
	}
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return errors.New("datetime: not a date and time")
	}
	t.Time = parsed.UTC()
	return nil
}

// Long is a 64-bit number: {"type":"long","value":123}.
type Long int64

// MarshalJSON writes the wrapped form.
func (n Long) MarshalJSON() ([]byte, error) {
	return append(strconv.AppendInt([]byte(`{"type":"long","value":`), int64(n), 10), '}'), nil
}

// UnmarshalJSON reads the wrapped form with a number or its text as value, or a bare number.
func (n *Long) UnmarshalJSON(data []byte) error {
	value := json.RawMessage(data)
	if bytes.HasPrefix(data, []byte("{")) {
		inner, err := unwrap(data, "long")
		if err != nil {
			return err
		}
		value = inner
	}
	parsed, err := strconv.ParseInt(wireText(value), 10, 64)
	if err != nil {
		return errors.New("long: not a whole number")
	}
	*n = Long(parsed)
	return nil
}

// Binary is bytes: {"type":"binary","value":"<base64>"}.
type Binary []byte

// MarshalJSON writes the wrapped form.
func (b Binary) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type  string `json:"type"`
		Value []byte `json:"value"`
	}{"binary", append([]byte{}, b...)})
}

// UnmarshalJSON reads the wrapped form.
func (b *Binary) UnmarshalJSON(data []byte) error {
	value, err := unwrap(data, "binary")
	if err != nil {
		return err
	}
	var raw []byte
	if err := json.Unmarshal(value, &raw); err != nil {
		return errors.New("binary: not base64")
	}
	*b = raw
	return nil
}

// Params is a params object inside params or an array: {"type":"params","value":{…}}.
type Params[T any] struct{ Value T }

// MarshalJSON writes the wrapped form.
func (p Params[T]) MarshalJSON() ([]byte, error) {
	return encode(struct {
		Type  string `json:"type"`
		Value T      `json:"value"`
	}{"params", p.Value})
}

// UnmarshalJSON reads the wrapped form, or a bare object.
func (p *Params[T]) UnmarshalJSON(data []byte) error {
	if value, err := unwrap(data, "params"); err == nil {
		data = value
	}
	return json.Unmarshal(data, &p.Value)
}

// unwrap returns the value of a wrapper of the given type.
func unwrap(data []byte, want string) (json.RawMessage, error) {
	var w struct {
		Type  string          `json:"type"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(data, &w); err != nil || w.Type != want || w.Value == nil {
		return nil, errors.New(want + `: not {"type":"` + want + `","value":…}`)
	}
	return w.Value, nil
}

// encode writes v as every request is written: compact, with <, > and & as they are.
func encode(v any) ([]byte, error) {
	var e encoder
	e.init()
	if err := e.json.Encode(v); err != nil {
		return nil, err
	}
	return e.bytes(), nil
}

// encoder is a buffer with the JSON encoder that writes to it, so that both can be used again.
type encoder struct {
	buf  bytes.Buffer
	json *json.Encoder
}

func (e *encoder) init() {
	e.json = json.NewEncoder(&e.buf)
	e.json.SetEscapeHTML(false)
}

// bytes returns what was encoded without the line end; they are good until the next use.
func (e *encoder) bytes() []byte { return bytes.TrimSuffix(e.buf.Bytes(), []byte("\n")) }
