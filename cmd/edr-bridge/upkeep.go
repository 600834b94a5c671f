package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/bridge/redisbus"
	"github.com/edr-bridge/edr-bridge/bridge/store"
)

const (
	// archiveEvery is how often old records move to the archive, archiveFirst when for the first time after the start.
	archiveEvery = 24 * time.Hour
	archiveFirst = 5 * time.Minute
)

// keepAudit writes anchors and moves old records to the archive, until ctx ends.
func (w *wiring) keepAudit(ctx context.Context, st *store.Store) {
	var anchors <-chan time.Time
	if every := w.set.Audit.AnchorEvery; every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		anchors = ticker.C
		w.anchor(ctx, st)
	}
	archive := time.NewTimer(archiveFirst)
	defer archive.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-anchors:
			w.anchor(ctx, st)
		case <-archive.C:
			w.archive(ctx, st)
			archive.Reset(archiveEvery)
		}
	}
}

// anchor notes the head of the chain where the settings say: in the log always, so that a log that leaves the machine
// carries it along.
func (w *wiring) anchor(ctx context.Context, st *store.Store) {
	head, err := st.Anchor(ctx)
	if err != nil {
		w.log.Warn("audit chain was not anchored", "err", err)
		return
	}
	w.log.Info("audit anchor", "anchor", formatAnchor(head))
	if w.anchored != nil {
		w.anchored(head.Seq)
	}
	if path := w.set.Audit.AnchorFile; path != "" {
		if err := store.AppendAnchor(path, head, time.Now()); err != nil {
			w.log.Warn("anchor was not written to its file", "path", path, "err", err)
		}
	}
	if err := w.anchorStream(ctx, head); err != nil && ctx.Err() == nil {
		w.log.Warn("anchor was not added to its stream", "err", err)
	}
}

// anchorStream adds the anchor to a stream of Redis, beyond the reach of who owns this machine.
func (w *wiring) anchorStream(ctx context.Context, head bridge.Anchor) error {
	to := w.set.Audit.AnchorStream
	if to == nil {
		return nil
	}
	source := w.set.Sources[to.Source]
	if source == nil {
		return fmt.Errorf("audit.anchor_stream: no source is called %q", to.Source)
	}
	opts, err := w.redisOptions(source)
	if err != nil {
		return err
	}
	pub, err := redisbus.NewPublisher(redisbus.PublisherConfig{Options: opts})
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	_, err = pub.Add(ctx, to.Stream, []byte(formatAnchor(head)), "")
	return err
}

// archive moves what is older than audit.keep.
func (w *wiring) archive(ctx context.Context, st *store.Store) {
	if w.set.Audit.Keep <= 0 {
		return
	}
	report, err := st.Archive(ctx, time.Now().Add(-w.set.Audit.Keep), w.set.Audit.Archive)
	switch {
	case err != nil && ctx.Err() == nil:
		w.log.Warn("old records were not archived", "err", err)
	case err == nil && report.Records > 0:
		w.log.Info("old records archived", "path", report.File, "records", report.Records, "orders", report.Orders)
	}
}

// knownAnchors reads the anchors of the anchor file; none when there is no file yet.
func (w *wiring) knownAnchors() ([]bridge.Anchor, error) {
	if w.set.Audit.AnchorFile == "" {
		return nil, nil
	}
	anchors, err := store.ReadAnchors(w.set.Audit.AnchorFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return anchors, err
}
