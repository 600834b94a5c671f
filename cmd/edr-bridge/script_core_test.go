package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/edr-bridge/edr-bridge/kuma/kumatest"
)

// coreUsage is what mockKUMA understands.
const coreUsage = "usage: mockkuma start|stop|up|alert FILE|event FILE|probe|push ID STATUS|post PATH FRAMING STATUS FILE...|forge PATH STATUS FILE|closed ID REASON|open ID|row CORRELATOR LIST FIELD=VALUE..."

// mockKUMA drives the mock core. start writes kuma-ca.pem and the token and sets $KUMA. push and post play KUMA's two ways of sending, to
// $HTTP, and want an answer with that status; files are text templates in which $NOW_MS and $NOW stand for the time.
func (s *stage) mockKUMA(ts *testscript.TestScript, args []string) error {
	if len(args) == 0 || (s.core == nil) != (args[0] == "start") {
		return errors.New(coreUsage)
	}
	ctx := context.Background()
	switch verb, rest := args[0], args[1:]; {
	case verb == "start" && len(rest) == 0:
		return s.startCore(ctx, ts)
	case verb == "stop" && len(rest) == 0:
		s.core.Down()
		return nil
	case verb == "up" && len(rest) == 0:
		return eventually(patience, func() error { return s.core.Up(ctx) })
	case verb == "alert" && len(rest) == 1:
		return s.core.PutAlert(dated(ts.ReadFile(rest[0])))
	case verb == "event" && len(rest) == 1:
		return s.core.PutEvent("", dated(ts.ReadFile(rest[0])))
	case verb == "probe" && len(rest) == 0:
		return answered(s.soar(ts).Probe(ctx))("200")
	case verb == "push" && len(rest) == 2:
		return answered(s.soar(ts).Push(ctx, rest[0]))(rest[1])
	case verb == "post" && len(rest) >= 4:
		var docs [][]byte
		for _, name := range rest[3:] {
			docs = append(docs, dated(ts.ReadFile(name)))
		}
		to := kumatest.Destination{
			URL: "http://" + ts.Getenv("HTTP") + rest[0], User: "kuma", Password: canaryPassword, Framing: kumatest.Framing(rest[1]),
		}
		return answered(to.Post(ctx, docs...))(rest[2])
	case verb == "forge" && len(rest) == 3:
		to := kumatest.Destination{URL: "http://" + ts.Getenv("HTTP") + rest[0], User: "kuma", Password: canaryWrong}
		return answered(to.Post(ctx, dated(ts.ReadFile(rest[2]))))(rest[1])
	case verb == "closed" && len(rest) == 2:
		return eventually(patience, func() error { return s.alertIs(rest[0], "closed", rest[1]) })
	case verb == "open" && len(rest) == 1:
		return s.alertIs(rest[0], "new", "")
	case verb == "row" && len(rest) >= 3:
		return eventually(patience, func() error { return s.listed(rest[0], rest[1], rest[2:]) })
	default:
		return errors.New(coreUsage)
	}
}

func (s *stage) startCore(ctx context.Context, ts *testscript.TestScript) error {
	core, err := kumatest.NewServer(kumatest.Config{Token: canaryPassword})
	if err != nil {
		return err
	}
	if err := core.Start(ctx); err != nil {
		return err
	}
	s.core = core
	ts.Setenv("KUMA", core.Addr())
	if err := s.writeSecret("credentials/kuma-token", canaryPassword); err != nil {
		return err
	}
	if err := s.writeSecret("credentials/soar-token", canaryPassword); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.work, "kuma-ca.pem"), core.CertificatePEM(), 0o600)
}

func (s *stage) soar(ts *testscript.TestScript) kumatest.SOAR {
	return kumatest.SOAR{URL: "http://" + ts.Getenv("HTTP") + "/soar", Token: canaryPassword, Place: "bearer"}
}

// dated fills in the time of this moment, because old alerts are refused.
func dated(text string) []byte {
	now := time.Now()
	return []byte(strings.NewReplacer("$NOW_MS", strconv.FormatInt(now.UnixMilli(), 10), "$NOW", now.UTC().Format(time.RFC3339)).Replace(strings.TrimSpace(text)))
}

func answered(r kumatest.Reply, err error) func(want string) error {
	return func(want string) error {
		if err != nil {
			return err
		}
		if strconv.Itoa(r.Status) != want {
			return fmt.Errorf("answer %d %s, want %s", r.Status, r.Body, want)
		}
		return nil
	}
}

func (s *stage) alertIs(id, status, reason string) error {
	got, why, ok := s.core.AlertState(id)
	if !ok || got != status || why != reason {
		return fmt.Errorf("alert %s is %q (%q), want %q (%q)", id, got, why, status, reason)
	}
	return nil
}

// listed wants a record with these fields on an active list.
func (s *stage) listed(correlator, list string, want []string) error {
	rows := s.core.ListRows(correlator, list)
	for _, row := range rows {
		fits := true
		for _, pair := range want {
			name, value, _ := strings.Cut(pair, "=")
			fits = fits && row[name] == value
		}
		if fits {
			return nil
		}
	}
	got, err := json.Marshal(rows)
	return errors.Join(fmt.Errorf("no record with %s on %s: %s", strings.Join(want, " "), list, got), err)
}
