package redisbus

import "sync/atomic"

// Stats are counters since New; all but Queued and InHand only grow.
type Stats struct {
	// Received counts documents read from Redis, Delivered those handed to Receive's caller, redeliveries included.
	Received, Delivered int64
	// Dropped counts Pub/Sub messages lost to a full queue, Gaps resubscriptions after a lost connection.
	Dropped, Gaps int64
	// Lost counts stream entries known to be deleted before they were delivered.
	Lost int64
	// Acked counts acknowledged entries, ForeignAcks those another consumer took or acknowledged.
	Acked, ForeignAcks int64
	// Redelivered counts entries delivered again, Recovered own pending entries found by a sweep,
	// Claimed entries taken over from other consumers.
	Redelivered, Recovered, Claimed int64
	// BadAlerts counts documents refused as unreadable or too large, DeadLetters those written to the dead-letter stream.
	BadAlerts, DeadLetters int64
	// Queued is how many documents wait for Receive, InHand how many entries are read and not yet acknowledged.
	Queued, InHand int
}

// counters are the live form of Stats.
type counters struct {
	received, delivered, dropped, gaps, lost, acked, foreign atomic.Int64
	redelivered, recovered, claimed, badAlerts, deadLetters  atomic.Int64
}

func (c *counters) snapshot() Stats {
	return Stats{
		Received: c.received.Load(), Delivered: c.delivered.Load(), Dropped: c.dropped.Load(), Gaps: c.gaps.Load(),
		Lost: c.lost.Load(), Acked: c.acked.Load(), ForeignAcks: c.foreign.Load(), Redelivered: c.redelivered.Load(),
		Recovered: c.recovered.Load(), Claimed: c.claimed.Load(), BadAlerts: c.badAlerts.Load(), DeadLetters: c.deadLetters.Load(),
	}
}
