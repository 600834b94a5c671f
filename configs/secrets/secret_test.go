package secrets

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type holder struct {
	Name   string
	Secret Secret
	hidden Secret
	List   []Secret
	Map    map[string]Secret
	Ptr    *Secret
}

func TestA10SecretIsPrintedByNothing(t *testing.T) {
	t.Parallel()
	s := NewSecret([]byte(canary))
	h := holder{Name: "x", Secret: s, hidden: s, List: []Secret{s}, Map: map[string]Secret{"k": s}, Ptr: &s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%t", "%c", "%U", "%w"} {
		for _, v := range []any{s, &s, h, &h, []any{s, h}, h.List, h.Map, map[string]any{"a": h}, fmt.Errorf("e: %v", s)} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, handler := range []slog.Handler{
		slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}), slog.NewJSONHandler(&out, nil),
	} {
		log := slog.New(handler)
		log.Info("m", "s", s, "p", &s, "h", h, "hp", &h, "err", fmt.Errorf("login with %v", s))
		log.With("s", s).WithGroup("g").Info("m", "list", h.List)
	}
	for _, v := range []any{s, &s, h, &h, h.Map} {
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		} else {
			t.Error(err)
		}
		if b, err := yaml.Marshal(v); err == nil {
			out.Write(b)
		} else {
			t.Error(err)
		}
		b, err := xml.Marshal(v)
		out.Write(b)
		fmt.Fprint(&out, err, gob.NewEncoder(&out).Encode(v))
	}
	fmt.Fprintln(&out, reflect.ValueOf(h).FieldByName("hidden"), errors.Join(fmt.Errorf("%s", s)), s.String(), s.GoString())
	numbers := strings.Trim(fmt.Sprintf("%d", []byte(canary)), "[]")
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), "Y2FuYXJ5", numbers} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret got out as %q", form)
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("nothing was printed")
	}
	if reflect.TypeFor[Secret]().Comparable() {
		t.Error("secrets can be compared")
	}
}

func TestZeroOverwritesAllCopies(t *testing.T) {
	t.Parallel()
	raw := []byte(canary)
	s := NewSecret(raw)
	same := s
	if string(same.Reveal()) != canary || same.Empty() {
		t.Error("lost before Zero")
	}
	s.Zero()
	if !same.Empty() || bytes.ContainsAny(raw, canary) {
		t.Errorf("still there: %q", raw)
	}
	s.Zero()
	var none Secret
	none.Zero()
	if !none.Empty() || none.Reveal() != nil || none.String() != redacted {
		t.Error("the zero secret is not empty")
	}
}

func TestParseRefTakesOnlySafeNames(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"secret:ksc/password": "ksc-password", "secret:a": "a", "secret:redis.main/user_1-b": "redis.main-user_1-b",
	}
	for in, cred := range good {
		ref, err := ParseRef(in)
		if err != nil || ref.String() != in || ref.Credential() != cred {
			t.Errorf("%s: %q %q %v", in, ref, ref.Credential(), err)
		}
	}
	for _, in := range []string{
		"", "secret:", "ksc/password", "secret:/a", "secret:a/", "secret:a//b", "secret:..", "secret:a/../b", "secret:.a", "secret:A",
		"secret:a b", "secret:a%2Fb", "secret:a\\b", "secret:a\x00", "secret:пароль", "Secret:a", "secret:" + strings.Repeat("a", 129),
		"secret:a/b/c/d/e/f/g/h/i", canary, "secret:" + canary + "!",
	} {
		if _, err := ParseRef(in); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
