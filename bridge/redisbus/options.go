package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	defaultDialTimeout = 3 * time.Second
	defaultReadTimeout = 3 * time.Second
	unixScheme         = "unix://"
)

// Options says how to reach Redis; it is shared by sources, publisher, dead letters and Check.
type Options struct {
	// Addresses are "host:port" or "unix:///path/to/socket". One is enough for a single server; with MasterName
	// they are the sentinels, with Cluster the nodes to start from.
	Addresses []string
	// MasterName is the name of the master set the sentinels watch; empty = no Sentinel.
	MasterName string
	// SentinelUsername and SentinelPassword log in to the sentinels themselves; both optional.
	SentinelUsername string
	SentinelPassword func(context.Context) ([]byte, error)
	// Cluster says that the addresses belong to a Redis Cluster.
	Cluster bool
	// Username is the ACL user; empty = default.
	Username string
	// Password is asked at every new connection, so that a rotated secret is picked up; nil = none.
	Password func(context.Context) ([]byte, error)
	// TLS switches TLS on; an empty ServerName is filled in with the host of the address.
	TLS *tls.Config
	// DB is the number of the database; 0 in a cluster.
	DB int
	// DialTimeout bounds connecting with the TLS handshake, ReadTimeout one answer and one write; 0 = 3 s each.
	DialTimeout, ReadTimeout time.Duration
	// AllowOpen accepts a server beyond this machine that lets anyone in without a password.
	AllowOpen bool
}

// Validate reports every problem at once, each as "<field>: <what is wrong>".
func (o Options) Validate() error {
	var errs []error
	if len(o.Addresses) == 0 {
		errs = append(errs, errors.New("addresses: required"))
	}
	for _, a := range o.Addresses {
		if err := checkAddress(a, o); err != nil {
			errs = append(errs, err)
		}
	}
	if o.MasterName != "" && o.Cluster {
		errs = append(errs, errors.New("cluster: must not be set together with a master name"))
	}
	if len(o.Addresses) > 1 && o.MasterName == "" && !o.Cluster {
		errs = append(errs, errors.New("addresses: several need a master name or cluster"))
	}
	if o.DB < 0 || (o.Cluster && o.DB != 0) {
		errs = append(errs, errors.New("db: must be 0 or more, and 0 in a cluster"))
	}
	if o.DialTimeout < 0 || o.ReadTimeout < 0 {
		errs = append(errs, errors.New("timeouts: must not be negative"))
	}
	return errors.Join(errs...)
}

func checkAddress(a string, o Options) error {
	if path, ok := strings.CutPrefix(a, unixScheme); ok {
		switch {
		case !strings.HasPrefix(path, "/"):
			return fmt.Errorf("addresses: %q needs an absolute path after unix://", a)
		case o.TLS != nil || o.MasterName != "" || o.Cluster:
			return fmt.Errorf("addresses: %q goes with neither TLS, Sentinel nor Cluster", a)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("addresses: %q must be host:port or unix:///path", a)
	}
	return nil
}

// filled returns o with the defaults in place and addresses as the client spells them.
func (o Options) filled() Options {
	addresses := make([]string, 0, len(o.Addresses))
	for _, a := range o.Addresses {
		addresses = append(addresses, strings.TrimPrefix(a, unixScheme))
	}
	o.Addresses = addresses
	if o.DialTimeout == 0 {
		o.DialTimeout = defaultDialTimeout
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = defaultReadTimeout
	}
	return o
}

// anonymous reports whether the client logs in as nobody in particular.
func (o Options) anonymous() bool { return o.Username == "" && o.Password == nil }
