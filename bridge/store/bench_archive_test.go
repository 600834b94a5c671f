package store

import (
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// BenchmarkArchive moves 100,000 finished orders to a file while alerts are admitted one after the other (aim: no admission waits
// more than 20 ms for it).
func BenchmarkArchive(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		buildBig(b, dir, 100_000, func(int) bridge.State { return bridge.StateDone })
		s, err := Open(b.Context(), Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		var worst time.Duration
		admit := func(n int64) {
			start := time.Now()
			if _, err := s.Admit(b.Context(), benchAdmission(b, n)); err != nil {
				b.Fatal(err)
			}
			worst = max(worst, time.Since(start))
		}
		for n := range int64(2000) {
			admit(1_000_000 + n)
		}
		before := worst
		worst = 0
		b.StartTimer()
		done := make(chan error, 1)
		start := time.Now()
		go func() {
			rep, err := s.Archive(b.Context(), time.Now().Add(-time.Hour), dir)
			if err == nil && rep.Orders != 100_000 {
				b.Errorf("%d orders, want 100000 (%s)", rep.Orders, rep.Stays)
			}
			done <- err
		}()
		n := int64(2_000_000)
		for running := true; running; n++ {
			select {
			case err := <-done:
				if err != nil {
					b.Fatal(err)
				}
				running = false
			default:
				admit(n)
			}
		}
		b.ReportMetric(float64(before.Microseconds()), "µs-worst-before")
		b.ReportMetric(float64(worst.Microseconds()), "µs-worst-meanwhile")
		b.ReportMetric(100_000/time.Since(start).Seconds(), "orders/s")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
