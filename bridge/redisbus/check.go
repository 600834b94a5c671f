package redisbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// minVersion is the oldest Redis whose streams tell deleted entries from unread ones.
const minVersion = 7

// CheckConfig says what Check looks at besides the server; empty fields are left out.
type CheckConfig struct {
	Options Options
	// Stream and Group are those of a Stream source, DeadLetter its dead-letter stream ("" = "<stream>:dead").
	Stream, Group, DeadLetter string
	// Channel is that of a PubSub source.
	Channel string
}

// Report is what Check found. Numbers are -1 when the server does not tell.
type Report struct {
	// Version is like "7.0.15", Role "master" or "slave" (the server's words); both empty when not told.
	Version, Role string
	// Latency is the least of three round trips.
	Latency time.Duration
	// Open says that the server is beyond this machine and lets anyone in.
	Open bool
	// Length is the stream's, Lag how many entries the group has not read, Pending how many it has not acknowledged.
	Length, Lag, Pending, Consumers int64
	// StreamExists and GroupExists are false before a source ran for the first time.
	StreamExists, GroupExists bool
	// DeadLetters is the length of the dead-letter stream.
	DeadLetters int64
	// Subscribers counts the clients on the channel.
	Subscribers int64
	// Problems are in words, each with what to do; none = fine.
	Problems []string
}

// Check looks at a server for doctor without changing anything. The error says that it could not be reached
// (bridge.ErrNotConnected) or refused the login (ErrCredentials); everything else is in the report.
func Check(ctx context.Context, cfg CheckConfig) (Report, error) {
	r := Report{Length: -1, Lag: -1, Pending: -1, Consumers: -1, DeadLetters: -1, Subscribers: -1}
	if err := cfg.Options.Validate(); err != nil {
		return r, fmt.Errorf("redis: %w", err)
	}
	l, err := openLink(ctx, cfg.Options.filled(), false)
	if err != nil {
		return r, err
	}
	defer l.close()
	if err := r.ping(ctx, l); err != nil {
		return r, fmt.Errorf("ping redis: %w", explain(err))
	}
	r.server(ctx, l)
	if cfg.Stream != "" {
		if err := r.stream(ctx, l, cfg); err != nil {
			return r, fmt.Errorf("look at stream %s: %w", cfg.Stream, explain(err))
		}
	}
	if cfg.Channel != "" {
		if m, err := l.client.PubSubNumSub(ctx, cfg.Channel).Result(); err == nil {
			r.Subscribers = m[cfg.Channel]
		}
	}
	return r, nil
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func (r *Report) ping(ctx context.Context, l *link) error {
	for range 4 { // the first one also connects
		begin := time.Now()
		if err := l.client.Ping(ctx).Err(); err != nil {
			return err
		}
		if d := time.Since(begin); r.Latency == 0 || d < r.Latency {
			r.Latency = d
		}
	}
	return nil
}

// server reads version, role, exposure and the settings that lose alerts.
func (r *Report) server(ctx context.Context, l *link) {
	info, err := l.client.Info(ctx, "server").Result()
	if err == nil {
		r.Version = infoField(info, "redis_version")
	}
	if major, _, _ := strings.Cut(r.Version, "."); r.Version == "" {
		r.problem("the server does not tell its version: allow INFO to see whether it is 7.0 or later")
	} else if n, err := strconv.Atoi(major); err == nil && n < minVersion {
		r.problem("redis %s is older than 7.0: entries deleted from a stream are not all noticed; upgrade", r.Version)
	}
	if role, err := l.client.Do(ctx, "ROLE").Slice(); err == nil && len(role) > 0 {
		r.Role, _ = role[0].(string)
	}
	if r.Role == "slave" {
		r.problem("the server is a replica: point the address at the master or use Sentinel")
	}
	if l.dialer.exposed.Load() {
		if open, known := l.isOpen(ctx); known && open {
			r.Open = true
			r.problem("the server lets anyone in: set a password for the default user")
		}
	}
	if v, err := l.client.ConfigGet(ctx, "maxmemory-policy").Result(); err == nil {
		if p := v["maxmemory-policy"]; p != "" && p != "noeviction" {
			r.problem("maxmemory-policy is %s: redis may evict the stream; set noeviction", p)
		}
	}
}

func (r *Report) stream(ctx context.Context, l *link, cfg CheckConfig) error {
	if v, err := l.client.ConfigGet(ctx, "appendonly").Result(); err == nil && v["appendonly"] == "no" {
		r.problem("appendonly is off: a crash of redis loses the entries since its last snapshot; set appendonly yes")
	}
	dead := orDefault(cfg.DeadLetter, cfg.Stream+deadSuffix)
	if n, err := l.client.XLen(ctx, dead).Result(); err == nil {
		r.DeadLetters = n
	}
	length, err := l.client.XLen(ctx, cfg.Stream).Result()
	if err != nil {
		return err
	}
	r.Length = length
	groups, err := groupsOf(ctx, l, cfg.Stream)
	if noSuchKey(err) {
		return nil
	}
	r.StreamExists = true
	if isReply(err) || errors.Is(err, redis.Nil) {
		r.problem("the groups of %s may not be looked at: allow XINFO", cfg.Stream)
		return nil
	}
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g.name == cfg.Group {
			r.GroupExists = true
			r.Lag, r.Pending, r.Consumers = g.lag, g.pending, g.consumers
		}
	}
	return nil
}

// infoField picks "name:value" out of an answer of INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return v
		}
	}
	return ""
}
