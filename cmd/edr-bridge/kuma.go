package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/configs"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

const (
	// kumaCorrelators is where KUMA keeps the folders of its correlators (support.kaspersky.com/help/KUMA/3.0.2/en-US/233366.htm).
	kumaCorrelators = "/opt/kaspersky/kuma/correlator"
	kumaUser        = "kuma"
)

func (a *app) kumaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kuma",
		Short: "Put the nine response scripts of KUMA in place",
		Long: `KUMA's response rules of the type script start a program in the folder of the correlator. This program is a drop-in for
Kaspersky's nine scripts: under their names it reads their arguments and hands the call to the bridge.`,
		Example: `  # what would change on this correlator
  edr-bridge kuma install --correlator 2f743382-8313-4f45-a801-979367a0d0a3 --dry-run

  # put the names in place and print what to paste in KUMA
  edr-bridge kuma install --correlator 2f743382-8313-4f45-a801-979367a0d0a3

  # one rule, in Russian, that passes only the id of the event
  edr-bridge kuma rule isolateHost --event-id --lang ru`,
	}
	cmd.AddCommand(a.kumaInstallCommand(), a.kumaUninstallCommand(), a.kumaStatusCommand(), a.kumaRuleCommand())
	return cmd
}

// kumaScripts are the nine tasks that have a script, in the order of bridge.Kinds.
func kumaScripts() []bridge.Kind {
	var tasks []bridge.Kind
	for _, k := range bridge.Kinds() {
		if k.KSC() {
			tasks = append(tasks, k)
		}
	}
	return tasks
}

// kumaFolder is what the verbs that work on a scripts folder are told.
type kumaFolder struct {
	correlator, dir, user string
}

func (f *kumaFolder) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.correlator, "correlator", "", "id of the correlator: the name of its folder in "+kumaCorrelators)
	fl.StringVar(&f.dir, "dir", "", "the scripts folder, when it is not "+kumaCorrelators+"/ID/scripts")
	fl.StringVar(&f.user, "user", kumaUser, "the user the correlator runs scripts as")
}

// resolve fills in the folder.
func (f *kumaFolder) resolve() error {
	switch {
	case f.dir == "" && f.correlator == "":
		hint := ""
		if ids := kumaCorrelatorIDs(); len(ids) > 0 {
			hint = "; on this machine: " + strings.Join(ids, ", ")
		}
		return usagef("--correlator is required (or --dir)%s", hint)
	case f.correlator != "" && (strings.Trim(f.correlator, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || len(f.correlator) > 64):
		return usagef("--correlator %q: want the id of a correlator and nothing else", printable(f.correlator))
	case f.dir == "":
		f.dir = filepath.Join(kumaCorrelators, f.correlator, "scripts")
		return nil
	}
	abs, err := filepath.Abs(f.dir)
	if err != nil {
		return usagef("--dir: %w", err)
	}
	f.dir = abs
	return nil
}

// flag names the folder as a command line does.
func (f *kumaFolder) flag() string {
	if f.correlator != "" && f.dir == filepath.Join(kumaCorrelators, f.correlator, "scripts") {
		return "--correlator " + f.correlator
	}
	return "--dir " + f.dir
}

func kumaCorrelatorIDs() []string {
	entries, err := os.ReadDir(kumaCorrelators)
	if err != nil {
		return nil // not a correlator's server, or not ours to read
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

// kumaLocation is where calls go by the settings: the only source of the type kuma-script, or the one named.
func kumaLocation(set *configs.Settings, name string) (callout.Location, string, error) {
	var found []string
	for n, s := range set.Sources {
		if s.Type == configs.KUMAScript && (name == "" || name == n) {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 1:
		s := set.Sources[found[0]]
		return callout.Location{Socket: s.Socket, Spool: s.Spool}, found[0], nil
	case len(found) > 1:
		return callout.Location{}, "", usagef("the settings have several sources of the type kuma-script: say which with --source")
	case name != "":
		return callout.Location{}, "", usagef("--source %q: the settings have no source of the type kuma-script with this name", name)
	default:
		return callout.Location{}, "", fail(exitConfig, "kuma.source", fmt.Errorf("%s name no source of the type kuma-script", orSettings(set.File())),
			"add sources: {calls: {type: kuma-script}} to the settings, or give --socket and --spool")
	}
}

func orSettings(file string) string {
	if file == "" {
		return "the settings (no file was found)"
	}
	return file
}
