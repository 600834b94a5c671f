package firewall

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/files"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

// underWine reports whether the Windows the test runs on is wine.
func underWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

func needWine(t *testing.T) {
	t.Helper()
	if !underWine() {
		t.Skip("changes this machine: only under wine, where that is a folder (make wine)")
	}
}

// fakePlatform is a filtering platform in memory. It keeps what it was given in the form the real one answers with.
type fakePlatform struct {
	rules    []*wf.Rule
	prepared bool
	tidied   int
	// onAdd sees each filter before it stands; an error refuses it. lie changes what is read back.
	onAdd func(*wf.Rule) error
	lie   func([]*wf.Rule) []*wf.Rule
	// onRemove sees each filter before it goes; an error keeps it.
	onRemove func(*wf.Rule) error
}

func (f *fakePlatform) prepare() error { f.prepared = true; return nil }
func (f *fakePlatform) close()         {}

func (f *fakePlatform) filters() ([]*wf.Rule, error) {
	out := make([]*wf.Rule, 0, len(f.rules))
	for _, r := range f.rules {
		c := *r
		out = append(out, &c)
	}
	if f.lie != nil {
		out = f.lie(out)
	}
	return out, nil
}

func (f *fakePlatform) add(r *wf.Rule) error {
	if !f.prepared {
		return fwpSublayerNotFound
	}
	if f.onAdd != nil {
		if err := f.onAdd(r); err != nil {
			return err
		}
	}
	c := *r
	c.Conditions = nil
	for _, m := range r.Conditions {
		d := *m
		if a, ok := d.Value.(netip.Addr); ok {
			d.Value = netip.PrefixFrom(a, a.BitLen())
		}
		c.Conditions = append([]*wf.Match{&d}, c.Conditions...)
	}
	f.rules = append(f.rules, &c)
	return nil
}

func (f *fakePlatform) remove(id wf.RuleID) error {
	if i := slices.IndexFunc(f.rules, func(r *wf.Rule) bool { return r.ID == id }); i >= 0 && f.onRemove != nil {
		if err := f.onRemove(f.rules[i]); err != nil {
			return err
		}
	}
	f.rules = slices.DeleteFunc(f.rules, func(r *wf.Rule) bool { return r.ID == id })
	return nil
}

func (f *fakePlatform) tidy() error {
	if len(f.rules) > 0 {
		return fwpInUse
	}
	f.prepared = false
	f.tidied++
	return nil
}

// fakeTasks is a task scheduler in memory.
type fakeTasks struct {
	at   time.Time
	fail error
}

func (f *fakeTasks) set(_ context.Context, at time.Time) error {
	if f.fail == nil {
		f.at = at
	}
	return f.fail
}

func (f *fakeTasks) clear(context.Context) error { f.at = time.Time{}; return f.fail }

// bench is a firewall over the fakes with a clock of its own.
type bench struct {
	*Firewall
	engine *fakePlatform
	tasks  *fakeTasks
	now    time.Time
}

// everybody are peers that leave nobody out: the fake cuts nothing, and the check for leaks must find no stranger to reach.
func everybody() []Peer {
	var out []Peer
	for _, p := range []string{
		"0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3", "::/1", "8000::/2", "c000::/3", "e000::/4", "f000::/5", "f800::/6", "fc00::/7", "fe00::/8",
	} {
		out = append(out, Peer{Host: p, Protocol: ProtocolAny})
	}
	return out
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	b := &bench{engine: &fakePlatform{}, tasks: &fakeTasks{}, now: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)}
	cfg.Now = func() time.Time { return b.now }
	var err error
	if b.Firewall, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	b.platform.open = func() (engine, error) { return b.engine, nil }
	b.platform.tasks = b.tasks
	b.platform.lock = filepath.Join(t.TempDir(), "lock")
	return b
}

func TestIsolationOnWindowsStandsAndEndsOnTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Allow: everybody(), State: t.TempDir()})
	r, err := b.Isolate(t.Context(), Isolation{OrderID: "o1", For: time.Hour, Reason: "test"})
	if err != nil || r.State != bridge.StateDone {
		t.Fatalf("isolate: %+v, %v", r, err)
	}
	if want := b.now.Add(time.Hour); !b.tasks.at.Equal(want) {
		t.Errorf("the task scheduler wakes us at %s, want %s", b.tasks.at, want)
	}
	st, err := b.Isolated(t.Context())
	if err != nil || !st.On || !st.Intact || st.Permanent || !st.Until.Equal(b.now.Add(time.Hour)) || st.OrderID != "o1" {
		t.Fatalf("state %+v, %v", st, err)
	}
	for _, f := range b.engine.rules {
		if !f.Persistent || f.Provider != ourProvider() || f.Sublayer != isolationSublayer() {
			t.Fatalf("filter %+v would not survive", f)
		}
	}

	b.now = b.now.Add(59 * time.Minute)
	if n, err := b.Expire(t.Context()); err != nil || n != 0 {
		t.Errorf("a minute too early: %d filters removed, %v", n, err)
	}
	b.now = b.now.Add(2 * time.Minute)
	if n, err := b.Expire(t.Context()); err != nil || n == 0 || len(b.engine.rules) != 0 {
		t.Errorf("the time is over: %d filters removed, %d left, %v", n, len(b.engine.rules), err)
	}
	if b.engine.tidied == 0 || !b.tasks.at.IsZero() {
		t.Errorf("left behind: tidied %d times, task at %s", b.engine.tidied, b.tasks.at)
	}
	if st, err := b.Isolated(t.Context()); err != nil || st.On {
		t.Errorf("state after the end: %+v, %v", st, err)
	}
}

func TestWhoLooksAfterTheEndTakesTheIsolationAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Allow: everybody()})
	if _, err := b.Isolate(t.Context(), Isolation{For: time.Minute}); err != nil {
		t.Fatal(err)
	}
	// Another process: it knows nothing but what the filters carry.
	b.now = b.now.Add(time.Hour)
	other := newBench(t, Config{})
	other.now, other.platform.open, other.platform.lock = b.now, b.platform.open, b.platform.lock
	if st, err := other.Isolated(t.Context()); err != nil || st.On || len(b.engine.rules) > 0 {
		t.Errorf("state %+v, %d filters, %v", st, len(b.engine.rules), err)
	}
}

func TestAnIsolationNobodyWouldEndIsNotMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Allow: everybody()})
	b.tasks.fail = errors.New("the service Schedule does not run")
	_, err := b.Isolate(t.Context(), Isolation{For: time.Hour})
	if v := verdict.Of(err); err == nil || v.Class != bridge.Retry || len(b.engine.rules) > 0 {
		t.Errorf("%v, %d filters", err, len(b.engine.rules))
	}
	c := newBench(t, Config{})
	c.tasks.fail = b.tasks.fail
	_, err = c.Block(t.Context(), bridge.BlockAddress{Address: "203.0.113.7"}, time.Minute)
	if v := verdict.Of(err); err == nil || v.Class != bridge.Retry || len(c.engine.rules) > 0 {
		t.Errorf("block: %v, %d filters", err, len(c.engine.rules))
	}
	if _, err := b.Isolate(t.Context(), Isolation{Permanent: true}); err != nil || len(b.engine.rules) == 0 {
		t.Errorf("a permanent isolation needs no scheduler: %v", err)
	}
}

func TestIsolationIsRenewedExtendedAndReleased(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Allow: everybody()})
	if _, err := b.Isolate(t.Context(), Isolation{For: time.Hour}); err != nil {
		t.Fatal(err)
	}
	before := len(b.engine.rules)
	if err := b.Extend(t.Context(), b.now.Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	st, err := b.Isolated(t.Context())
	if err != nil || !st.Intact || !st.Until.Equal(b.now.Add(3*time.Hour)) || len(b.engine.rules) != before {
		t.Errorf("extended: %+v, %d filters, want %d, %v", st, len(b.engine.rules), before, err)
	}
	for range 2 {
		if r, err := b.Release(t.Context(), "o2"); err != nil || r.State != bridge.StateDone || len(b.engine.rules) > 0 {
			t.Errorf("release: %+v, %d filters, %v", r, len(b.engine.rules), err)
		}
	}
}

func TestFiltersThatDoNotReadBackAreTakenBack(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func([]*wf.Rule) []*wf.Rule{
		"one is missing":  func(r []*wf.Rule) []*wf.Rule { return r[:max(0, len(r)-1)] },
		"one is disabled": func(r []*wf.Rule) []*wf.Rule { r[0].Disabled = true; return r },
		"one permits": func(r []*wf.Rule) []*wf.Rule {
			r[len(r)-1].Action = wf.ActionPermit
			return r
		},
		"one is about another address": func(r []*wf.Rule) []*wf.Rule {
			r[0].Conditions = []*wf.Match{{Field: wf.FieldIPRemoteAddress, Value: netip.MustParsePrefix("192.0.2.0/24")}}
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := func(cfg Config) (*bench, *int) {
				b, told := newBench(t, cfg), 0
				b.engine.lie = func(r []*wf.Rule) []*wf.Rule {
					if len(r) == 0 {
						return r
					}
					told++
					return lie(r)
				}
				return b, &told
			}
			b, told := liar(Config{})
			_, err := b.Block(t.Context(), bridge.BlockAddress{Address: "203.0.113.7"}, time.Minute)
			if err == nil || *told == 0 || len(b.engine.rules) > 0 {
				t.Errorf("block: %v, %d filters left, %d lies", err, len(b.engine.rules), *told)
			}
			b, told = liar(Config{Allow: everybody()})
			_, err = b.Isolate(t.Context(), Isolation{For: time.Minute})
			if err == nil || *told == 0 || len(b.engine.rules) > 0 {
				t.Errorf("isolate: %v, %d filters left, %d lies", err, len(b.engine.rules), *told)
			}
		})
	}
}

func TestAFilterThatIsRefusedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Allow: everybody()})
	n := 0
	b.engine.onAdd = func(*wf.Rule) error {
		if n++; n == 7 {
			return windows.ERROR_ACCESS_DENIED
		}
		return nil
	}
	if _, err := b.Isolate(t.Context(), Isolation{For: time.Minute}); err == nil || len(b.engine.rules) > 0 {
		t.Errorf("%v, %d filters left", err, len(b.engine.rules))
	}
}

func TestBlocksOnWindowsAreListedRenewedAndEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Never: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	block := func(addr string, d time.Duration) (bridge.Receipt, error) {
		return b.Block(t.Context(), bridge.BlockAddress{Address: addr}, d)
	}
	if r, err := block("203.0.113.7", time.Minute); err != nil || r.State != bridge.StateDone || !strings.Contains(r.Detail, "blocked until") {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := block("2001:db8::1", 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	if !b.tasks.at.Equal(b.now.Add(time.Minute)) {
		t.Errorf("woken at %s", b.tasks.at)
	}
	if r, err := block("203.0.113.7", 30*time.Second); err != nil || !strings.Contains(r.Detail, "already blocked") {
		t.Errorf("a shorter one: %+v, %v", r, err)
	}
	if _, err := block("203.0.113.7", 5*time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := block("198.51.100.9", time.Minute); verdict.Of(err).Reason != bridge.ReasonProtectedAddress {
		t.Errorf("a protected address: %v", err)
	}
	got, err := b.Blocked(t.Context())
	if err != nil || len(got) != 2 || len(b.engine.rules) != 4 {
		t.Fatalf("%+v, %d filters, %v", got, len(b.engine.rules), err)
	}
	b.now = b.now.Add(5*time.Minute + time.Second)
	if n, err := b.Expire(t.Context()); err != nil || n != 2 || !b.tasks.at.Equal(b.now.Add(5*time.Minute-time.Second)) {
		t.Errorf("%d removed, woken at %s, %v", n, b.tasks.at, err)
	}
	if err := b.Unblock(t.Context(), "203.0.113.7"); !errors.Is(err, ErrNotBlocked) {
		t.Errorf("unblock what is over: %v", err)
	}
	if err := b.Unblock(t.Context(), "2001:db8::1"); err != nil || len(b.engine.rules) > 0 {
		t.Errorf("unblock: %v, %d filters", err, len(b.engine.rules))
	}
}

func TestAForeignFilterOfOursIsAnErrorAndNotForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.engine.rules = []*wf.Rule{{ProviderData: []byte("{")}}
	if _, err := b.Expire(t.Context()); err == nil {
		t.Error("a filter without an end was passed over in silence")
	}
}

func TestChangesOfTwoProcessesComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Allow: everybody()})
	if _, err := b.Isolate(t.Context(), Isolation{For: time.Minute}); err != nil {
		t.Fatal(err)
	}
	planned, stood := b.tasks.at, len(b.engine.rules)
	// What another process has while it changes something.
	held, err := files.LockFile(b.platform.lock)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if _, err := b.Release(soon(), "o"); err == nil || len(b.engine.rules) != stood {
		t.Errorf("release: %v, %d of %d filters", err, len(b.engine.rules), stood)
	}
	c := newBench(t, Config{})
	c.platform.lock = b.platform.lock
	if _, err := c.Block(soon(), bridge.BlockAddress{Address: "203.0.113.7"}, time.Minute); err == nil || len(c.engine.rules) > 0 {
		t.Errorf("block: %v, %d filters", err, len(c.engine.rules))
	}
	b.now = b.now.Add(2 * time.Minute)
	n, err := b.Expire(soon())
	if err == nil || n != stood || len(b.engine.rules) > 0 || !b.tasks.at.Equal(planned) {
		t.Errorf("expire: %v, %d of %d filters removed, the task is due %s", err, n, stood, b.tasks.at)
	}
}

func TestWhoeverStopsInBetweenLeavesNobodyCutOffFromItsPeers(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*bench){
		"release": func(b *bench) { _, _ = b.Release(t.Context(), "o") },
		"expire":  func(b *bench) { b.now = b.now.Add(time.Hour); _, _ = b.Expire(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Config{Allow: everybody()})
			if _, err := b.Isolate(t.Context(), Isolation{For: time.Minute}); err != nil {
				t.Fatal(err)
			}
			b.engine.onRemove = func(r *wf.Rule) error {
				if r.Action == wf.ActionPermit {
					return windows.ERROR_ACCESS_DENIED
				}
				return nil
			}
			end(b)
			if slices.ContainsFunc(b.engine.rules, func(r *wf.Rule) bool { return r.Action == wf.ActionBlock }) || len(b.engine.rules) == 0 {
				t.Errorf("%d filters are left, a block among them, or no permit", len(b.engine.rules))
			}
		})
	}
}

func TestWithoutAFilteringPlatformOrdersAreRefused(t *testing.T) {
	needWine(t)
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Isolate(t.Context(), Isolation{For: time.Minute})
	if v := verdict.Of(err); v.Reason != bridge.ReasonUnsupported || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("isolate: %v", err)
	}
	_, err = w.Block(t.Context(), bridge.BlockAddress{Address: "203.0.113.7"}, time.Minute)
	if v := verdict.Of(err); v.Reason != bridge.ReasonUnsupported {
		t.Errorf("block: %v", err)
	}
	if _, err = w.Release(t.Context(), "o"); verdict.Of(err).Reason != bridge.ReasonUnsupported {
		t.Errorf("release: %v", err)
	}
	if _, err := w.Blocked(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("list: %v", err)
	}
	if _, err := ProbeTables(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("probe: %v", err)
	}
}
