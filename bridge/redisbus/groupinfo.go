package redisbus

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// keyOfSubcommand is where the key stands in commands such as XINFO GROUPS key; a cluster client routes by it.
const keyOfSubcommand = 2

// groupInfo is one group in the answer of XINFO GROUPS.
type groupInfo struct {
	name               string
	consumers, pending int64
	delivered          entryID // last-delivered-id
	// entriesRead and lag are -1 when the server does not know them. The client library reads an unknown
	// entries-read as 0, which would look like a group that has read nothing.
	entriesRead, lag int64
}

func groupsOf(ctx context.Context, l *link, stream string) ([]groupInfo, error) {
	cmd := redis.NewSliceCmd(ctx, "XINFO", "GROUPS", stream)
	cmd.SetFirstKeyPos(keyOfSubcommand)
	if err := l.client.Process(ctx, cmd); err != nil {
		return nil, err
	}
	list := cmd.Val()
	groups := make([]groupInfo, 0, len(list))
	for _, item := range list {
		flat, ok := item.([]any)
		if !ok {
			return nil, fmt.Errorf("XINFO GROUPS answered with %T", item)
		}
		g, err := parseGroup(flat)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// parseGroup reads the flat list name, value, name, value ….
func parseGroup(flat []any) (groupInfo, error) {
	g := groupInfo{entriesRead: -1, lag: -1}
	var err error
	for i := 0; i+1 < len(flat); i += 2 {
		name, _ := flat[i].(string)
		number, isNumber := flat[i+1].(int64)
		words, _ := flat[i+1].(string)
		switch {
		case name == "name":
			g.name = words
		case name == "last-delivered-id":
			if g.delivered, err = parseID(words); err != nil {
				return groupInfo{}, err
			}
		case !isNumber:
		case name == "consumers":
			g.consumers = number
		case name == "pending":
			g.pending = number
		case name == "entries-read":
			g.entriesRead = number
		case name == "lag":
			g.lag = number
		}
	}
	return g, nil
}

// settledUpTo returns the greatest id up to which the group has acknowledged everything.
func (g *groupInfo) settledUpTo(ctx context.Context, l *link, stream string) (entryID, error) {
	if g.pending == 0 {
		return g.delivered, nil
	}
	p, err := l.client.XPending(ctx, stream, g.name).Result()
	if err != nil {
		return entryID{}, fmt.Errorf("list pending entries: %w", err)
	}
	lower, err := parseID(p.Lower)
	if err == nil && !g.delivered.less(lower) {
		return lower.before(), nil
	}
	return g.delivered, nil // without a lower bound nothing is pending any more
}
