package redisbus

import (
	"context"
	"sync"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// NoteForeignAck is the Note.What of entries that another consumer took or acknowledged while this one
	// held them: they may have been mapped twice.
	NoteForeignAck = "foreign_ack"

	noteEvery = time.Second
	// maxNotes bounds the different notes kept for the next second.
	maxNotes = 64
	// maxNoteText bounds what a server or a document can put into a note, a log line or a dead letter.
	maxNoteText = 300
)

// notes hands Notes over on a goroutine of its own, because writing an audit record may block. Equal notes of
// one second are handed over as one with their counts added.
type notes struct {
	emit func(bridge.Note)
	wake chan struct{}
	// mu guards pending.
	mu      sync.Mutex
	pending []bridge.Note
}

func newNotes(emit func(bridge.Note)) *notes {
	if emit == nil {
		emit = func(bridge.Note) {}
	}
	return &notes{emit: emit, wake: make(chan struct{}, 1)}
}

// add never blocks. When there are too many different notes, the counts of one kind are added up and the
// details of the later ones are left out.
func (n *notes) add(note bridge.Note) {
	note.Detail = clip(note.Detail)
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.pending {
		p := &n.pending[i]
		if p.What == note.What && (p.Detail == note.Detail || len(n.pending) >= maxNotes) {
			p.Count += note.Count
			return
		}
	}
	n.pending = append(n.pending, note)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run hands notes over until ctx ends: the first at once, later ones a second apart.
func (n *notes) run(ctx context.Context) {
	defer n.flush()
	for {
		select {
		case <-n.wake:
		case <-ctx.Done():
			return
		}
		n.flush()
		if !pause(ctx, noteEvery) {
			return
		}
	}
}

func (n *notes) flush() {
	n.mu.Lock()
	list := n.pending
	n.pending = nil
	n.mu.Unlock()
	for _, note := range list {
		n.emit(note)
	}
}

// clip keeps hostile text short.
func clip(s string) string {
	if len(s) <= maxNoteText {
		return s
	}
	return s[:maxNoteText] + "…"
}
