package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// kumaInstall is what the flags of kuma install ask for.
type kumaInstall struct {
	kumaFolder
	asCopy, dryRun, force, eventID bool
	lang, source, socket, spool    string
}

// kumaInstalled is the result of kuma install.
type kumaInstalled struct {
	Dir      string           `json:"dir"`
	Program  string           `json:"program"`
	Location callout.Location `json:"location"`
	// Files are the files that say where calls go.
	Files    []string     `json:"files"`
	Changes  []kumaChange `json:"changes"`
	Problems []obstacle   `json:"problems,omitempty"`
	DryRun   bool         `json:"dry_run,omitempty"`
	Rules    []kumaRule   `json:"rules"`
}

func (a *app) kumaInstallCommand() *cobra.Command {
	var in kumaInstall
	cmd := &cobra.Command{
		Use:   "install --correlator ID",
		Short: "Put the nine names into a correlator's scripts folder",
		Long: `Put the nine names into the scripts folder of a correlator and print what to paste in KUMA. Run it as root on the server of the
correlator, before a rule uses a name: a correlator does not work while the script of one of its rules is missing.

Each name is a link to edr-bridge-call where that lies beside this program, else to this program, or with --copy a copy of it, put in place by one rename: calls that come in meanwhile find either
the old script or the new one. Scripts of Kaspersky that are there are kept as NAME.py.vendor-DATE. Running it again changes
nothing that is right. It refuses when the user of the correlator cannot run the program or reach the bridge, and says what to change.`,
		Example: `  edr-bridge kuma install --correlator 2f743382-8313-4f45-a801-979367a0d0a3 --dry-run
  edr-bridge kuma install --correlator 2f743382-8313-4f45-a801-979367a0d0a3 --lang ru
  edr-bridge kuma install --dir /srv/scripts --copy --socket /run/edr-bridge/kuma.sock --spool /var/spool/edr-bridge`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.kumaInstall(&in) },
	}
	in.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&in.asCopy, "copy", false, "copy this program instead of linking to it")
	f.BoolVar(&in.dryRun, "dry-run", false, "say what would be done and do nothing")
	f.BoolVar(&in.force, "force", false, "go on although the correlator's user cannot reach the bridge yet")
	f.BoolVar(&in.eventID, "event-id", false, "print rules that pass only the id of the event")
	f.StringVar(&in.source, "source", "", "name of the source of the type kuma-script, when the settings have several")
	f.StringVar(&in.socket, "socket", "", "socket for calls, when the settings are not on this machine")
	f.StringVar(&in.spool, "spool", "", "spool directory for calls, when the settings are not on this machine")
	kumaLangFlag(cmd, &in.lang)
	return cmd
}

func (a *app) kumaInstall(in *kumaInstall) error {
	if runtime.GOOS != "linux" {
		return fail(exitFailed, "kuma.platform", errors.New("KUMA's correlator runs on Linux"), "run it on the server of the correlator")
	}
	if err := errors.Join(checkKUMALang(in.lang), in.resolve()); err != nil {
		return err
	}
	user, err := lookUpAccount(in.user)
	if err != nil {
		return err
	}
	result := kumaInstalled{Dir: in.dir, DryRun: in.dryRun}
	if result.Location, err = a.kumaTarget(in); err != nil {
		return err
	}
	if result.Program, err = callProgram(); err != nil {
		return err
	}
	made, err := in.folder()
	if err != nil {
		return err
	}
	var names []kumaName
	if made {
		names, err = lookAtNames(in.dir)
	} else {
		names, err = lookAtNothing(in.dir), nil
	}
	if err != nil {
		return err
	}
	if result.Changes, err = planNames(names, result.Program, in.asCopy, time.Now()); err != nil {
		return err
	}
	result.Files = in.locationFiles()
	result.Problems = in.problems(user, result)
	if err := in.refuse(result.Problems); err != nil {
		return err
	}
	for _, task := range kumaScripts() {
		result.Rules = append(result.Rules, newKUMARule(task, in.eventID))
	}
	if !in.dryRun {
		if err := in.carryOut(result); err != nil {
			return err
		}
	}
	return a.printInstalled(in, result)
}

// kumaTarget is where calls will go: the flags, else the settings.
func (a *app) kumaTarget(in *kumaInstall) (callout.Location, error) {
	l := callout.Location{Socket: in.socket, Spool: in.spool}
	if l != (callout.Location{}) {
		for _, p := range []string{l.Socket, l.Spool} {
			if p != "" && !filepath.IsAbs(p) {
				return l, usagef("--socket and --spool: want absolute paths, not %q", printable(p))
			}
		}
		return l, nil
	}
	set, _, err := a.settings()
	if err != nil {
		return l, err
	}
	l, _, err = kumaLocation(set, in.source)
	return l, err
}

// callProgram is what the names lead to: edr-bridge-call where it lies beside this program, else this program. A link to a file
// that an upgrade has removed would be a gap.
func callProgram() (string, error) {
	program, err := os.Executable()
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		return "", fail(exitFailed, "kuma.program", fmt.Errorf("the file of this program: %w", err), "start it again from the place it is installed to")
	}
	if small := filepath.Join(filepath.Dir(program), kumaCaller); isOurProgram(small) {
		return small, nil
	}
	return program, nil
}

// folder reports whether the scripts folder is there. A correlator without one gets it; a missing correlator is an error.
func (f *kumaFolder) folder() (bool, error) {
	info, err := os.Stat(f.dir)
	switch {
	case err == nil && info.IsDir():
		return true, nil
	case err == nil:
		return false, fail(exitFailed, "kuma.folder", fmt.Errorf("%s is no folder", f.dir), "")
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("scripts folder: %w", err)
	}
	if info, err := os.Stat(filepath.Dir(f.dir)); err != nil || !info.IsDir() {
		hint := "run it on the server of the correlator: its id is in KUMA under Resources, Active services"
		if ids := kumaCorrelatorIDs(); len(ids) > 0 {
			hint = "on this machine: " + strings.Join(ids, ", ")
		}
		return false, fail(exitNotFound, "kuma.correlator", fmt.Errorf("%s: no such correlator on this machine", filepath.Dir(f.dir)), hint)
	}
	return false, nil
}

func lookAtNothing(dir string) []kumaName {
	var names []kumaName
	for _, task := range kumaScripts() {
		names = append(names, kumaName{Task: task, Name: callout.ScriptName(task), State: nameMissing, path: filepath.Join(dir, callout.ScriptName(task))})
	}
	return names
}

// locationFiles are the files to write: beside the names, and the default of the machine where the folder is KUMA's own, because what
// KUMA passes as the program's own name is not documented.
func (in *kumaInstall) locationFiles() []string {
	files := []string{filepath.Join(in.dir, callout.LocationFile)}
	if in.dir == filepath.Join(kumaCorrelators, in.correlator, "scripts") {
		files = append(files, callout.LocationDefault)
	}
	return files
}

// problems are what keeps the user of the correlator from making calls.
func (in *kumaInstall) problems(user account, result kumaInstalled) []obstacle {
	var found []obstacle
	add := func(o *obstacle) {
		if o != nil {
			found = append(found, *o)
		}
	}
	if in.asCopy {
		if mountedNoExec(filepath.Dir(in.dir)) {
			add(&obstacle{What: in.dir + " is on a file system mounted noexec"})
		}
	} else {
		o := user.reach(result.Program, wantRead|wantEnter)
		if o != nil {
			o.Fix += ", or install with --copy"
		} else if mountedNoExec(result.Program) {
			o = &obstacle{What: result.Program + " is on a file system mounted noexec", Fix: "install with --copy"}
		}
		add(o)
	}
	if o := user.reach(in.dir, wantEnter); o != nil && !o.missing {
		add(o)
	}
	return append(found, callObstacles(user, result.Location)...)
}

// callObstacles are what keeps a user from socket and spool. Without a bridge they are not there yet.
func callObstacles(user account, l callout.Location) []obstacle {
	var found []obstacle
	for _, way := range []struct {
		path string
		want int
	}{{l.Socket, wantRead | wantWrite}, {l.Spool, wantRead | wantWrite | wantEnter}} {
		if way.path == "" {
			continue
		}
		o := user.reach(way.path, way.want)
		if o == nil {
			continue
		}
		if o.missing {
			o.Fix, o.Minor = "start the bridge (edr-bridge run)", way.path == l.Socket && l.Spool != ""
			if parent := user.reach(filepath.Dir(way.path), wantEnter); parent != nil && !parent.missing {
				o = parent
			}
		}
		found = append(found, *o)
	}
	return found
}

// refuse stops before anything is changed: with a program that cannot be run every rule would fail.
func (in *kumaInstall) refuse(problems []obstacle) error {
	if in.dryRun || in.force {
		return nil
	}
	for _, o := range problems {
		if !o.missing {
			return fail(exitFailed, "kuma.rights", errors.New(o.What), o.Fix)
		}
	}
	return nil
}

func (in *kumaInstall) carryOut(result kumaInstalled) error {
	if err := in.makeFolder(); err != nil {
		return err
	}
	for i, file := range result.Files {
		if i > 0 {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // the folder of the settings: everybody may look for files in it
				return fmt.Errorf("write %s: %w", file, err)
			}
		}
		// First where calls go, then the names that ask for it.
		if l, err := callout.ReadLocation(file); err == nil && l == result.Location {
			continue
		}
		if err := callout.WriteLocation(file, result.Location); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
	}
	return carryOut(in.dir, result.Program, result.Changes)
}

// makeFolder makes the scripts folder with the owner of the correlator's folder.
func (f *kumaFolder) makeFolder() error {
	err := os.Mkdir(f.dir, 0o755) //nolint:gosec // user kuma has to enter it
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("scripts folder: %w", err)
	}
	info, err := os.Stat(filepath.Dir(f.dir))
	if err != nil {
		return fmt.Errorf("scripts folder: %w", err)
	}
	if uid, gid, known := ownerOf(info); known && os.Geteuid() == 0 {
		return os.Lchown(f.dir, uid, gid)
	}
	return nil
}

func (a *app) printInstalled(in *kumaInstall, r kumaInstalled) error {
	return printOne(a, r, func(out io.Writer) error {
		var b strings.Builder
		done := map[string]string{"keep": "kept", "link": "linked", "copy": "copied"}
		if r.DryRun {
			done = map[string]string{"keep": "would be kept", "link": "would be linked", "copy": "would be copied"}
		}
		fmt.Fprintf(&b, "%s\n", r.Dir)
		for _, c := range r.Changes {
			fmt.Fprintf(&b, "  %s %s", c.Name, done[c.Do])
			if c.Kept != "" {
				fmt.Fprintf(&b, ", the script that was there is %s", c.Kept)
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "program %s\nsocket %s\nspool %s\n\n", r.Program, orDash(r.Location.Socket), orDash(r.Location.Spool))
		for _, o := range r.Problems {
			a.say("warning: %s", o.String())
		}
		if _, err := io.WriteString(out, b.String()); err != nil {
			return err
		}
		return writeKUMARules(out, r.Rules, in.lang)
	})
}
