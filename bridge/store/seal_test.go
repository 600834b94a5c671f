package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	testKey  = "a key of some length"
	otherKey = "another key, as long"
)

func TestHashCoversEveryField(t *testing.T) {
	t.Parallel()
	base := AuditRecord{Seq: 3, Time: time.Unix(1, 2).UTC(), What: "w", Keyed: false}
	seal := newSeal([]byte(testKey))
	seen := map[[32]byte]string{seal.sum(&base): "nothing"}
	for name, change := range map[string]func(r *AuditRecord){
		"Seq":          func(r *AuditRecord) { r.Seq++ },
		"Time":         func(r *AuditRecord) { r.Time = r.Time.Add(1) },
		"no time":      func(r *AuditRecord) { r.Time = time.Time{} },
		"1970":         func(r *AuditRecord) { r.Time = time.Unix(0, 0) },
		"What":         func(r *AuditRecord) { r.What = "x" },
		"Order":        func(r *AuditRecord) { r.Order = "x" },
		"From":         func(r *AuditRecord) { r.From = "x" },
		"To":           func(r *AuditRecord) { r.To = "x" },
		"Reason":       func(r *AuditRecord) { r.Reason = "x" },
		"Rule":         func(r *AuditRecord) { r.Rule = "x" },
		"Task":         func(r *AuditRecord) { r.Task = "x" },
		"Host":         func(r *AuditRecord) { r.Host = "x" },
		"Source":       func(r *AuditRecord) { r.Source = "x" },
		"Actor":        func(r *AuditRecord) { r.Actor = "x" },
		"Approver":     func(r *AuditRecord) { r.Approver = "x" },
		"Count":        func(r *AuditRecord) { r.Count = 1 },
		"Attempts":     func(r *AuditRecord) { r.Attempts = 1 },
		"Ref":          func(r *AuditRecord) { r.Ref = "x" },
		"Detail":       func(r *AuditRecord) { r.Detail = "x" },
		"Alert":        func(r *AuditRecord) { r.Alert = []byte("x") },
		"Payload":      func(r *AuditRecord) { r.Payload = []byte("x") },
		"Policy":       func(r *AuditRecord) { r.Policy = []byte("x") },
		"Keyed":        func(r *AuditRecord) { r.Keyed = true },
		"Prev":         func(r *AuditRecord) { r.Prev[31] = 1 },
		"moved fields": func(r *AuditRecord) { r.What, r.Order = "", "w" },
	} {
		r := base
		change(&r)
		sum := seal.sum(&r)
		if other, ok := seen[sum]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[sum] = name
	}
}

func TestKeyedChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(key string) (*Store, error) {
		cfg := Config{Dir: dir}
		if key != "" {
			cfg.AuditKey = keyOf([]byte(key))
		}
		return Open(t.Context(), cfg)
	}
	// The chain begins without a key and goes on with one.
	for i, key := range []string{"", testKey, testKey} {
		s, err := open(key)
		if err != nil {
			t.Fatal(err)
		}
		for k := range 3 {
			admitTest(t, s, numbered(t, 10*i+k))
		}
		if rep, err := s.VerifyAudit(t.Context(), nil); err != nil || rep.FirstBad != 0 || rep.Records != int64(3*i+3) {
			t.Errorf("life %d: %+v, %v", i, rep, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, key := range map[string]string{"no key": "", "another key": otherKey} {
		s, err := open(key)
		if !errors.Is(err, ErrNoKey) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "audit.key") {
			t.Errorf("%s: opened with %v, want ErrNoKey that names audit.key", name, err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
	s, err := open(testKey)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.key = auditKey(otherKey)
	if rep, err := s.VerifyAudit(t.Context(), nil); err != nil || rep.FirstBad != 4 || !strings.Contains(rep.Problem, "key") {
		t.Errorf("verified with another key: %+v, %v, want record 4 and a word about the key", rep, err)
	}
	s.key = nil
	if _, err := s.VerifyAudit(t.Context(), nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("verified without the key: %v, want ErrNoKey", err)
	}
	s.key = auditKey(testKey)
	// Somebody without the key goes on with the chain.
	recs, err := s.Audit(t.Context(), AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	forged := AuditRecord{Seq: 10, Time: time.Now(), What: bridge.NoteStart, Prev: recs[8].Hash}
	forged.Hash = newSeal(nil).sum(&forged)
	tamper(t, s, fmt.Sprintf(`INSERT INTO audit (seq, time, what, hash) VALUES (10, %d, 'start', x'%x')`, forged.Time.UnixNano(), forged.Hash))
	if rep, err := s.VerifyAudit(t.Context(), nil); err != nil || rep.FirstBad != 10 || !strings.Contains(rep.Problem, "not keyed any more") {
		t.Errorf("%+v, %v, want record 10: not keyed any more", rep, err)
	}
}

func TestStoreWithoutTheKeyStopsWhenAnotherProcessSealsTheChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain, keyed := openTest(t, Config{Dir: dir}), openTest(t, Config{Dir: dir, AuditKey: keyOf([]byte(testKey))})
	admitTest(t, plain, numbered(t, 1))
	admitTest(t, keyed, numbered(t, 2))
	if _, err := plain.Admit(t.Context(), bridge.Admission{Orders: []bridge.Order{numbered(t, 3)}}); !errors.Is(err, ErrNoKey) {
		t.Errorf("admitted with %v, want ErrNoKey", err)
	}
	if rep, err := keyed.VerifyAudit(t.Context(), nil); err != nil || rep.FirstBad != 0 || rep.Records != 2 {
		t.Errorf("%+v, %v, want 2 good records", rep, err)
	}
}

func TestOpenRefusesAKeyThatIsNone(t *testing.T) {
	t.Parallel()
	locked := errors.New("keyring is locked")
	for name, ask := range map[string]func(context.Context) ([]byte, error){
		"short": keyOf([]byte("0123456789abcde")),
		"none":  keyOf(nil),
		"error": func(context.Context) ([]byte, error) { return nil, locked },
	} {
		s, err := Open(t.Context(), Config{Dir: t.TempDir(), AuditKey: ask})
		if err == nil || !strings.Contains(err.Error(), "audit.key") || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("%s: opened with %v, want an error that names audit.key and not the key", name, err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
}

func TestKeyIsAskedForOnceAndNeverShown(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	asked := 0
	s := openTest(t, Config{
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		AuditKey: func(context.Context) ([]byte, error) {
			asked++
			return []byte(testKey), nil
		},
	})
	for i := range 5 {
		admitTest(t, s, numbered(t, i))
	}
	s.log.Info("store", "err", s.key)
	if text := fmt.Sprintf("%v %+v %#v %s", s.key, s.key, s.key, log.String()); asked != 1 || strings.Contains(text, testKey) {
		t.Errorf("asked %d times, shown %q", asked, text)
	}
}

func TestAdmissionNamesThePolicyInForce(t *testing.T) {
	t.Parallel()
	s := openTest(t, Config{PolicyDigest: []byte("0123456789abcdefXYZ")})
	o := admitTest(t, s, numbered(t, 1))[0]
	o.Approval, o.Attempts, o.Ref = bridge.Approval{By: "cli:bob"}, 2, "4711"
	moveTest(t, s, o, bridge.StateFailed)
	for _, what := range []string{bridge.NoteStart, bridge.NoteStop} {
		if err := s.Note(t.Context(), bridge.Note{What: what}); err != nil {
			t.Fatal(err)
		}
	}
	recs, err := s.Audit(t.Context(), AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range recs {
		got = append(got, fmt.Sprintf("%s %s %s %d %s", r.What, r.Policy, r.Approver, r.Attempts, r.Ref))
	}
	want := "admit 0123456789abcdef  0 ;move  cli:bob 2 4711;start 0123456789abcdef  0 ;stop   0 "
	if text := strings.Join(got, ";"); text != want {
		t.Errorf("records\n%s\nwant\n%s", text, want)
	}
	sound(t, s)
}
