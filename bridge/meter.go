package bridge

import "time"

// Meter counts what happens in a pipeline. Its methods are called by many goroutines at once and must not block.
type Meter interface {
	// Alert counts a document a source handed over.
	Alert(source string)
	// Admitted counts a new order in its first state, and how long its commit took.
	Admitted(o Order, took time.Duration)
	// Moved counts an order that came from another state into o.State.
	Moved(o Order, from State)
	// Executed counts a call of an executor; err is its *ExecError or nil.
	Executed(executor string, took time.Duration, err error)
	// Lost counts alerts a source knows to be lost.
	Lost(source string, n int64)
}

// NoMeter counts nothing.
type NoMeter struct{}

// Alert implements Meter.
func (NoMeter) Alert(string) {}

// Admitted implements Meter.
func (NoMeter) Admitted(Order, time.Duration) {}

// Moved implements Meter.
func (NoMeter) Moved(Order, State) {}

// Executed implements Meter.
func (NoMeter) Executed(string, time.Duration, error) {}

// Lost implements Meter.
func (NoMeter) Lost(string, int64) {}
