package prevention

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// Windows keeps programs from starting by two things an administrator can write into the registry, and neither asks anybody at
// the moment of the start. So there is no listener: what stands in the registry holds, over restarts and also when the agent
// does not run, and nothing is reported when it holds.
//
//   - Image File Execution Options: the start of one path goes to a debugger that is not there, and fails (ifeo_windows.go)
//   - Software Restriction Policies: the start of a path, or of a content, is disallowed (srp_windows.go)
//
// Not used: AppLocker and App Control (WDAC). Both replace the policy of the whole machine, are governed by group policy or a
// management server as a rule, match by the Authenticode hash, which an alert does not have, and an App Control policy with a mistake
// keeps the machine from starting (learn.microsoft.com/windows/security/application-security/application-control).

const (
	// checkEvery is how often the registry is compared with the rules: a group policy may replace it. switchEvery is how often
	// the emergency switch is looked at.
	checkEvery  = time.Minute
	switchEvery = time.Second
)

// errNotElevated says what writing the registry needs.
var errNotElevated = errors.New("the agent needs to run as SYSTEM or administrator to keep programs from starting")

// machine makes the rules effective.
type machine struct {
	cfg *Config
	// mu guards what follows, and makes changes of the registry one after the other.
	mu sync.Mutex
	// trouble is what the last comparison of registry and rules met; nil = nothing.
	trouble error
	// restored counts how often somebody had changed what was written.
	restored int
}

func newMachine(cfg *Config) *machine {
	own := *cfg
	// The default is a path of Linux; here it would name a folder on whatever drive is the current one, which anybody may make.
	if !filepath.IsAbs(own.Disable) {
		own.Disable = filepath.Join(own.State, "disable")
	}
	return &machine{cfg: &own}
}

// settle refuses what is protected and what Windows cannot express, and returns the rule with its path in the form Windows compares.
func (m *machine) settle(ctx context.Context, protected Protected, r Rule) (Rule, error) {
	if m.cfg.Mode == LogOnly {
		return Rule{}, verdict.Refuse(bridge.ReasonUnsupported,
			"windows tells nobody when a program is started that a rule is about, so there is no log-only mode: set prevention.mode to block, or leave it to KSC")
	}
	if r.Path == "" {
		return Rule{}, noDigestAlone()
	}
	if reason, why := protected.ByPath(r.Path); reason != bridge.ReasonNone {
		return Rule{}, verdict.Refuse(reason, "%s is never denied: %s", verdict.Shown(r.Path), why)
	}
	real, err := realName(r.Path)
	if err != nil {
		return Rule{}, verdict.Untouched("look at %s: %w", verdict.Shown(r.Path), err)
	}
	if real != "" && !strings.EqualFold(real, r.Path) {
		if reason, why := protected.ByPath(real); reason != bridge.ReasonNone {
			return Rule{}, verdict.Refuse(reason, "%s is %s, which is never denied: %s", verdict.Shown(r.Path), verdict.Shown(real), why)
		}
		r.Path = real
	}
	// Windows compares paths without regard to case.
	r.CaseSensitive = false
	r.ID = r.id()
	img, err := lookAt(ctx, r.Path)
	if err != nil {
		return Rule{}, verdict.Untouched("look at %s: %w", verdict.Shown(r.Path), err)
	}
	if img != nil {
		for _, d := range []string{img.md5, img.sha256} {
			if reason, why := protected.ByDigest(d); reason != bridge.ReasonNone {
				return Rule{}, verdict.Refuse(reason, "the file at %s is never denied: %s", verdict.Shown(r.Path), why)
			}
		}
	}
	if _, err := means(&r, img, enforced()); err != nil {
		return Rule{}, err
	}
	return r, nil
}

// noDigestAlone refuses a rule without a path.
func noDigestAlone() error {
	return verdict.Refuse(bridge.ReasonUnsupported,
		"windows has no rule by digest alone: its policies need the size of the file too, and hash signed programs otherwise: give the path as well, or send the order through KSC")
}

// realName returns the path without links and short names; empty when there is no file.
func realName(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return real, err
}

// apply makes exactly the rules stand in the registry and reads them back. Of rules that cannot be expressed any more only the one of this
// id, if one is given, is an error: the others must not keep rules from coming and going, and check tells about them.
func (m *machine) apply(ctx context.Context, rules []Rule, added string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !windows.GetCurrentProcessToken().IsElevated() {
		return errNotElevated
	}
	have, err := ownEntries()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == added }); i >= 0 {
		if _, err := m.entries(ctx, rules[i:i+1], have); err != nil {
			return err
		}
	}
	want, _ := m.entries(ctx, rules, have)
	return write(want, have)
}

// write makes exactly the wanted entries stand, and reads them back.
func write(want, have []entry) error {
	var errs []error
	for _, e := range have {
		if !slices.Contains(want, e) {
			errs = append(errs, e.remove())
		}
	}
	for _, e := range want {
		if !slices.Contains(have, e) {
			errs = append(errs, e.add())
		}
	}
	errs = append(errs, settlePolicy(slices.ContainsFunc(want, entry.policy)))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	got, err := ownEntries()
	if err != nil {
		return fmt.Errorf("read the rules back: %w", err)
	}
	slices.SortFunc(want, compareEntries)
	slices.SortFunc(got, compareEntries)
	if !slices.Equal(want, got) {
		return errors.New("the rules did not read back from the registry: does a group policy or another product change it?")
	}
	return nil
}

// entries says what has to stand in the registry. A rule whose file is gone keeps what it has; one that has nothing is an error,
// which comes with the entries of the others.
func (m *machine) entries(ctx context.Context, rules []Rule, have []entry) (out []entry, err error) {
	var errs []error
	srp := enforced()
	for i := range rules {
		r := &rules[i]
		kept := slices.DeleteFunc(slices.Clone(have), func(e entry) bool {
			return e.rule != r.ID || e.damaged() || e.policy() && !srp || e.kind == byHash && e.md5 != r.MD5 && e.sha256 != r.SHA256
		})
		var (
			img   *image
			found []entry
			err   = noDigestAlone()
		)
		if r.Path != "" {
			img, err = lookAt(ctx, r.Path)
		}
		if err == nil {
			found, err = means(r, img, srp)
		}
		switch {
		case err == nil:
			out = append(out, found...)
		case len(kept) > 0:
			out = append(out, kept...)
		default:
			errs = append(errs, fmt.Errorf("rule %s: %w", r.ID, err))
		}
	}
	return out, errors.Join(errs...)
}

// means chooses how Windows can do what the rule says. img is the file at the path, nil when there is none; srp says that
// policies are enforced. Errors are *verdict.Error.
func means(r *Rule, img *image, srp bool) ([]entry, error) {
	program := strings.EqualFold(filepath.Ext(r.Path), ".exe")
	switch {
	case r.digest() != "" && (img == nil || img.md5 != r.MD5 && img.sha256 != r.SHA256):
		return nil, verdict.Refuse(bridge.ReasonUnsupported,
			"the file at %s is not there, or has another digest: windows needs the file itself to make a rule by digest: send a rule by path alone, or through KSC",
			verdict.Shown(r.Path))
	case r.digest() != "" && srp && !img.signed:
		return []entry{{kind: byHash, rule: r.ID, md5: img.md5, sha256: img.sha256, size: img.size}}, nil
	case program && srp:
		return []entry{{kind: byDebugger, rule: r.ID, path: r.Path}, {kind: byPath, rule: r.ID, path: r.Path}}, nil
	case program:
		return []entry{{kind: byDebugger, rule: r.ID, path: r.Path}}, nil
	case srp:
		return []entry{{kind: byPath, rule: r.ID, path: r.Path}}, nil
	default:
		return nil, verdict.Refuse(bridge.ReasonUnsupported,
			"%s is no .exe, and this Windows does not enforce software restriction policies (Windows 11 22H2 and later by default do not): send the order through KSC",
			verdict.Shown(r.Path))
	}
}

// resume has nothing to do: without a listener there is no breaker.
func (m *machine) resume(context.Context) error { return nil }

// run compares the registry with the stored rules until ctx ends, and follows the emergency switch. What stands in the registry
// when it returns goes on holding.
func (m *machine) run(ctx context.Context) error {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return errNotElevated
	}
	tick := time.NewTicker(switchEvery)
	defer tick.Stop()
	var checked time.Time
	off := false
	for {
		if now := m.cfg.disabled(); now != off || m.cfg.Now().Sub(checked) >= checkEvery {
			m.check(ctx, now)
			off, checked = now, m.cfg.Now()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// check makes the registry what the stored rules say, or empty while the emergency switch is on.
func (m *machine) check(ctx context.Context, off bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rules, err := loadRules(m.cfg.State)
	switch {
	case off: // whatever is wrong with them
		err = errors.Join(err, m.restore(ctx, nil))
	case err != nil:
	case m.cfg.DryRun:
		return
	default:
		err = m.restore(ctx, rules)
	}
	if err != nil && (m.trouble == nil || err.Error() != m.trouble.Error()) {
		m.cfg.Logger.WarnContext(ctx, "rules against executions are not in effect", "err", err)
	}
	m.trouble = err
}

// restore writes what the rules say as far as it can, and counts when that was needed although they had stood.
func (m *machine) restore(ctx context.Context, rules []Rule) error {
	have, err := ownEntries()
	if err != nil {
		return err
	}
	want, problem := m.entries(ctx, rules, have)
	missing := slices.ContainsFunc(want, func(e entry) bool { return !slices.Contains(have, e) })
	if err := errors.Join(write(want, have), problem); err != nil {
		return err
	}
	if missing {
		m.restored++
		m.cfg.Logger.InfoContext(ctx, "rules against executions were written", "rules", len(rules))
	}
	return nil
}

// running reports whether rules can be in effect: what stands in the registry holds also while nothing of ours runs.
func (m *machine) running() bool {
	return windows.GetCurrentProcessToken().IsElevated() && !m.cfg.disabled()
}

func (m *machine) status(_ context.Context, s *Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Restarts = m.restored
	s.Disabled = m.cfg.disabled()
	if m.trouble != nil {
		s.LastError = m.trouble.Error()
	}
}

// gaps says what a rule does not cover; nil asks for any rule.
func (m *machine) gaps(r *Rule) []string {
	srp := enforced()
	out := []string{
		"nothing is reported when a program is kept from starting",
		"programs that run already go on, and those that read the policy before may start it until they are started anew",
		"a process that is started under a debugger, or made by a driver",
	}
	if scope := scopeText(); srp && scope != "" {
		out = append(out, scope)
	}
	if !srp {
		out = append(out, "this Windows does not enforce software restriction policies: only .exe files are kept from starting, by their path")
	}
	if r == nil {
		return append(out,
			"rules by digest alone are refused",
			"signed programs go by path and not by digest: windows hashes them otherwise",
			"AppLocker and App Control (WDAC) are not used: they are the policy of the whole machine, and go by the Authenticode hash, which no alert has")
	}
	if e, err := keptHash(r); err == nil && e != nil && srp {
		return append(out, "it goes by content wherever the file lies, not by the path; a copy with one byte more starts")
	}
	what := "it goes by the path: a copy elsewhere, or the file under another name (a hard link, a substituted drive), starts"
	if r.digest() != "" {
		what = "it goes by the path and NOT by the digest: whatever will lie there does not start; a copy elsewhere starts"
	}
	if srp && !strings.EqualFold(filepath.Ext(r.Path), ".exe") {
		what += "; scripts are stopped only by interpreters that ask (cmd, wscript, cscript, PowerShell)"
	}
	return append(out, what)
}

func (m *machine) probe(context.Context) (string, error) {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return "", errNotElevated
	}
	if _, err := ownEntries(); err != nil {
		return "", err
	}
	if enforced() {
		return "programs are kept from starting by path (Image File Execution Options) and by content (Software Restriction Policies); nothing is reported", nil
	}
	return "programs are kept from starting by path only (Image File Execution Options): this Windows does not enforce Software Restriction Policies; nothing is reported", nil
}

// Standing returns what keeps programs from starting on this machine by rules of ours, in words, whichever state folder they are stored in:
// it holds also when nothing of ours is installed any more.
func Standing() ([]string, error) {
	have, err := ownEntries()
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(have))
	for _, e := range have {
		what := verdict.Shown(e.path)
		if e.path == "" {
			what = "the content " + cmp.Or(e.sha256, e.md5)
		}
		out = append(out, fmt.Sprintf("%s is kept from starting (rule %s)", what, e.rule))
	}
	return out, nil
}

// bootedWithout reports whether the machine was started with the emergency switch on; Windows passes no words to it.
func bootedWithout() bool { return false }

// trusted reports whether somebody else can have written the stored rules: they and their folder must belong to SYSTEM, the
// administrators or the user of this process.
func trusted(state, path string) error {
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("who this process is: %w", err)
	}
	for _, name := range []string{state, path} {
		sd, err := windows.GetNamedSecurityInfo(name, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
		if err != nil {
			return fmt.Errorf("owner of %s: %w", verdict.Shown(name), err)
		}
		owner, _, err := sd.Owner()
		if err != nil || owner == nil {
			return fmt.Errorf("owner of %s: %w", verdict.Shown(name), errors.Join(err, errors.New("it has none")))
		}
		if !owner.IsWellKnown(windows.WinLocalSystemSid) && !owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) && !owner.Equals(me.User.Sid) {
			return fmt.Errorf("%s belongs to %s, which is neither SYSTEM nor the administrators", verdict.Shown(name), owner)
		}
	}
	return nil
}
