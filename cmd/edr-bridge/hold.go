package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func (a *app) holdCommand() *cobra.Command {
	return a.switchCommand(true, &cobra.Command{
		Use:   "hold --reason TEXT",
		Short: "Stop everything but releases until resume",
		Long: `Latch the stop: from now on nothing is sent but releases (isolateHost action 0), whoever asks. The latch is in the store:
it survives restarts, and a running bridge notices it within a second. Orders that come in meanwhile are held and
go on at resume if they are not too old by then.`,
		Example: `  edr-bridge hold --reason "INC-311: rule 7 kills the backup agent"`,
	})
}

func (a *app) resumeCommand() *cobra.Command {
	return a.switchCommand(false, &cobra.Command{
		Use:     "resume --reason TEXT",
		Short:   "Take the hold back",
		Example: `  edr-bridge resume --reason "INC-311: rule fixed"`,
	})
}

func (a *app) switchCommand(active bool, cmd *cobra.Command) *cobra.Command {
	var reason string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needReason(reason); err != nil {
			return err
		}
		d, done, err := a.openDesk(cmd.Context())
		if err != nil {
			return err
		}
		defer done()
		before, err := d.Hold(cmd.Context())
		if err != nil {
			return err
		}
		now := bridge.Hold{Active: active, Reason: reason, Actor: actor(), Since: time.Now().UTC()}
		if err := d.SetHold(cmd.Context(), now); err != nil {
			return err
		}
		view := struct {
			Hold    bool   `json:"hold"`
			Changed bool   `json:"changed"`
			Reason  string `json:"reason"`
			Actor   string `json:"actor"`
		}{active, before.Active != active, reason, now.Actor}
		return printOne(a, view, func(w io.Writer) error {
			text := "on hold: nothing is sent but releases; `edr-bridge resume --reason …` takes it back"
			if !active {
				text = "resumed"
			}
			if !view.Changed {
				text += " (it stood so before)"
			}
			_, err := fmt.Fprintln(w, text)
			return err
		})
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record (required)")
	return cmd
}
