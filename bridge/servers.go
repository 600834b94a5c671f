package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// profileMark stands between a host and the profile of its KSC. No name, GUID or address of a host holds it.
const profileMark = "@"

// SplitHost splits "HOST@PROFILE", which is how a host is addressed where several KSC servers are configured; profile is
// empty when none is named.
func SplitHost(host string) (name, profile string) {
	if i := strings.LastIndex(host, profileMark); i >= 0 {
		return host[:i], host[i+1:]
	}
	return host, ""
}

// JoinHost is the reverse of SplitHost; without a profile it is the name alone.
func JoinHost(name, profile string) string {
	if profile == "" {
		return name
	}
	return name + profileMark + profile
}

// Server is an executor that carries orders out through one KSC.
type Server interface {
	Executor
	Intender
	Reconciler
	Follower
}

// Servers are several KSC servers by the names of their profiles, as one executor: an order goes to the profile its host
// is addressed with. The servers themselves never see a profile.
type Servers map[string]Server

var _ Server = Servers(nil)

// Profiles returns the names in alphabetical order.
func (s Servers) Profiles() []string { return slices.Sorted(maps.Keys(s)) }

// Execute implements Executor.
func (s Servers) Execute(ctx context.Context, o Order) (Receipt, error) {
	server, o, _, err := s.of(o)
	if err != nil {
		return Receipt{}, err
	}
	return server.Execute(ctx, o)
}

// Intend implements Intender. The target it fixes carries the profile: two servers may know two machines by one id.
func (s Servers) Intend(ctx context.Context, o Order, wait bool) (in Intent, ok bool, err error) {
	server, o, profile, err := s.of(o)
	if err != nil {
		return Intent{}, false, err
	}
	in, ok, err = server.Intend(ctx, o, wait)
	if in.Target != "" {
		in.Target = JoinHost(in.Target, profile)
	}
	return in, ok, err
}

// Reconcile implements Reconciler.
func (s Servers) Reconcile(ctx context.Context, o Order) (r Receipt, found bool, err error) {
	server, o, _, err := s.of(o)
	if err != nil {
		return Receipt{}, false, err
	}
	return server.Reconcile(ctx, o)
}

// Follow implements Follower. A server that cannot be asked does not keep the others from being asked; its error is returned
// with what they answered.
func (s Servers) Follow(ctx context.Context, orders []Order) ([]Progress, error) {
	by := map[string][]Order{}
	for _, o := range orders {
		if _, inner, profile, err := s.of(o); err == nil { // an order of a profile that was taken away ends at its deadline
			by[profile] = append(by[profile], inner)
		}
	}
	var all []Progress
	var failed error
	for _, profile := range slices.Sorted(maps.Keys(by)) {
		progress, err := s[profile].Follow(ctx, by[profile])
		all = append(all, progress...)
		if failed == nil {
			failed = err
		}
	}
	return all, failed
}

// of returns the server of an order and the order as that server knows it.
func (s Servers) of(o Order) (server Server, inner Order, profile string, err error) {
	o.Host, profile = SplitHost(o.Host)
	o.Intent.Target, _ = SplitHost(o.Intent.Target)
	server, known := s[profile]
	if !known {
		return nil, o, "", &ExecError{Executor: ExecutorKSC, OrderID: o.ID, Class: Permanent, Reason: ReasonTenant, Err: errors.New(s.which(profile))}
	}
	return server, o, profile, nil
}

// which tells what to write instead of a profile that is not there.
func (s Servers) which(profile string) string {
	known := strings.Join(s.Profiles(), ", ")
	if profile == "" {
		return fmt.Sprintf("several KSC servers are configured (ksc: %s): say which one, as HOST@PROFILE", known)
	}
	return fmt.Sprintf("no KSC profile is named %q (ksc: %s)", profile, known)
}
