package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// kumaStatus is the result of kuma status.
type kumaStatus struct {
	Dir   string     `json:"dir"`
	Names []kumaName `json:"names"`
	// Location is where calls go, File the file that says so; both empty when none does.
	Location callout.Location `json:"location"`
	File     string           `json:"file,omitempty"`
	// Spooled is how many calls wait, -1 when that cannot be told.
	Spooled int `json:"spooled"`
	// LastCall is when the newest order of a call was admitted; empty when there is none or it cannot be told.
	LastCall string     `json:"last_call,omitempty"`
	Problems []obstacle `json:"problems,omitempty"`
}

func (a *app) kumaStatusCommand() *cobra.Command {
	var f kumaFolder
	cmd := &cobra.Command{
		Use:   "status --correlator ID",
		Short: "Show what stands under the nine names, who may run it, and the last call",
		Example: `  edr-bridge kuma status --correlator 2f743382-8313-4f45-a801-979367a0d0a3
  edr-bridge kuma status --dir /srv/scripts -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.resolve(); err != nil {
				return err
			}
			user, err := lookUpAccount(f.user)
			if err != nil {
				return err
			}
			st, err := lookAtKUMA(&f, user)
			if err != nil {
				return err
			}
			last, known, err := a.lastCall(cmd.Context())
			switch {
			case err != nil:
				st.Problems = append(st.Problems, obstacle{What: "the last call is not known: " + err.Error()})
			case known:
				st.LastCall = stamp(last)
			}
			if err := a.printKUMAStatus(st); err != nil {
				return err
			}
			if slices.ContainsFunc(st.Problems, func(o obstacle) bool { return !o.Minor }) {
				return &problem{exit: exitFailed, code: "kuma.status", err: fmt.Errorf("%d problems", len(st.Problems)), quiet: true}
			}
			return nil
		},
	}
	f.flags(cmd)
	return cmd
}

// lookAtKUMA looks at a scripts folder; nothing is changed.
func lookAtKUMA(f *kumaFolder, user account) (kumaStatus, error) {
	st := kumaStatus{Dir: f.dir, Spooled: -1}
	if there, err := f.folder(); err != nil || !there {
		if err == nil {
			err = fail(exitNotFound, "kuma.folder", fmt.Errorf("%s: nothing is installed there", f.dir), "edr-bridge kuma install "+f.flag())
		}
		return st, err
	}
	var err error
	if st.Names, err = lookAtNames(f.dir); err != nil {
		return st, fmt.Errorf("scripts folder: %w", err)
	}
	for _, n := range st.Names {
		switch n.State {
		case nameMissing:
			st.Problems = append(st.Problems, obstacle{What: n.Name + " is missing: a correlator with a rule that uses it does not work", Fix: "edr-bridge kuma install " + f.flag()})
		case nameForeign:
			st.Problems = append(st.Problems, obstacle{What: n.Name + " is none of ours", Fix: "edr-bridge kuma install " + f.flag()})
		default:
			if o := user.reach(n.path, wantRead|wantEnter); o != nil {
				st.Problems = append(st.Problems, *o)
			}
		}
	}
	program, err := os.Executable()
	if err != nil {
		program = "" // the other places are left
	}
	if st.Location, st.File, err = callout.Locate(filepath.Join(f.dir, callout.ScriptName(kumaScripts()[0])), program); err != nil {
		st.Problems = append(st.Problems, obstacle{What: err.Error()})
	}
	st.Problems = append(st.Problems, callObstacles(user, st.Location)...)
	if st.Location.Spool != "" {
		if n, err := waitingCalls(st.Location.Spool); err == nil {
			st.Spooled = n
		}
	}
	return st, nil
}

func (a *app) printKUMAStatus(st kumaStatus) error {
	return printOne(a, st, func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "NAME\tIS\tLEADS TO\tKEPT")
		for _, n := range st.Names {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, n.State, orDash(printable(n.Target)), orDash(printable(strings.Join(n.Kept, " "))))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		spooled := "-"
		if st.Spooled >= 0 {
			spooled = fmt.Sprint(st.Spooled)
		}
		_, err := fmt.Fprintf(out, "\nsocket %s\nspool %s (waiting: %s)\nsaid by %s\nlast call %s\n",
			orDash(st.Location.Socket), orDash(st.Location.Spool), spooled, orDash(st.File), orDash(st.LastCall))
		for _, o := range st.Problems {
			a.say("problem: %s", o.String())
		}
		return err
	})
}
