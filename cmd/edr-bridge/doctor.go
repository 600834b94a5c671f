package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/bridge/store"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/configs/secrets"
	"github.com/edr-bridge/edr-bridge/ksc"
	"github.com/edr-bridge/edr-bridge/kuma"
	"github.com/edr-bridge/edr-bridge/localagent"
)

const doctorTimeout = 15 * time.Second

// check is one line of doctor.
type check struct {
	Level  string `json:"level"` // ok, warn, fail
	Name   string `json:"name"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
	// exit is the exit code when Level is fail.
	exit int
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check settings, state, secrets, Redis, KSC, rights and clock",
		Long: `Check everything the bridge depends on and say what to do about what is wrong. It changes nothing; it logs in to KSC and
Redis with the configured credentials.`,
		Example: `  edr-bridge doctor
  edr-bridge doctor -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := a.open()
			if err != nil {
				return err
			}
			defer w.close()
			ctx, cancel := context.WithTimeout(cmd.Context(), doctorTimeout)
			defer cancel()
			checks := w.doctor(ctx)
			return a.reportChecks(checks)
		},
	}
}

func (a *app) reportChecks(checks []check) error {
	if a.output == "table" {
		for _, c := range checks {
			if err := writeCheck(a.std.out, c); err != nil {
				return err
			}
		}
	} else if err := printResult(a, checks, nil, func(check) []string { return nil }); err != nil {
		return err
	}
	for _, c := range checks {
		if c.Level == levelFail {
			return &problem{exit: c.exit, code: "doctor." + c.Name, err: errors.New(c.Detail), quiet: true}
		}
	}
	return nil
}

const (
	levelOK   = "ok"
	levelWarn = "warn"
	levelFail = "fail"
)

func writeCheck(w io.Writer, c check) error {
	if _, err := fmt.Fprintf(w, "[%-4s] %-8s %s\n", c.Level, c.Name, printableLines(c.Detail)); err != nil {
		return err
	}
	if c.Fix == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "       %-8s fix: %s\n", "", printable(c.Fix))
	return err
}

func (w *wiring) doctor(ctx context.Context) []check {
	checks := []check{w.checkConfig(ctx), w.checkState(ctx), w.checkClock()}
	checks = append(checks, w.checkSecrets(ctx)...)
	checks = append(checks, w.checkRedis(ctx)...)
	checks = append(checks, w.checkKSC(ctx)...)
	checks = append(checks, w.checkKUMA(ctx)...)
	checks = append(checks, w.checkSensor(ctx)...)
	return append(checks, w.checkAgent(ctx)...)
}

func (w *wiring) checkConfig(ctx context.Context) check {
	m, err := w.openMapping(ctx)
	if err != nil {
		return check{levelFail, "config", err.Error(), "edr-bridge rules check", exitConfig}
	}
	c := check{Level: levelOK, Name: "config", Detail: fmt.Sprintf("%s, %d sources, %d rules, mode %s", orDash(w.set.File()), len(w.set.Sources), len(m.Rules()), w.set.Mode)}
	switch {
	case w.set.File() == "":
		c.Level, c.Fix = levelWarn, "no settings file: these are the defaults; name one with -c"
	case len(m.Rules()) == 0 && len(w.set.Sources) > 0:
		c.Level, c.Fix = levelWarn, "no rules: alerts are read and nothing follows; add rules: [rules.d/*.yaml]"
	}
	return c
}

func (w *wiring) checkState(ctx context.Context) check {
	w.look = true // a damaged state is what doctor is asked about
	st, err := w.openStore(ctx, store.OwnerSend)
	if err != nil {
		return check{levelFail, "state", err.Error(), "make " + w.set.Local.State + " writable for this account, or set local.state", exitConfig}
	}
	if err := st.Check(ctx); err != nil {
		return check{levelFail, "state", err.Error(), "stop the bridge, then edr-bridge audit set-aside: it keeps the file and starts anew", exitFailed}
	}
	counts, err := st.Counts(ctx)
	if err != nil {
		return check{levelFail, "state", err.Error(), "", exitFailed}
	}
	parts := []string{st.Path()}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
	}
	detail := strings.Join(parts, ", ")
	if h := w.hold.Get(); h.Active {
		return check{levelWarn, "state", detail + "; on hold: " + h.Reason, "edr-bridge resume --reason …", 0}
	}
	return check{Level: levelOK, Name: "state", Detail: detail}
}

// checkClock catches a clock that was never set; whether it is exact only a time server knows.
func (w *wiring) checkClock() check {
	now := time.Now()
	if now.Year() < 2025 {
		return check{levelFail, "clock", now.Format(time.RFC3339), "set the clock: alert ages and the times of incidents depend on it", exitFailed}
	}
	return check{Level: levelOK, Name: "clock", Detail: now.Format(time.RFC3339)}
}

func (w *wiring) checkSecrets(ctx context.Context) []check {
	refs := map[configs.SecretRef]bool{}
	if w.vendor == nil {
		for _, k := range w.set.Servers() {
			refs[k.Password] = true
		}
	}
	if w.set.KUMA != nil {
		refs[w.set.KUMA.Token] = true
	}
	for _, s := range w.set.Sources {
		refs[s.Password], refs[s.Token] = true, true
		if s.Auth != nil {
			for _, ref := range s.Auth.Secrets() {
				refs[ref] = true
			}
		}
		if s.Sentinel != nil {
			refs[s.Sentinel.Password] = true
		}
	}
	delete(refs, "")
	var out []check
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		out = append(out, w.checkSecret(ctx, ref))
	}
	return out
}

func (w *wiring) checkSecret(ctx context.Context, ref configs.SecretRef) check {
	parsed, err := secrets.ParseRef(string(ref))
	if err != nil {
		return check{levelFail, "secrets", err.Error(), "", exitConfig}
	}
	st, err := w.openSecrets()
	if err != nil {
		return check{levelFail, "secrets", err.Error(), "", exitConfig}
	}
	where, err := st.Where(ctx, parsed)
	if err != nil {
		return check{levelFail, "secrets", err.Error(), "edr-bridge secrets set " + string(parsed), exitCredentials}
	}
	return check{Level: levelOK, Name: "secrets", Detail: string(ref) + " held by " + where}
}

func (w *wiring) checkRedis(ctx context.Context) []check {
	redisbus.SetLogger(w.log)
	var out []check
	for _, name := range slices.Sorted(maps.Keys(w.set.Sources)) {
		s := w.set.Sources[name]
		if !s.Type.Redis() {
			continue
		}
		opts, err := w.redisOptions(s)
		if err != nil {
			out = append(out, check{levelFail, "redis", name + ": " + err.Error(), "", exitConfig})
			continue
		}
		report, err := redisbus.Check(ctx, redisbus.CheckConfig{Options: opts, Stream: s.Stream, Group: s.Group, DeadLetter: s.DeadLetter, Channel: s.Channel})
		if err != nil {
			out = append(out, check{levelFail, "redis", name + ": " + err.Error(), "is Redis running there, and do user and password fit?", exitUnreachable})
			continue
		}
		out = append(out, redisCheck(name, s, report))
	}
	return out
}

func redisCheck(name string, s *configs.Source, r redisbus.Report) check {
	c := check{Level: levelOK, Name: "redis", Detail: fmt.Sprintf("%s: Redis %s %s, %s round trip", name, orDash(r.Version), orDash(r.Role), r.Latency.Round(10*time.Microsecond))}
	if s.Type == configs.RedisStream {
		c.Detail += fmt.Sprintf(", stream %s: length %d, group lag %d, pending %d, dead letters %d", s.Stream, r.Length, r.Lag, r.Pending, r.DeadLetters)
	} else {
		c.Detail += fmt.Sprintf(", channel %s: %d subscribers", s.Channel, r.Subscribers)
	}
	for i, p := range r.Problems {
		c.Level = levelWarn
		if i > 0 {
			c.Fix += "; "
		}
		c.Fix += p
	}
	return c
}

func (w *wiring) checkKSC(ctx context.Context) []check {
	if !hasKSC(w.set) {
		return []check{{Level: levelOK, Name: "ksc", Detail: "not configured: the local agent acts on this machine"}}
	}
	if _, err := w.openKSC(); err != nil {
		return []check{{levelFail, "ksc", err.Error(), "", exitConfig}}
	}
	var out []check
	for profile, k := range w.set.Servers() {
		out = append(out, checkServer(ctx, profile, k, w.servers[profile])...)
	}
	return out
}

func checkServer(ctx context.Context, profile string, k *configs.KSC, exec *ksc.Executor) []check {
	var out []check
	prefix := ""
	if profile != "" {
		prefix = profile + ": "
	}
	for _, r := range exec.Check(ctx) {
		c := check{Level: levelOK, Name: "ksc", Detail: prefix + r.Name + ": " + r.Detail, Fix: r.Fix, exit: exitUnreachable}
		switch r.Level {
		case ksc.CheckPassed:
		case ksc.CheckWarned:
			c.Level = levelWarn
		case ksc.CheckFailed:
			c.Level = levelFail
			if credentialsRefused(r.Err) {
				c.exit = exitCredentials
			}
		default:
			c.Level = levelFail
		}
		out = append(out, c)
	}
	if k.Insecure {
		out = append(out, check{levelWarn, "ksc", prefix + "certificate is not checked (ksc.insecure)", "set ksc.ca to klserver.cer of the Administration Server", 0})
	}
	return out
}

// checkKUMA asks the core who we are.
func (w *wiring) checkKUMA(ctx context.Context) []check {
	core, err := w.openKUMA()
	if err != nil {
		return []check{{levelFail, "kuma", err.Error(), "", exitConfig}}
	}
	if core == nil {
		return nil
	}
	user, err := core.Whoami(ctx)
	switch {
	case errors.Is(err, kuma.ErrCredentials):
		return []check{{levelFail, "kuma", err.Error(), "make a token for a user in KUMA, then edr-bridge secrets set kuma/token", exitCredentials}}
	case err != nil:
		return []check{{levelFail, "kuma", err.Error(), "is the core there, and its REST API open (port 7223)?", exitUnreachable}}
	default:
		return []check{{Level: levelOK, Name: "kuma", Detail: fmt.Sprintf("%s: token of %s", w.set.KUMA.Address, orDash(user.Name))}}
	}
}

func (w *wiring) checkAgent(ctx context.Context) []check {
	if !w.set.Local.Enabled {
		return []check{{Level: levelOK, Name: "agent", Detail: "not enabled (local.enabled)"}}
	}
	var st localagent.Status
	runs, err := w.askAgent(ctx, askStatus, nil, &st)
	if err != nil {
		return []check{{levelFail, "agent", err.Error(), "edr-bridge agent status", exitConfig}}
	}
	var out []check
	if w.set.Local.Separate && !runs {
		out = append(out, check{levelFail, "agent", "nobody answers on " + w.set.Local.Socket, "systemctl start edr-bridge-agent, or edr-bridge agent run", exitUnreachable})
	}
	if names := w.unkept(); len(names) > 0 {
		out = append(out, check{levelWarn, "agent", "sources " + strings.Join(names, ", ") + ": " + unkeptText, "", 0})
	}
	for _, p := range st.Capabilities {
		c := check{Level: levelOK, Name: "agent", Detail: p.Name + ": " + p.Detail}
		if !p.OK {
			c.Level = levelWarn
			if os.Geteuid() != 0 {
				c.Fix = "run the bridge as root, or set local.enabled: false"
			}
		}
		out = append(out, c)
	}
	return out
}

// credentialsRefused reports whether the secret is missing or the server did not take it.
func credentialsRefused(err error) bool {
	if _, refused := errors.AsType[*ksc.AuthError](err); refused || errors.Is(err, ksc.ErrLoginsStopped) {
		return true
	}
	_, missing := errors.AsType[*secrets.Error](err)
	return missing
}
