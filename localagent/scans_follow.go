package localagent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/firewall"
	"github.com/edr-bridge/edr-bridge/localagent/ioc"
	"github.com/edr-bridge/edr-bridge/localagent/jobs"
	"github.com/edr-bridge/edr-bridge/localagent/scan"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// scanned is what a scan leaves in its job.
type scanned struct {
	Scan *scan.Result `json:"scan,omitempty"`
	IOC  *ioc.Result  `json:"ioc,omitempty"`
	// Followed says what was done about what was found.
	Followed []string `json:"followed,omitempty"`
}

const (
	// followedShown is how many sentences about what followed stand in a receipt; all of them are in the job.
	followedShown = 16
	// mostListed is where shortening begins: no list of a result is longer than that by much.
	mostListed = 1 << 10
)

func shortened(said []string) []string {
	if len(said) <= followedShown {
		return said
	}
	return append(slices.Clone(said[:followedShown]), fmt.Sprintf("and %d more (edr-bridge agent jobs ORDER)", len(said)-followedShown))
}

// fit shortens the lists until the job can keep the result, and says in words what it left out. Which documents match and by which terms, all
// counts, and what followed stay.
func (s *scanned) fit() string {
	last := -1
	for most := mostListed; ; most /= 2 {
		b, err := json.Marshal(s) //nolint:musttag // a scan.Result is named by its fields
		switch {
		case err != nil || len(b) <= jobs.MaxResult:
			if last < 0 {
				return ""
			}
			return fmt.Sprintf("the job lists the first %d of each only, all would be too long", last)
		case last == 0:
			s.Followed = shortened(s.Followed)
			return "the job lists none of them, all would be too long"
		}
		if s.Scan != nil {
			s.Scan.Shorten(most)
		}
		if s.IOC != nil {
			s.IOC.Shorten(most)
		}
		last = most
	}
}

// aftermath is what is done about what one scan found.
type aftermath struct {
	a     *Agent
	o     bridge.Order
	found scanned
	// undone says that something did not happen for another reason than that a guard refused it.
	undone bool
}

// say notes what became of something that was asked for; done is true as well for what a guard refused.
func (f *aftermath) say(text string, done bool) {
	f.found.Followed = append(f.found.Followed, text)
	f.undone = f.undone || !done
}

// begin makes durable what is about to happen, with what has happened so far: if the agent ends before the scan does, this is what is known.
func (f *aftermath) begin(what string) error {
	return f.a.jobs.Note(f.o.ID, strings.Join(append(shortened(slices.Clone(f.found.Followed)), what), "; "))
}

// note makes durable what has happened.
func (f *aftermath) note() {
	if err := f.a.jobs.Note(f.o.ID, strings.Join(shortened(f.found.Followed), "; ")); err != nil {
		f.a.log.Warn("what followed from a scan is not in its record yet", "order", f.o.ID, "err", err)
	}
}

// end is what the job answers: what was seen, and what followed. It has failed when err or something that was asked for says so; its result
// is kept all the same.
func (f *aftermath) end(text string, err error) (string, any, error) {
	cut := f.found.fit()
	parts := slices.DeleteFunc(append([]string{text}, append(shortened(f.found.Followed), cut)...), func(s string) bool { return s == "" })
	text = strings.Join(parts, "; ")
	switch {
	case err != nil && text != "":
		return "", f.found, fmt.Errorf("%w; %s", verdict.Of(err).Err, text)
	case err != nil:
		return "", f.found, verdict.Of(err).Err
	case f.undone:
		return "", f.found, fmt.Errorf("not all that was asked for has happened: %s", text)
	default:
		return text, f.found, nil
	}
}

// followUp does what the task asks for when something was found: first the network, because what follows takes time.
func (f *aftermath) followUp(ctx context.Context, t bridge.IOCScan, found *ioc.Result, tell func(string)) {
	if t.IsolateHost {
		f.isolate(ctx)
	}
	if t.QuarantineObject {
		f.quarantineFiles(ctx, found)
	}
	if t.ScanCriticalAreas {
		f.scanCriticalAreas(ctx, tell)
	}
}

// isolate isolates this machine because of what was found. The order it belongs to is the scan's.
func (f *aftermath) isolate(ctx context.Context) {
	order := f.o
	order.Task, order.For = bridge.IsolateHost{Action: bridge.IsolationOn}, 0
	if reason, why := f.a.follows(order); reason != bridge.ReasonNone {
		f.say("not isolated: "+why, true)
		return
	}
	if err := f.begin("is isolating this machine"); err != nil {
		f.say("not isolated: "+err.Error(), false)
		return
	}
	// Without a lease in the bridge: those of other orders must not end it.
	wish := firewall.Isolation{OrderID: f.o.ID, Claim: true, Who: f.o.Actor}
	if f.o.Rule != "" {
		wish.Who = "rule " + f.o.Rule
	}
	r, err := f.a.wall.Isolate(ctx, wish)
	if err == nil {
		f.say(r.Detail, true)
		f.note()
		return
	}
	v, words := verdict.Of(err), "not isolated: "
	if v.Class == bridge.Unknown {
		words = "may be isolated: "
	}
	f.say(words+err.Error(), v.Reason != bridge.ReasonNone)
	f.note()
}

// quarantineFiles takes away the files that take part in a match.
func (f *aftermath) quarantineFiles(ctx context.Context, found *ioc.Result) {
	listed := int64(len(found.Files))
	switch all := listed + found.MoreFiles; {
	case all == 0:
		f.say("no file takes part in a match: nothing is taken away, programs of processes and services neither", true)
		return
	case all > int64(f.a.cfg.MaxTargets):
		f.say(f.tooMany(all), true)
		return
	}
	f.takeAll(ctx, listed, found.MoreFiles, func(take func(path, sha256 string)) {
		for _, t := range found.Files {
			take(string(t.Path), t.SHA256)
		}
	})
}

// quarantineFindings takes away what onDemandScan found.
func (f *aftermath) quarantineFindings(ctx context.Context, found *scan.Result) {
	listed := int64(len(found.Findings))
	switch {
	case found.Infected == 0:
		return
	case found.Infected > int64(f.a.cfg.MaxTargets):
		f.say(f.tooMany(found.Infected), true)
		return
	}
	f.takeAll(ctx, listed, found.Infected-listed, func(take func(path, sha256 string)) {
		for _, t := range found.Findings {
			switch {
			case t.Kind != scan.KindFile:
				f.say(verdict.Shown(t.Path)+" is no file that can be taken away", true)
			case t.Protected != "":
				f.say(fmt.Sprintf("%s is left alone: %s", verdict.Shown(t.Path), t.Protected), true)
			default:
				take(t.Path, t.SHA256)
			}
		}
	})
}

// takeAll notes that files are being taken away, lets each name them, and says how many were found and are not listed.
func (f *aftermath) takeAll(ctx context.Context, listed, more int64, each func(take func(path, sha256 string))) {
	if err := f.begin(fmt.Sprintf("is taking up to %d files away (edr-bridge quarantine list)", listed)); err != nil {
		f.say("no file is taken away: "+err.Error(), false)
		return
	}
	each(func(path, sha256 string) { f.takeAway(ctx, path, sha256) })
	if more > 0 {
		f.say(fmt.Sprintf("%d more files were found than are listed: they are left alone", more), false)
	}
	f.note()
}

// tooMany says that a list is longer than one order may act on: a signature that hits that much is a mistake, or for people to look at.
func (f *aftermath) tooMany(n int64) string {
	return fmt.Sprintf("%d files would be taken away, one order may take %d (max_targets): all are left alone", n, f.a.cfg.MaxTargets)
}

// takeAway quarantines a file a scan found, by the digest the scan saw.
func (f *aftermath) takeAway(ctx context.Context, path, sha256 string) {
	left := verdict.Shown(path) + " is left alone: "
	if sha256 == "" {
		f.say(left+"its digest is not known", false)
		return
	}
	order := f.o
	order.Task = bridge.QuarantineFile{SHA256: sha256} // the vault judges the path, by the file it has open
	if reason, why := f.a.follows(order); reason != bridge.ReasonNone {
		f.say(left+why, true)
		return
	}
	r, err := f.a.vault.QuarantineFound(ctx, f.o.ID, path, sha256)
	if err == nil {
		f.say(r.Detail, true)
		return
	}
	v := verdict.Of(err)
	if v.Class == bridge.Unknown {
		left = verdict.Shown(path) + " may have been taken away: "
	}
	f.say(left+err.Error(), v.Reason != bridge.ReasonNone)
}

// scanCriticalAreas scans what runs and what starts, and takes away what it finds as onDemandScan does.
func (f *aftermath) scanCriticalAreas(ctx context.Context, tell func(string)) {
	areas := []bridge.ScanObject{
		{Enabled: true, Type: bridge.ScanSystemMemory},
		{Enabled: true, Type: bridge.ScanStartupAndProcesses},
		{Enabled: true, Type: bridge.ScanDiskBootSectors},
	}
	result, err := f.a.scans.Scan(ctx, areas, func(p scan.Progress) { tell("critical areas: " + scanProgress(p)) })
	text := scanText(&result, err)
	if err != nil {
		text = strings.TrimSuffix(verdict.Of(err).Err.Error()+"; "+text, "; ")
	}
	f.say("critical areas: "+text, err == nil)
	f.found.Scan = &result
	if f.a.cfg.QuarantineFindings && context.Cause(ctx) == nil {
		f.quarantineFindings(ctx, &result)
	}
}
