package localagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/prevention"
	"github.com/edr-bridge/edr-bridge/localagent/safety"
	"github.com/edr-bridge/edr-bridge/localagent/scan"
	"github.com/edr-bridge/edr-bridge/localagent/vault"
)

// The folders below Config.State. What an order leaves behind stands in them, whichever process carried it out.
const (
	dirQuarantine = "quarantine"
	dirPrevention = "prevention"
	dirIsolation  = "isolation"
	dirPrograms   = "programs"
	dirJobs       = "jobs"
	vaultKey      = "quarantine.key"
)

// keepPrograms is how long records and outputs of programs stay: longer than any order can still be looked for.
const keepPrograms = 30 * 24 * time.Hour

// pruneEvery is how often what is older than its time is forgotten.
const pruneEvery = time.Hour

// rooms carry out the tasks that are not about processes.
type rooms struct {
	safe  *safety.Files
	wall  *firewall.Firewall
	vault *vault.Vault
	guard *prevention.Guard
	// guardConfig is what the process that answers the kernel is given as well.
	guardConfig prevention.Config
	switched    *guardSwitch
	scans       *scan.Scanner
	jobs        *jobs.Jobs
	start       *Launcher
}

// newRooms gives each room what all share: clock, log, dry run, the never-touch table and a folder of its own.
func newRooms(cfg *Config) (rooms, error) {
	var r rooms
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	at := func(name string) string { return filepath.Join(cfg.State, name) }
	var err error
	r.safe, err = safety.NewFiles(safety.Config{Own: append([]string{cfg.State}, cfg.Own...), Now: cfg.Now})
	note(err)

	w := cfg.Isolation
	w.Own, w.Never, w.State, w.DryRun, w.Logger, w.Now = cfg.Self.Addresses, cfg.NeverBlock, at(dirIsolation), cfg.DryRun, cfg.Logger, cfg.Now
	r.wall, err = firewall.New(w)
	note(err)

	v := cfg.Quarantine
	v.Dir, v.Protected, v.DryRun, v.MaxTargets, v.Logger, v.Now = at(dirQuarantine), r.mayTake(cfg), cfg.DryRun, cfg.MaxTargets, cfg.Logger, cfg.Now
	switch {
	case v.Key != nil:
	case runtime.GOOS == "windows":
		v.Key = vault.DPAPIKey(at(vaultKey))
	default:
		v.Key = vault.FileKey(at(vaultKey))
	}
	r.vault, err = vault.New(v)
	note(err)

	g := cfg.Prevention
	g.State, g.DryRun, g.Logger, g.Now = at(dirPrevention), cfg.DryRun, cfg.Logger, cfg.Now
	if runtime.GOOS == "windows" {
		g.Disable = at("disable") // there is no folder like /run that only the system can make
	}
	g.Protected = func(ctx context.Context) (prevention.Protected, error) { return r.safe.Executables(ctx) }
	r.guardConfig, r.switched = g, newGuardSwitch()
	r.guard, err = prevention.New(g)
	note(err)

	s := cfg.Scan
	s.Exclude, s.Logger, s.Now = cfg.within(at(dirQuarantine)), cfg.Logger, cfg.Now
	s.Protected = func(path string, f *os.File) string {
		_, why, err := v.Protected(context.Background(), f, path)
		if err != nil {
			return err.Error()
		}
		return why
	}
	r.scans, err = scan.New(s)
	note(err)

	r.jobs, err = jobs.New(jobs.Config{Dir: at(dirJobs), Logger: cfg.Logger, Now: cfg.Now})
	note(err)

	l := cfg.Start
	l.Dir, l.DryRun, l.Logger, l.Now = at(dirPrograms), cfg.DryRun, cfg.Logger, cfg.Now
	r.start, err = NewLauncher(l)
	note(err)
	return r, errors.Join(errs...)
}

// mayTake judges a file by the never-touch table and by the user's list.
func (r *rooms) mayTake(cfg *Config) func(context.Context, *os.File, string) (bridge.Reason, string, error) {
	return func(ctx context.Context, f *os.File, path string) (bridge.Reason, string, error) {
		if cfg.ProtectedPath != nil {
			if reason, why := cfg.ProtectedPath(path); reason != bridge.ReasonNone {
				return reason, why, nil
			}
		}
		return r.safe.Check(ctx, f, path)
	}
}

// within reports whether a path is the folder or lies below it.
func (c *Config) within(folder string) func(string) bool {
	return func(path string) bool {
		rel, err := filepath.Rel(folder, path)
		return err == nil && filepath.IsLocal(rel)
	}
}

// makeFolders makes what the rooms need; it is called before each effect, because somebody may have removed them.
func (a *Agent) makeFolders() error {
	for _, name := range []string{"", dirIsolation} {
		if err := os.MkdirAll(filepath.Join(a.cfg.State, name), 0o700); err != nil {
			return fmt.Errorf("folder of the agent: %w", err)
		}
	}
	return nil
}

// Run watches over what orders left behind until ctx ends: isolations and their rules, prevented executions, jobs and what is kept too
// long. Without it orders are carried out all the same, but an isolation is not armed again, executions are not prevented and scans are
// waited for. It returns nil; what cannot be watched is logged and tried again.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.makeFolders(); err != nil {
		return err
	}
	var parts errgroup.Group
	parts.Go(func() error { a.watch(ctx, "isolation", a.wall.Run); return nil })
	parts.Go(func() error { a.watchGuard(ctx); return nil })
	parts.Go(func() error { a.prune(ctx); return nil })
	return parts.Wait()
}

// watchAgain is how long the agent waits before it begins again to watch what cannot be watched.
const watchAgain = 30 * time.Second

// watch runs a part until ctx ends. What this system does not have is told once.
func (a *Agent) watch(ctx context.Context, what string, run func(context.Context) error) {
	for {
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errors.ErrUnsupported) {
			a.log.Info("not watched on this system", "what", what, "err", err)
			return
		}
		a.log.Warn("cannot be watched, trying again", "what", what, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchAgain):
		}
	}
}

// prune forgets what is older than its time.
func (a *Agent) prune(ctx context.Context) {
	every := time.NewTicker(pruneEvery)
	defer every.Stop()
	for {
		if n, err := a.jobs.Prune(); err != nil {
			a.log.Warn("old jobs were not forgotten", "err", err)
		} else if n > 0 {
			a.log.Info("old jobs forgotten", "jobs", n)
		}
		if n, err := a.start.Prune(keepPrograms); err != nil {
			a.log.Warn("records of old programs were not removed", "err", err)
		} else if n > 0 {
			a.log.Info("records of old programs removed", "programs", n)
		}
		if n, err := a.vault.Prune(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("old quarantined files were not removed", "err", err)
		} else if len(n) > 0 {
			a.log.Info("old quarantined files removed", "files", len(n))
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}
