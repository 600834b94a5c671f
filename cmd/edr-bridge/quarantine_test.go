package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/localagent/vault"
)

func TestWhatPeopleDoToQuarantinedFilesIsRecordedBeforeAndAfter(t *testing.T) {
	t.Parallel()
	it := vault.Item{ID: "1", Path: "/bad", SHA256: "2"}
	var said []string
	var refuse error
	r := &vaultRecord{write: func(ctx context.Context, _, text string) error {
		if err := errors.Join(refuse, ctx.Err()); err != nil {
			return err
		}
		said = append(said, text)
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	err := r.act(ctx, "restore", "restored", it, "", func() (string, error) {
		said = append(said, "the act")
		cancel() // Ctrl-C between the act and its record
		return "/bad", nil
	})
	if got, want := strings.Join(said, "; "), "about to restore 1: /bad, sha256 2; the act; restored 1: /bad, sha256 2, at /bad"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	said = nil
	failed := errors.New("the name is taken")
	if err := r.act(t.Context(), "restore", "restored", it, "", func() (string, error) { return "", failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if got, want := strings.Join(said, "; "), "about to restore 1: /bad, sha256 2; not restored 1: /bad, sha256 2: the name is taken"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	refuse = errors.New("disk full")
	if err := r.act(t.Context(), "drop", "dropped", it, "", func() (string, error) {
		t.Error("it was done although it cannot be recorded")
		return "", nil
	}); !errors.Is(err, refuse) {
		t.Errorf("got %v", err)
	}
}
