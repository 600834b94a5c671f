package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	secretFresh   = 45 * time.Second // until then nobody asks again
	secretTimeout = 5 * time.Second
	secretPause   = time.Second // between two attempts that fail
	secretMaxAge  = time.Minute
)

// authSecret is one secret with what is derived from it, kept for at most a minute.
type authSecret struct {
	get   Secret
	least int // bytes
	now   func() time.Time

	value atomic.Pointer[secretValue]

	mu     sync.Mutex // guards failed and err; held while the secret is asked for
	failed time.Time
	err    error
}

// secretValue is what a secret was at a moment.
type secretValue struct {
	at     time.Time
	digest [sha256.Size]byte
	macs   sync.Pool // of hash.Hash keyed with the secret
}

func newSecrets(list []Secret, least int, what string, now func() time.Time) ([]*authSecret, error) {
	if len(list) == 0 || len(list) > maxKeys {
		return nil, fmt.Errorf("%s: one or %d are needed", what, maxKeys)
	}
	var out []*authSecret
	for _, get := range list {
		if get == nil {
			return nil, fmt.Errorf("%s: required", what)
		}
		out = append(out, &authSecret{get: get, least: least, now: now})
	}
	return out, nil
}

// load returns the secret. While one request asks for it anew the others go on with the one they have, for as long as a minute
// allows; after that they wait.
func (s *authSecret) load(ctx context.Context) (*secretValue, error) {
	v := s.value.Load()
	age := s.age(v)
	switch {
	case age < secretFresh:
		return v, nil
	case age >= secretMaxAge:
		s.mu.Lock()
	case !s.mu.TryLock():
		return v, nil
	}
	defer s.mu.Unlock()
	if v = s.value.Load(); s.age(v) < secretFresh {
		return v, nil
	}
	now := s.now()
	if since := now.Sub(s.failed); s.err == nil || since < 0 || since >= secretPause {
		fresh, err := s.ask(ctx)
		s.failed, s.err = now, err
		if err == nil {
			s.value.Store(fresh)
			return fresh, nil
		}
	}
	if s.age(v) < secretMaxAge {
		return v, nil
	}
	return nil, s.err
}

// age is how old a value is; one from the future counts as too old, because then the clock was set.
func (s *authSecret) age(v *secretValue) time.Duration {
	if v == nil {
		return secretMaxAge
	}
	age := s.now().Sub(v.at)
	if age < 0 {
		return secretMaxAge
	}
	return age
}

// ask does not end with the request: a peer that leaves must not make the next one wait.
func (s *authSecret) ask(ctx context.Context) (*secretValue, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), secretTimeout)
	defer cancel()
	at := s.now()
	secret, err := s.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoSecret, err)
	}
	if len(secret) < s.least {
		return nil, fmt.Errorf("%w: it is shorter than %d bytes", errNoSecret, s.least)
	}
	key := append([]byte(nil), secret...)
	v := &secretValue{at: at, digest: sha256.Sum256(key)}
	v.macs.New = func() any { return hmac.New(sha256.New, key) }
	return v, nil
}

// sum returns the HMAC-SHA256 of message.
func (v *secretValue) sum(message []byte) (out [sha256.Size]byte, err error) {
	mac, ok := v.macs.Get().(hash.Hash)
	if !ok {
		return out, errors.New("no hash to sign with")
	}
	mac.Reset()
	mac.Write(message)
	mac.Sum(out[:0])
	v.macs.Put(mac)
	return out, nil
}

// anySecret reports whether equal holds for one of the secrets. All are looked at, so that the time does not tell which. When one
// cannot be read and no other fits, that is the error.
func anySecret(ctx context.Context, list []*authSecret, equal func(*secretValue) (int, error)) error {
	found := 0
	var failed error
	for _, s := range list {
		v, err := s.load(ctx)
		if err == nil {
			var is int
			is, err = equal(v)
			found |= is
		}
		if err != nil {
			failed = err
		}
	}
	switch {
	case found == 1:
		return nil
	case failed != nil:
		return failed
	default:
		return errDenied
	}
}

// equalSecret is 1 when given is the secret. Only digests are compared, which have one length.
func equalSecret(given [sha256.Size]byte) func(*secretValue) (int, error) {
	return func(v *secretValue) (int, error) { return subtle.ConstantTimeCompare(given[:], v.digest[:]), nil }
}
