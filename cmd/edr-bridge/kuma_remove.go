package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// kumaQuiet is how long no call may have come before the names are taken away.
const kumaQuiet = 24 * time.Hour

// kumaRemoval is what uninstalling does to one name.
type kumaRemoval struct {
	Name string `json:"name"`
	// Do is leave (it is none of ours), restore or remove; Kept is the file that comes back.
	Do   string `json:"do"`
	Kept string `json:"kept,omitempty"`
}

func (a *app) kumaUninstallCommand() *cobra.Command {
	var f kumaFolder
	var force, dryRun bool
	cmd := &cobra.Command{
		Use:   "uninstall --correlator ID",
		Short: "Take the names away and put the vendor's scripts back",
		Long: `Take the names away and put the scripts that were there before back, each by one rename. A name that had none is removed: a
correlator with a rule that uses it does not work any more. Detach the rules in KUMA first.

It refuses, unless --force is given, while the names are in use: when the store of the bridge holds an order of a call that came in the
last 24 hours or cannot be read, when a call waits in the spool directory, or when a process of KUMA has the folder (its command line holds
the id of the correlator, or it has its working directory, its program or an open file there; only root can see that of others).`,
		Example: `  edr-bridge kuma uninstall --correlator 2f743382-8313-4f45-a801-979367a0d0a3 --dry-run
  edr-bridge kuma uninstall --correlator 2f743382-8313-4f45-a801-979367a0d0a3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.resolve(); err != nil {
				return err
			}
			if !force && !dryRun {
				if err := a.refuseWhileUsed(cmd.Context(), &f); err != nil {
					return err
				}
			}
			return a.kumaUninstall(&f, dryRun)
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "although the names are in use")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done and do nothing")
	return cmd
}

// refuseWhileUsed is the guard of uninstall. The times of access of the names do not count: relatime and links make them useless.
func (a *app) refuseWhileUsed(ctx context.Context, f *kumaFolder) error {
	inUse := func(format string, args ...any) error {
		return fail(exitRefused, "kuma.in_use", fmt.Errorf(format, args...),
			"detach the response rules in KUMA, or repeat with --force")
	}
	if procs := kumaProcesses(f.correlator, f.dir); len(procs) > 0 {
		return inUse("a process works with %s: %s", f.dir, strings.Join(procs, ", "))
	}
	if l, err := callout.ReadLocation(filepath.Join(f.dir, callout.LocationFile)); err == nil && l.Spool != "" {
		if n, err := waitingCalls(l.Spool); err == nil && n > 0 {
			return inUse("%d calls wait in %s", n, l.Spool)
		}
	}
	last, known, err := a.lastCall(ctx)
	switch {
	case err != nil:
		return inUse("the store of the bridge cannot tell when the last call came: %w", err)
	case known && time.Since(last) < kumaQuiet:
		return inUse("the last call came %s ago", time.Since(last).Round(time.Second))
	}
	return nil
}

// lastCall is when the newest order of a call was admitted; known is false when there is none. The store knows nothing of calls that were
// refused before they became an order.
func (a *app) lastCall(ctx context.Context) (last time.Time, known bool, err error) {
	set, _, err := a.settings()
	if err != nil {
		return last, false, err
	}
	if _, _, err := kumaLocation(set, ""); err != nil && set.File() == "" {
		return last, false, err
	}
	d, done, err := a.lookDesk(ctx)
	if err != nil {
		return last, false, err
	}
	defer done()
	for name, s := range set.Sources {
		if s.Type != "kuma-script" {
			continue
		}
		orders, err := d.Orders(ctx, bridge.OrderFilter{Source: name, Limit: 1})
		if err != nil {
			return last, false, err
		}
		for _, o := range orders {
			if !known || o.Created.After(last) {
				last, known = o.Created, true
			}
		}
	}
	return last, known, nil
}

// waitingCalls counts what is in a spool directory.
func waitingCalls(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if !e.IsDir() {
			n++
		}
	}
	return n, nil
}

func (a *app) kumaUninstall(f *kumaFolder, dryRun bool) error {
	names, err := lookAtNames(f.dir)
	if err != nil {
		return fmt.Errorf("scripts folder: %w", err)
	}
	var removals []kumaRemoval
	for _, n := range names {
		r := kumaRemoval{Name: n.Name, Do: "leave"}
		if n.State == nameLink || n.State == nameCopy {
			r.Do = "remove"
			if len(n.Kept) > 0 {
				r.Do, r.Kept = "restore", n.Kept[0]
			}
		}
		removals = append(removals, r)
	}
	if !dryRun {
		if err := takeAway(f.dir, removals); err != nil {
			return err
		}
	}
	if a.output != "table" {
		return printResult(a, removals, nil, nil)
	}
	return printOne(a, removals, func(out io.Writer) error {
		words := map[string]string{"leave": "left alone: not ours", "remove": "removed", "restore": "restored from"}
		if dryRun {
			words = map[string]string{"leave": "would be left alone: not ours", "remove": "would be removed", "restore": "would be restored from"}
		}
		for _, r := range removals {
			if _, err := fmt.Fprintln(out, strings.TrimSpace(r.Name+" "+words[r.Do]+" "+r.Kept)); err != nil {
				return err
			}
		}
		return nil
	})
}

func takeAway(dir string, removals []kumaRemoval) error {
	for _, r := range removals {
		path := filepath.Join(dir, r.Name)
		var err error
		switch r.Do {
		case "restore":
			err = os.Rename(filepath.Join(dir, r.Kept), path)
		case "remove":
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("uninstall %s: %w", r.Name, err)
		}
	}
	err := os.Remove(filepath.Join(dir, callout.LocationFile))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, syncDir(dir))
}
