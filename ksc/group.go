package ksc

import (
	"context"
	"slices"
	"time"
)

const (
	groupTTL        = 10 * time.Minute // how long the path of a group is not asked about again
	groupRefusedTTL = time.Minute      // the same for one that could not be read
	maxCachedGroups = 10_000
	maxGroupDepth   = 32
	maxGroupName    = 256 // bytes
)

// groupTree knows the paths of administration groups: "Managed devices/Servers/DC". The server is only known to tell
// a group's own name and the group above it, so a path is walked, and every group on the way is remembered.
type groupTree struct {
	client *Client
	paths  *cache[int64, string] // "" = could not be read
	roots  *cache[struct{}, []int64]
}

func newGroupTree(c *Client, now func() time.Time) *groupTree {
	return &groupTree{
		client: c,
		paths:  newCache[int64, string](maxCachedGroups, groupTTL, now),
		roots:  newCache[struct{}, []int64](1, groupTTL, now),
	}
}

// errGroup says that what the server tells about a group is no path.
var errGroup = &answerError{why: "the server's answer about an administration group makes no path"}

// path returns the path of a group. A group that could not be read a moment ago fails again without a question.
func (t *groupTree) path(ctx context.Context, id int64) (string, error) {
	if p, known := t.paths.get(id); known {
		if p == "" {
			return "", errGroup
		}
		return p, nil
	}
	p, err := t.walk(ctx, id)
	if refusesOne(err) {
		t.paths.putFor(id, "", groupRefusedTTL)
	}
	return p, err
}

// walk asks for the group and those above it, up to a predefined one or one whose path is known.
func (t *groupTree) walk(ctx context.Context, id int64) (string, error) {
	roots, err := t.predefined(ctx)
	if err != nil {
		return "", err
	}
	var way []Group
	above := ""
	for at, top := id, false; !top; {
		if p, known := t.paths.get(at); known && p != "" {
			above = p
			break
		}
		if len(way) == maxGroupDepth {
			return "", errGroup
		}
		g, err := t.client.GetGroupInfoEx(ctx, at)
		if err != nil {
			return "", err
		}
		if int64(g.ID) != at || g.Name == "" || len(g.Name) > maxGroupName || !printable(g.Name) {
			return "", errGroup
		}
		way = append(way, g)
		top = slices.Contains(roots, at) || g.ParentID == nil || *g.ParentID < 0 || int64(*g.ParentID) == at
		if !top {
			at = int64(*g.ParentID)
		}
	}
	for _, g := range slices.Backward(way) {
		if above != "" {
			above += "/"
		}
		above += g.Name
		t.paths.put(int64(g.ID), above)
	}
	return above, nil
}

// predefined returns the groups at the top: what parentId holds there is not documented.
func (t *groupTree) predefined(ctx context.Context) ([]int64, error) {
	if ids, known := t.roots.get(struct{}{}); known {
		return ids, nil
	}
	managed, err := t.client.GroupIDGroups(ctx)
	if err != nil {
		return nil, err
	}
	unassigned, err := t.client.GroupIDUnassigned(ctx)
	if err != nil {
		return nil, err
	}
	ids := []int64{managed, unassigned}
	t.roots.put(struct{}{}, ids)
	return ids, nil
}
