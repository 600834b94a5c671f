package secrets

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a value that is never printed: fmt, log/slog and the text encoders show [redacted]. Copies share the same
// memory. It cannot be compared with == and is opaque to reflection. The zero value is an empty secret.
type Secret struct {
	// A closure, because fmt and dumpers follow pointers and unexported fields by reflection but not functions.
	box func() *[]byte
}

// NewSecret wraps value, which belongs to the secret from then on.
func NewSecret(value []byte) Secret {
	return Secret{box: func() *[]byte { return &value }}
}

// Reveal returns the value itself, not a copy: it must not be changed or kept beyond Zero. An empty secret is nil.
func (s Secret) Reveal() []byte {
	if s.box == nil {
		return nil
	}
	return *s.box()
}

// Empty reports whether there is no value, or none any more.
func (s Secret) Empty() bool { return len(s.Reveal()) == 0 }

// Zero overwrites the value in memory, for all copies of the secret. It must not run beside a use of Reveal's result.
func (s Secret) Zero() {
	if s.box == nil {
		return
	}
	p := s.box()
	clear(*p)
	*p = nil
}

// String returns [redacted].
func (Secret) String() string { return redacted }

// GoString returns [redacted].
func (Secret) GoString() string { return redacted }

// Format writes [redacted] for every verb.
func (Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted) // a fmt.State has nobody to report an error to
}

// LogValue returns [redacted].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns [redacted].
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalYAML returns [redacted].
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// GobEncode returns [redacted].
func (Secret) GobEncode() ([]byte, error) { return []byte(redacted), nil }
