package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// crashHits is how often each crash point has to be hit at least, and crashShare the part of the kills the crash points get.
	crashHits  = 6
	crashShare = 0.65
	// crashWithin is how long a bridge may take to come by the place it is to die at.
	crashWithin = 4 * time.Second
)

// deck deals out how bridges die: at each crash point a number of times, and at random instants else.
type deck struct {
	random *rand.Rand
	kills  int            // still to be dealt
	owed   map[string]int // by crash point
	tries  map[string]int // deaths dealt and not died, by crash point
}

// hitsOf is how often each crash point is to be hit in so many kills.
func hitsOf(kills int) int { return int(crashShare*float64(kills)) / len(bridge.CrashPoints()) }

func newDeck(random *rand.Rand, kills, hits int) *deck {
	d := &deck{random: random, kills: kills, owed: map[string]int{}, tries: map[string]int{}}
	for _, point := range bridge.CrashPoints() {
		if hits > 0 {
			d.owed[point] = hits
		}
	}
	return d
}

// deal returns a crash point and how often it is passed before, or no point for a random instant.
func (d *deck) deal() (point string, passes int) {
	owed := 0
	for _, n := range d.owed {
		owed += n
	}
	// Ahead of an even spread, because a point may be missed and has to be dealt again.
	if d.random.IntN(max(d.kills, 1)) >= 2*owed {
		return "", 0
	}
	pick := d.random.IntN(owed)
	for _, p := range slices.Sorted(maps.Keys(d.owed)) {
		if pick -= d.owed[p]; pick < 0 {
			return p, d.passes(p)
		}
	}
	return "", 0
}

// owes reports whether some crash point was not hit often enough.
func (d *deck) owes() bool { return len(d.owed) > 0 }

// passes is how often a bridge comes by a point before it dies there. What happens seldom in the life of one bridge is not
// waited for long, nor is a point that was not reached lately.
func (d *deck) passes(point string) int {
	most := 16
	switch point {
	case bridge.CrashLease, bridge.CrashFollowed:
		most = 1
	case bridge.CrashLooking, bridge.CrashLooked, bridge.CrashBeforeAck, bridge.CrashAfterAck:
		most = 3
	}
	return d.random.IntN(max(most>>min(d.tries[point], 8), 1))
}

// dealt notes how a bridge died: at the point it was dealt or, point being empty or missed, by our hand.
func (d *deck) dealt(point string, missed bool) {
	d.kills--
	switch {
	case point == "":
	case missed:
		d.tries[point]++
	default:
		d.tries[point] = 0
		if d.owed[point]--; d.owed[point] <= 0 {
			delete(d.owed, point)
		}
	}
}

// lifetime is how long a bridge lives that dies at a random instant: mostly a moment, sometimes long enough for a search and a
// resend, a lease and a look at the tasks to be hit.
func (d *deck) lifetime() time.Duration {
	wait := 20*time.Millisecond + time.Duration(d.random.Int64N(int64(230*time.Millisecond)))
	if d.random.IntN(10) == 0 {
		wait += 1500 * time.Millisecond
	}
	return wait
}

var errEndedByItself = errors.New("the bridge ended by itself")

// killOnce lets a bridge live until it dies as dealt, with n fresh alerts.
func (a *act) killOnce(ctx context.Context, n int, isolate bool) error {
	point, passes := a.deck.deal()
	crash := ""
	if point != "" {
		crash = fmt.Sprintf("%s:%d", point, passes)
	}
	r, err := a.stage.run(ctx, crash)
	if err != nil {
		return err
	}
	a.watch.set(r.cmd.Process.Pid)
	fed := make(chan error, 1)
	go func() { fed <- a.feed.add(ctx, n, isolate) }()
	within := crashWithin
	if point == "" {
		within = a.deck.lifetime()
	}
	died := r.wait(ctx, within)
	if !died {
		r.kill()
	}
	if err := <-fed; err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !r.killed():
		return fmt.Errorf("%w: %w (see %s)", errEndedByItself, r.err, a.stage.dir)
	case died && point == "":
		return fmt.Errorf("%w by SIGKILL at no crash point", errEndedByItself)
	}
	a.deck.dealt(point, !died)
	switch {
	case died:
		a.hits[point]++
	case point != "":
		a.missed++
	}
	return nil
}
