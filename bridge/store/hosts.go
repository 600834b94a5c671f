package store

import (
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
)

// Orders are found by host through lists that the writer makes of every hostBlock orders once they are there, after the callers have
// their answers: an index of the table would cost every admission a page of its own as soon as the store is large.
// A list holds, for one block and one of hostBuckets kinds of host, 8 bytes an order: 4 of the host's hash and the
// place of the order in its block. Later orders are looked for one by one.
const (
	hostBlock   = 8192
	hostBuckets = 256

	// settingHosts is the first block without lists.
	settingHosts = "hosts"

	selectBlock = `SELECT seq, host FROM orders INDEXED BY orders_scan WHERE seq > ? AND seq <= ? AND host IS NOT NULL`
	insertHosts = `INSERT OR REPLACE INTO hosts (bucket, block, orders) VALUES (?, ?, ?)`
	selectHosts = `SELECT block, orders FROM hosts WHERE bucket = ? ORDER BY block DESC`
	deleteHosts = `DELETE FROM hosts WHERE bucket = ? AND block < ?`
	// ofHosts are the orders of a host: those without a list, and those of a list whose host it really is.
	ofHosts = `SELECT seq FROM orders INDEXED BY orders_scan WHERE seq > ? AND host = ?
	UNION SELECT o.seq FROM json_each(?) l JOIN orders o ON o.seq = l.value WHERE o.host = ?`
)

// hostKey returns the bucket and the mark of a host.
func hostKey(host string) (bucket int64, mark uint32) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(host)) // a hash takes everything
	sum := h.Sum64()
	return int64(sum % hostBuckets), uint32(sum >> 32)
}

// listHosts makes the lists of the next block in a transaction of its own. A process that lives for one order leaves that to others.
func (w *writer) listHosts() {
	if w.lastOrder < w.hostsDue || w.store.cfg.Owner != OwnerRun || w.lastOrder < hostBlock {
		return
	}
	// An error is reported by try; the next commit leads here again.
	_ = w.try([]*request{{apply: (*tx).listHosts}}, make([]error, 1))
}

// listHosts makes the lists of the next block when it is full.
func (t *tx) listHosts() error {
	block, err := t.nextBlock()
	if err != nil {
		return err
	}
	if t.lastOrder >= (block+1)*hostBlock {
		if err := t.listBlock(block); err != nil {
			return err
		}
		block++
		if _, err := t.run(upsertSetting, settingHosts, strconv.FormatInt(block, 10)); err != nil {
			return err
		}
	}
	t.w.hostsDue = (block + 1) * hostBlock
	return nil
}

func (t *tx) nextBlock() (int64, error) {
	value, err := t.setting(settingHosts)
	if err != nil || value == "" {
		return 0, err
	}
	return strconv.ParseInt(value, 10, 64)
}

func (t *tx) listBlock(block int64) error {
	var lists [hostBuckets][]byte
	err := t.each(selectBlock, []driver.Value{block * hostBlock, (block + 1) * hostBlock}, func(row []driver.Value) error {
		bucket, mark := hostKey(asText(row[1]))
		list := binary.BigEndian.AppendUint32(lists[bucket], mark)
		lists[bucket] = binary.BigEndian.AppendUint32(list, uint32(asInt(row[0])-block*hostBlock)) //nolint:gosec // at most hostBlock
		return nil
	})
	for bucket, list := range lists {
		if err == nil && list != nil {
			_, err = t.run(insertHosts, int64(bucket), block, list)
		}
	}
	return err
}

// dropHosts deletes lists of blocks whose orders are all before a place.
func (t *tx) dropHosts(before int64) error {
	for bucket := range int64(hostBuckets) {
		if _, err := t.run(deleteHosts, bucket, before/hostBlock); err != nil {
			return err
		}
	}
	return nil
}

// listed returns the places of orders that are probably about the host, newest first, and the place after which there are no lists.
func (c *conn) listed(ctx context.Context, host string) (seqs []int64, until int64, err error) {
	// The mark first: what is listed after it was read is looked for one by one, never missed.
	row, err := c.first(ctx, selectSetting, settingHosts)
	if err != nil || row == nil {
		return nil, 0, err
	}
	blocks, err := strconv.ParseInt(asText(row[0]), 10, 64)
	if err != nil {
		return nil, 0, err
	}
	until = blocks * hostBlock
	bucket, mark := hostKey(host)
	err = c.each(ctx, selectHosts, []driver.Value{bucket}, func(row []driver.Value) (bool, error) {
		first := asInt(row[0]) * hostBlock
		for list := asBytes(row[1]); len(list) >= 8; list = list[8:] {
			seq := first + int64(binary.BigEndian.Uint32(list[4:]))
			if binary.BigEndian.Uint32(list) == mark && seq <= until {
				seqs = append(seqs, seq)
			}
		}
		return true, nil
	})
	slices.SortFunc(seqs, func(a, b int64) int { return cmp.Compare(b, a) })
	return seqs, until, err
}

// hostArgs returns the arguments of ofHosts.
func hostArgs(host string, seqs []int64, until int64) ([]driver.Value, error) {
	list, err := json.Marshal(append([]int64{}, seqs...))
	return []driver.Value{until, host, string(list), host}, err
}

// walkHost calls fn with the arguments of ofHosts for the newest orders of a host, then for older ones, until it says false.
func (c *conn) walkHost(ctx context.Context, host string, fn func(args []driver.Value) (more bool, err error)) error {
	const piece = 1000
	seqs, until, err := c.listed(ctx, host)
	for first := true; err == nil && (first || len(seqs) > 0); first = false {
		n := min(piece, len(seqs))
		args, jerr := hostArgs(host, seqs[:n], until)
		if jerr != nil {
			return jerr
		}
		more, ferr := fn(args)
		if ferr != nil || !more {
			return ferr
		}
		// What has no list was looked for at first.
		seqs, until = seqs[n:], 1<<62
	}
	return err
}
