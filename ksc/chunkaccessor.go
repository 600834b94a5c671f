package ksc

import (
	"context"
	"encoding/json"
	"fmt"
)

// The methods of class ChunkAccessor.
var (
	methodGetItemsCount = method{"ChunkAccessor.GetItemsCount", true}
	methodGetItemsChunk = method{"ChunkAccessor.GetItemsChunk", true}
	methodRelease       = method{"ChunkAccessor.Release", true}
)

const pageSize = 100

type accessorIn struct {
	Accessor string `json:"strAccessor"`
}

type countOut struct {
	result
	Count *int `json:"PxgRetVal"`
}

func (o *countOut) missing() string {
	if o.Count == nil || *o.Count < 0 {
		return "PxgRetVal is no count"
	}
	return ""
}

// GetItemsCount returns how many items a result set holds.
//
// KSC: https://support.kaspersky.com/help/KSC/13/KSCAPI/a00465.html
func (c *Client) GetItemsCount(ctx context.Context, accessor string) (int, error) {
	var out countOut
	if err := c.call(ctx, methodGetItemsCount, accessorIn{accessor}, &out); err != nil {
		return 0, err
	}
	return *out.Count, nil
}

type chunkOut struct {
	result
	Count *int `json:"PxgRetVal"`
	Chunk struct {
		Items []Params[json.RawMessage] `json:"KLCSP_ITERATOR_ARRAY"`
	} `json:"pChunk"`
}

func (o *chunkOut) missing() string {
	if o.Count == nil || *o.Count != len(o.Chunk.Items) {
		return "PxgRetVal is not the number of items"
	}
	return ""
}

// GetItemsChunk returns the items of a result set from start (0 is the first) on, at most count, each as its bare JSON object.
//
// KSC: https://support.kaspersky.com/help/KSC/13/KSCAPI/a00465.html
func (c *Client) GetItemsChunk(ctx context.Context, accessor string, start, count int) ([]json.RawMessage, error) {
	var out chunkOut
	in := struct {
		Accessor string `json:"strAccessor"`
		Start    int    `json:"nStart"`
		Count    int    `json:"nCount"`
	}{accessor, start, count}
	if err := c.call(ctx, methodGetItemsChunk, in, &out); err != nil {
		return nil, err
	}
	items := make([]json.RawMessage, 0, len(out.Chunk.Items))
	for _, it := range out.Chunk.Items {
		items = append(items, it.Value)
	}
	return items, nil
}

// Release frees a result set at the server.
//
// KSC: https://support.kaspersky.com/help/KSC/13/KSCAPI/a00465.html
func (c *Client) Release(ctx context.Context, accessor string) error {
	return c.call(ctx, methodRelease, accessorIn{accessor}, &result{})
}

// found is what collect returns: at most the limit of items, and how many there are.
type found struct {
	items []json.RawMessage
	total int
}

// collect searches, reads at most limit items and releases the result set whatever happens. When the session is
// lost in between, its result sets go with it, so the search is made once more.
func (c *Client) collect(ctx context.Context, limit int, search func(context.Context) (ResultSet, error)) (found, error) {
	for tries := 0; ; tries++ {
		set, err := search(ctx)
		if err != nil || set.Accessor == "" {
			return found{}, err
		}
		owner := c.logins.peek()
		f, err := c.read(ctx, set.Accessor, limit)
		if tries > 0 || !isRefusal(err) || c.logins.peek() == owner {
			return f, err
		}
	}
}

// read pages through a result set and releases it.
func (c *Client) read(ctx context.Context, accessor string, limit int) (f found, err error) {
	defer c.release(ctx, accessor)
	if f.total, err = c.GetItemsCount(ctx, accessor); err != nil {
		return found{}, err
	}
	want := min(f.total, limit)
	for len(f.items) < want {
		page, err := c.GetItemsChunk(ctx, accessor, len(f.items), min(want-len(f.items), pageSize))
		if err != nil {
			return found{}, err
		}
		if len(page) == 0 {
			why := fmt.Sprintf("result set ended after %d of %d items", len(f.items), f.total)
			return found{}, unreadableAnswer(methodGetItemsChunk, &answerError{why: why}, nil)
		}
		f.items = append(f.items, page...)
	}
	return f, nil
}

// release gives the server a moment of its own when the caller's time is over. Without it the set would
// live on for two minutes, which is no reason to report an error.
func (c *Client) release(ctx context.Context, accessor string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if err := c.Release(ctx, accessor); err != nil {
		c.log.DebugContext(ctx, "result set was not released", "err", err)
	}
}
