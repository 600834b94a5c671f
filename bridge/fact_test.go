package bridge

import (
	"testing"
	"time"
)

func TestWindowKeepsMarksInOrderAndForgetsOnlyTheOld(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	sec := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	w := &window{}
	for _, n := range []int{10, 30, 20, 20, 5} { // the clock was set back twice
		w.add(sec(n), "o")
	}
	for since, want := range map[int]int{0: 5, 5: 4, 19: 3, 20: 1, 30: 0} {
		if got := w.count(sec(since)); got != want {
			t.Errorf("%d marks after second %d, want %d", got, since, want)
		}
	}
	if got := w.oldest(sec(10)); !got.Equal(sec(20)) {
		t.Errorf("oldest after second 10 is %s", got)
	}
	if got := w.oldest(sec(30)); !got.IsZero() {
		t.Errorf("oldest after second 30 is %s, want none", got)
	}
	// A look ahead must not cost what counts when the clock is set back by some seconds.
	if w.count(sec(60)) != 0 || w.count(sec(4)) != 5 {
		t.Error("marks were forgotten too early")
	}
	w.forget(sec(1000))
	if !w.empty() || w.count(sec(0)) != 0 {
		t.Error("old marks were kept")
	}
}

func TestWindowDropsTheMarkOfItsOrderOnly(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	w := &window{}
	for i := range 300 {
		w.add(start.Add(time.Duration(i)*time.Minute), string(rune('a'+i%3)))
		w.count(start.Add(time.Duration(i-10) * time.Minute))
	}
	now := start.Add(299 * time.Minute)
	since := now.Add(-10 * time.Minute)
	for left := w.count(since); left > 0; left-- {
		w.drop("nobody")
		if got := w.count(since); got != left {
			t.Fatalf("%d marks after dropping nobody's, want %d", got, left)
		}
		w.drop(w.marks[len(w.marks)-1].order)
		if got := w.count(since); got != left-1 {
			t.Fatalf("%d marks after dropping one, want %d", got, left-1)
		}
	}
	w.drop("a")
	if len(w.marks) > 200 {
		t.Errorf("%d marks are in memory", len(w.marks))
	}
}
