package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"time"
)

// maxCredential is how many bytes of a token or password are looked at.
const maxCredential = 4 << 10

// bearerCheck is BearerAuth at work.
type bearerCheck struct{ tokens []*authSecret }

func newBearerCheck(a BearerAuth, now func() time.Time) (*bearerCheck, error) {
	tokens, err := newSecrets(a.Tokens, minKey, "bearer tokens", now)
	return &bearerCheck{tokens}, err
}

func (c *bearerCheck) before(ctx context.Context, r *http.Request) error {
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return denied("there is not one Authorization header")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxCredential {
		return denied("there is no bearer token")
	}
	err := anySecret(ctx, c.tokens, equalSecret(sha256.Sum256([]byte(token))))
	if errors.Is(err, errDenied) {
		return denied("the token does not fit")
	}
	return err
}

func (c *bearerCheck) after(context.Context, *http.Request, []byte) (authTicket, error) {
	return authTicket{}, nil
}

// basicCheck is BasicAuth at work.
type basicCheck struct {
	user      [sha256.Size]byte
	passwords []*authSecret
}

func newBasicCheck(a BasicAuth, now func() time.Time) (*basicCheck, error) {
	if a.User == "" || strings.Contains(a.User, ":") { // RFC 7617 §2
		return nil, errors.New("basic user: required, without a colon")
	}
	passwords, err := newSecrets(a.Passwords, minPassword, "basic passwords", now)
	return &basicCheck{sha256.Sum256([]byte(a.User)), passwords}, err
}

func (c *basicCheck) before(ctx context.Context, r *http.Request) error {
	user, password, ok := r.BasicAuth()
	if !ok || len(r.Header["Authorization"]) != 1 || len(password) > maxCredential {
		return denied("there are no user and password")
	}
	given := sha256.Sum256([]byte(user))
	known := subtle.ConstantTimeCompare(given[:], c.user[:])
	fits := equalSecret(sha256.Sum256([]byte(password)))
	err := anySecret(ctx, c.passwords, func(v *secretValue) (int, error) {
		is, err := fits(v)
		return is & known, err
	})
	if errors.Is(err, errDenied) {
		return denied("user or password do not fit")
	}
	return err
}

func (c *basicCheck) after(context.Context, *http.Request, []byte) (authTicket, error) {
	return authTicket{}, nil
}
