package ksc

import (
	"bytes"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	redacted   = "[redacted]"
	maxExcerpt = 4 << 10 // bytes of a server's answer that are kept
	maxName    = 256     // bytes of a name a server gave
	maxSecret  = 4 << 10
)

// secret is a text that no formatting verb, JSON or log prints.
type secret string

// String returns a placeholder, and so do the other methods.
func (secret) String() string { return redacted }

// GoString covers %#v.
func (secret) GoString() string { return redacted }

// LogValue covers slog.
func (secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText covers JSON and slog's text output.
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// secretShapes are credentials by their look, for servers and proxies that echo a request we do not remember:
// authorization headers, password fields, and session ids ("n" and base64 of 16 bytes).
var secretShapes = regexp.MustCompile(`(?i:\bKSC(?:Basic|T|WT|NT|GW|MFA)\s[^\r\n]*|\bpass(?:word|wd)?["']?\s*[=:]\s*["']?[^\s"',;]+|\bX-KSC-Session["']?\s*[:=]\s*["']?[^\s"',;]+)|\bn[A-Za-z0-9+/]{22}==`)

// excerpt makes text from outside fit to stand in errors and logs: at most limit bytes, one line, valid UTF-8, without
// credentials. What is given in secrets is taken out literally, in the forms a server may echo it.
func excerpt(text []byte, limit int, secrets ...secret) string {
	cut := len(text) > limit+maxSecret
	if cut {
		text = text[:limit+maxSecret]
	}
	s := strings.ToValidUTF8(string(text), "\uFFFD")
	for _, hidden := range secrets {
		s = hidden.removeFrom(s)
	}
	s = secretShapes.ReplaceAllString(s, redacted)
	if cut {
		// The last bytes may be the first part of a secret that was cut in two.
		s = s[:max(0, len(s)-maxSecret)]
	}
	s = strings.TrimSpace(strings.Map(visible, s))
	if len(s) > limit {
		s = s[:limit]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return s
}

// removeFrom takes out the secret as it is, URL-escaped, and with the escapes JSON writers choose.
func (hidden secret) removeFrom(s string) string {
	plain := string(hidden)
	if plain == "" {
		return s
	}
	for _, form := range []string{
		plain, url.QueryEscape(plain), strings.ReplaceAll(plain, "/", `\/`),
		strings.NewReplacer("+", `\u002b`, "=", `\u003d`, "&", `\u0026`, "<", `\u003c`, ">", `\u003e`).Replace(plain),
	} {
		s = strings.ReplaceAll(s, form, redacted)
	}
	return s
}

// visible turns control characters into blanks and drops what rearranges text on a terminal.
func visible(r rune) rune {
	switch {
	case unicode.IsControl(r), r == '\u2028', r == '\u2029':
		return ' '
	case unicode.Is(unicode.Cf, r):
		return -1
	default:
		return r
	}
}

// wipe overwrites a password after use.
func wipe(b []byte) { clear(b) }

func isBlank(b []byte) bool { return len(bytes.TrimSpace(b)) == 0 }
