package verdict

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestEachWordSaysWhatMayHaveHappened(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for name, c := range map[string]struct {
		err    error
		class  bridge.Class
		reason bridge.Reason
	}{
		"refused":              {Refuse(bridge.ReasonHold, "x: %w", cause), bridge.Permanent, bridge.ReasonHold},
		"hopeless":             {Hopeless("x: %w", cause), bridge.Permanent, bridge.ReasonNone},
		"untouched":            {Untouched("x: %w", cause), bridge.Retry, bridge.ReasonNone},
		"undecided":            {Undecided("x: %w", cause), bridge.Unknown, bridge.ReasonNone},
		"wrapped":              {fmt.Errorf("more: %w", Untouched("x: %w", cause)), bridge.Retry, bridge.ReasonNone},
		"nobody vouched for":   {fmt.Errorf("x: %w", cause), bridge.Unknown, bridge.ReasonNone},
		"the first one counts": {Undecided("x: %w", Untouched("y: %w", cause)), bridge.Unknown, bridge.ReasonNone},
	} {
		v := Of(c.err)
		if v.Class != c.class || v.Reason != c.reason || !errors.Is(v, cause) || !strings.Contains(v.Error(), "cause") {
			t.Errorf("%s: class %v, reason %q, %v", name, v.Class, v.Reason, v)
		}
	}
}

func TestStoppedSaysThatNothingHappened(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := Stopped(ctx, "look"); err != nil {
		t.Errorf("%v while nobody has stopped it", err)
	}
	why := errors.New("the bridge ends")
	cancel(why)
	if err := Stopped(ctx, "look"); Of(err).Class != bridge.Retry || !errors.Is(err, why) || err.Error() != "look: the bridge ends" {
		t.Errorf("stopped = %v", err)
	}
}

func TestShownDeceivesNoTerminal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/usr/bin/x": "/usr/bin/x", "": `""`, "a\nb": `"a\nb"`, "\x1b[2J": `"\x1b[2J"`, `a"b`: `"a\"b"`, "\u202eexe": `"\u202eexe"`, "\xff": `"\xff"`,
	} {
		if got := Shown(text); got != want {
			t.Errorf("Shown(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestListNamesSixteenAndCountsTheRest(t *testing.T) {
	t.Parallel()
	names := strings.Split(strings.Repeat("x ", listed+2), " ")[:listed+2]
	if got := List(names[:listed]); got != strings.Join(names[:listed], ", ") {
		t.Errorf("List of %d = %s", listed, got)
	}
	if got := List(names); !strings.HasSuffix(got, "x and 2 more") || strings.Count(got, "x") != listed {
		t.Errorf("List of %d = %s", len(names), got)
	}
}

func TestReceiptsSayWhetherTheEffectWasSeen(t *testing.T) {
	t.Parallel()
	if r := Done("ended"); r.State != bridge.StateDone || r.Detail != "ended" {
		t.Errorf("done = %+v", r)
	}
	if r := DryRun("would have ended"); r.State != bridge.StateShadow || r.Detail != "dry run: would have ended" {
		t.Errorf("dry run = %+v", r)
	}
}
