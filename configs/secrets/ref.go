package secrets

import (
	"errors"
	"strings"
)

const (
	refScheme  = "secret:"
	maxRefName = 128
)

// Ref names a secret: one to eight parts of lower-case letters, digits, dots, dashes and underscores, joined by
// slashes, at most 128 bytes, each part beginning with a letter or digit ("ksc/password").
type Ref string

var errBadRef = errors.New("a secret is named like secret:ksc/password: parts of a-z, 0-9, dot, dash and underscore, " +
	"joined by slashes, each beginning with a letter or digit")

// ParseRef reads "secret:ksc/password". The error never repeats s, which may be a password put in the wrong place.
func ParseRef(s string) (Ref, error) {
	name, ok := strings.CutPrefix(s, refScheme)
	if !ok {
		return "", errBadRef
	}
	return NewRef(name)
}

// NewRef reads the name without the scheme: "ksc/password".
func NewRef(name string) (Ref, error) {
	parts := strings.Split(name, "/")
	if len(name) > maxRefName || len(parts) > 8 {
		return "", errBadRef
	}
	for _, part := range parts {
		if part == "" || !isAlnum(part[0]) {
			return "", errBadRef
		}
		for i := range len(part) {
			if c := part[i]; !isAlnum(c) && c != '.' && c != '-' && c != '_' {
				return "", errBadRef
			}
		}
	}
	return Ref(name), nil
}

// String returns the reference as it stands in the settings.
func (r Ref) String() string { return refScheme + string(r) }

// Credential returns the name of the systemd credential that holds the secret: slashes become dashes, so
// secret:ksc/password is LoadCredential=ksc-password:… (systemd.exec(5)). Two references that differ only in a slash
// and a dash share a credential.
func (r Ref) Credential() string { return strings.ReplaceAll(string(r), "/", "-") }

func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
