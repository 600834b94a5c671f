package api

import (
	"hash/maphash"
	"sync"
)

const (
	// maxNonces bounds what is remembered, in all some 24 MiB.
	maxNonces = 1 << 20
	// nonceSpan is how many seconds of timestamps share a bucket.
	nonceSpan = 10
)

type nonceVerdict int

const (
	nonceFresh     nonceVerdict = iota
	nonceUsed                   // it was used before
	nonceForgotten              // whether it was used is not known
)

// authNonces remembers the nonces of one source for as long as their timestamps are good, in buckets by timestamp. When it is full the
// bucket with the oldest timestamps is given up and what is older than its end is refused: under a load that fills it the window
// becomes shorter, but no request is taken twice. Only requests whose signature is right are remembered.
type authNonces struct {
	seed maphash.Seed
	max  int

	mu      sync.Mutex // guards everything below
	buckets map[int64]map[uint64]struct{}
	count   int
	floor   int64 // timestamps before it are not taken
	swept   int64 // the slot that was the oldest when expire last looked
}

func newAuthNonces(start int64, limit int) *authNonces {
	return &authNonces{seed: maphash.MakeSeed(), max: limit, buckets: map[int64]map[uint64]struct{}{}, floor: start}
}

// hash stands for the nonce. It is keyed and has 64 bits: that two of a million collide, and a good request is refused, does not
// happen; that a used nonce is taken for another never does.
func (n *authNonces) hash(nonce string) uint64 { return maphash.String(n.seed, nonce) }

// use takes the nonce of a request signed at the given second.
func (n *authNonces) use(at, now int64, sum uint64) nonceVerdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expire(now)
	if at < n.floor {
		return nonceForgotten
	}
	slot := at / nonceSpan
	if _, used := n.buckets[slot][sum]; used {
		return nonceUsed
	}
	for n.count >= n.max {
		if n.giveUpOldest(); at < n.floor {
			return nonceForgotten
		}
	}
	bucket := n.buckets[slot]
	if bucket == nil {
		bucket = map[uint64]struct{}{}
		n.buckets[slot] = bucket
	}
	bucket[sum] = struct{}{}
	n.count++
	return nonceFresh
}

// forget makes a nonce good again.
func (n *authNonces) forget(at int64, sum uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	bucket := n.buckets[at/nonceSpan]
	if _, used := bucket[sum]; used {
		delete(bucket, sum)
		n.count--
	}
}

// expire drops the buckets whose timestamps have left the window; there are some sixty.
func (n *authNonces) expire(now int64) {
	oldest := (now - signatureWindow) / nonceSpan
	if oldest == n.swept {
		return
	}
	n.swept = oldest
	for slot, bucket := range n.buckets {
		if slot < oldest {
			n.count -= len(bucket)
			delete(n.buckets, slot)
		}
	}
}

func (n *authNonces) giveUpOldest() {
	oldest, found := int64(0), false
	for slot := range n.buckets {
		if !found || slot < oldest {
			oldest, found = slot, true
		}
	}
	n.count -= len(n.buckets[oldest])
	delete(n.buckets, oldest)
	n.floor = max(n.floor, (oldest+1)*nonceSpan)
}
