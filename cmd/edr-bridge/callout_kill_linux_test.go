package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestTwoThousandCallsSurviveKillsAndRestarts makes 2,000 calls of a script, two at a time, kills a third of them at random instants and the
// bridge again and again: each order is whole or absent, none is there twice, and every call that returned 0 is there.
func TestTwoThousandCallsSurviveKillsAndRestarts(t *testing.T) {
	const calls, atOnce, longest = 2000, 2, 12 * time.Millisecond
	y := newYard(t)
	y.install("--force")
	y.start()
	y.answers()

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ends := make([]made, calls)
	begun := time.Now()
	numbers := make(chan int)
	var callers sync.WaitGroup
	for range atOnce {
		callers.Go(func() {
			for i := range numbers {
				dice := rand.New(rand.NewPCG(seed, uint64(i)))
				var kill time.Duration
				if i%3 == 0 {
					kill = 1 + time.Duration(dice.Int64N(int64(longest)))
				}
				var err error
				ends[i], err = y.call(kill, "terminateProcess.py", "--targetHost="+identity().Names[0], "--path=/opt/kill me/"+strconv.Itoa(i))
				if err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			}
		})
	}
	restarts := 0
	for i := range calls {
		numbers <- i
		switch {
		case i%160 == 159: // about twice a second
			how := syscall.SIGKILL
			if restarts%4 == 3 {
				how = syscall.SIGTERM
			}
			y.stop(how)
			restarts++
			if restarts%3 != 0 {
				y.start()
			}
		case i%160 == 29 && !y.runs(): // these found nobody
			y.start()
		}
	}
	if !y.runs() {
		y.start()
	}
	close(numbers)
	callers.Wait()
	t.Logf("%d calls in %s, %d restarts", calls, time.Since(begun).Round(time.Millisecond), restarts)

	y.answers()
	if err := eventually(patience, func() error { return emptySpool(y.path("spool")) }); err != nil {
		t.Fatal(err)
	}
	y.stop(syscall.SIGTERM)
	y.checkOrders(ends)
	y.do("audit", "verify")
}

// emptySpool wants nothing to wait and nothing to have been put aside: what is there was whole.
func emptySpool(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%d entries are left in the spool directory, the first is %s", len(entries), entries[0].Name())
	}
	return nil
}

func (y *yard) checkOrders(ends []made) {
	y.t.Helper()
	var orders []struct {
		ID, State, Task, Host, Source string
		Params                        struct{ Path string }
	}
	if err := json.Unmarshal(y.do("tasks", "list", "--limit", "10000", "-o", "json"), &orders); err != nil {
		y.t.Fatal(err)
	}
	whole := regexp.MustCompile(`^/opt/kill me/(\d+)$`)
	there := map[int]string{}
	for _, o := range orders {
		m := whole.FindStringSubmatch(o.Params.Path)
		if m == nil || o.Task != "terminateProcess" || o.Host != identity().Names[0] || o.Source != "calls" || o.State == "" {
			y.t.Errorf("order is not whole: %+v", o)
			continue
		}
		i, err := strconv.Atoi(m[1])
		if err != nil || i >= len(ends) {
			y.t.Errorf("order of no call: %+v", o)
			continue
		}
		if twice, ok := there[i]; ok {
			y.t.Errorf("call %d became two orders: %s and %s", i, twice, o.ID)
		}
		there[i] = o.ID
	}
	counts := map[string]int{}
	for i, end := range ends {
		_, ok := there[i]
		switch {
		case end.killed && ok:
			counts["killed, whole"]++
		case end.killed:
			counts["killed, absent"]++
		case end.exit != exitDone:
			y.t.Errorf("call %d ended with %d", i, end.exit)
		case !ok:
			y.t.Errorf("call %d returned 0 (%s) and there is no order", i, end.state)
		default:
			counts[end.state]++
		}
	}
	y.t.Logf("ends: %v", counts)
	if counts["killed, whole"]+counts["killed, absent"] == 0 || counts["spooled"] == 0 {
		y.t.Error("nothing was killed or nothing spooled: the test looks at nothing")
	}
}

// TestInstallNeverLeavesAGap calls a name again and again while it is installed, changed to a copy and back, and uninstalled.
func TestInstallNeverLeavesAGap(t *testing.T) {
	y := newYard(t)
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip("there is no program to stand for the vendor's script")
	}
	syscall.ForkLock.RLock() // a child forked meanwhile would hold the file open for writing: busy for exec
	err = os.WriteFile(y.path("scripts/isolateHost.py"), data, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var callers sync.WaitGroup
	counts := make([]int, 2)
	for i := range counts {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				counts[i]++
				// A script's own interpreter would open the name a second time; a program is opened once.
				if end, err := y.call(0, "isolateHost.py", "--help"); err != nil || end.exit != 0 {
					t.Errorf("call %d: exit %d, %v", counts[i], end.exit, err)
					return
				}
			}
		})
	}
	// A call takes milliseconds; a gap of microseconds shows to who looks without a pause.
	looks := 0
	callers.Go(func() {
		for ; ; looks++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := os.Stat(y.path("scripts/isolateHost.py")); err != nil {
				t.Errorf("look %d: %v", looks, err)
				return
			}
		}
	})
	for range 5 {
		y.install("--force")
		y.install("--force", "--copy")
		y.install("--force")
		y.do("kuma", "uninstall", "--dir", y.path("scripts"), "--force")
	}
	close(stop)
	callers.Wait()
	t.Logf("%v calls, %d looks", counts, looks)
	if counts[0] < 20 {
		t.Error("hardly a call was made meanwhile: the test looks at nothing")
	}
	left, err := filepath.Glob(y.path("scripts/*"))
	hidden, _ := filepath.Glob(y.path("scripts/.*"))
	names := strings.Join(append(left, hidden...), " ")
	if err != nil || len(left) != 1 || len(hidden) != 0 || !strings.HasSuffix(names, "/isolateHost.py") {
		t.Errorf("left behind: %s", names)
	}
}

// TestScriptsEndWithTheCodeOfTheirOrder makes calls that a guard stops; one that a busy machine spooled is made again.
func TestScriptsEndWithTheCodeOfTheirOrder(t *testing.T) {
	y := newYard(t)
	y.install("--force")
	this := identity().Names[0]
	for name, tc := range map[string]struct {
		mode, host, state string
		exit              int
	}{
		"shadow":     {"shadow", this, "shadow", exitDone},
		"approval":   {"approve", this, "held", exitHeld},
		"protected":  {"enforce", "dc01", "refused", exitRefused},
		"other host": {"enforce", "elsewhere", "refused", exitRefused},
	} {
		settings := strings.Replace(yardSettings, "mode: enforce}", "mode: "+tc.mode+"}", 1) + "protect: {hosts: [\"dc*\"]}\n"
		if err := os.WriteFile(y.path("edr-bridge.yaml"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		y.start()
		y.answers()
		var got made
		for try := range 50 {
			var err error
			if got, err = y.call(0, "terminateProcess.py", "--targetHost="+tc.host, "--path=/opt/x"+strconv.Itoa(try)); err != nil {
				t.Fatal(err)
			}
			if got.state == tc.state {
				break
			}
		}
		if got.state != tc.state || got.exit != tc.exit {
			t.Errorf("%s: got %+v, want %s and %d", name, got, tc.state, tc.exit)
		}
		y.stop(syscall.SIGTERM)
	}
}
