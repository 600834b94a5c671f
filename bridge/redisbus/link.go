package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// clientName is what CLIENT LIST shows for our connections.
const clientName = "edr-bridge"

// link is one generation of connections: it is thrown away after an error, so that names are resolved and
// the master is looked up again.
type link struct {
	client redis.UniversalClient
	dialer *dialer
	once   sync.Once
	// mu guards checked.
	mu      sync.Mutex
	checked bool // the server may be used
}

// openLink makes the client without connecting; o has its defaults.
func openLink(ctx context.Context, o Options, oneShot bool) (*link, error) {
	l := &link{dialer: &dialer{opts: o, oneShot: oneShot}}
	u := &redis.UniversalOptions{
		Addrs:           o.Addresses,
		MasterName:      o.MasterName,
		IsClusterMode:   o.Cluster,
		ClientName:      clientName,
		DB:              o.DB,
		Dialer:          l.dialer.dial,
		Username:        o.Username,
		Protocol:        2, // push frames of protocol 3 buy nothing here and cost a look before every answer
		MaxRetries:      -1,
		DialTimeout:     o.DialTimeout,
		DialerRetries:   1,
		ReadTimeout:     o.ReadTimeout,
		WriteTimeout:    o.ReadTimeout,
		DisableIdentity: true,
		// A dedicated pool for pipelines would only double the connections.
		PipelinePoolSize:         -1,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.Password != nil {
		u.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
			secret, err := o.Password(ctx)
			return o.Username, string(secret), err
		}
	}
	if o.MasterName != "" {
		u.SentinelUsername = o.SentinelUsername
		if o.SentinelPassword != nil {
			secret, err := o.SentinelPassword(ctx)
			if err != nil {
				return nil, fmt.Errorf("read the sentinel password: %w", err)
			}
			u.SentinelPassword = string(secret)
		}
	}
	l.client = redis.NewUniversalClient(u)
	return l, nil
}

// close drops the connections; it may be called more than once and while a call is under way.
func (l *link) close() {
	l.once.Do(func() { _ = l.client.Close() })
}

// refuseOpen answers ErrOpenServer when the server is beyond this machine and is known to let anyone in.
// What the server does not let us see counts as fine.
func (l *link) refuseOpen(ctx context.Context) error {
	if l.dialer.opts.AllowOpen || !l.dialer.exposed.Load() {
		return nil
	}
	if open, known := l.isOpen(ctx); known && open {
		return ErrOpenServer
	}
	return nil
}

// isOpen reports whether the default user needs no password while protected-mode is off.
func (l *link) isOpen(ctx context.Context) (open, known bool) {
	conf, err := l.client.ConfigGet(ctx, "protected-mode").Result()
	if err != nil || conf["protected-mode"] == "" {
		return false, false
	}
	if conf["protected-mode"] != "no" {
		return false, true
	}
	user, err := l.client.Do(ctx, "ACL", "GETUSER", "default").Slice()
	if err != nil {
		// Whoever got in without credentials knows the answer anyway.
		return l.dialer.opts.anonymous(), l.dialer.opts.anonymous()
	}
	flags := userFlags(user)
	return slices.Contains(flags, "on") && slices.Contains(flags, "nopass"), true
}

// userFlags reads the flags out of the flat answer of ACL GETUSER: name, value, name, value ….
func userFlags(user []any) []string {
	for i := 0; i+1 < len(user); i += 2 {
		if name, ok := user[i].(string); !ok || name != "flags" {
			continue
		}
		list, _ := user[i+1].([]any)
		flags := make([]string, 0, len(list))
		for _, f := range list {
			if s, ok := f.(string); ok {
				flags = append(flags, s)
			}
		}
		return flags
	}
	return nil
}

// isReply reports whether the server itself answered with this error: the call was read and refused.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok && !errors.Is(err, redis.Nil)
}

// groupIsGone reports the answers a group's reader gets once group or stream were deleted.
func groupIsGone(err error) bool {
	return redis.HasErrorPrefix(err, "NOGROUP") || redis.HasErrorPrefix(err, "UNBLOCKED")
}

// noSuchKey reports the answer of XINFO for a stream that does not exist.
func noSuchKey(err error) bool {
	return isReply(err) && strings.Contains(err.Error(), "no such key")
}

// refuseOpenBefore makes sure that there is a connection and that its server may be used; it asks once a link.
func (l *link) refuseOpenBefore(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.checked {
		return nil
	}
	if err := l.client.Ping(ctx).Err(); err != nil {
		return err
	}
	if err := l.refuseOpen(ctx); err != nil {
		return err
	}
	l.checked = true
	return nil
}
