package bridge

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Approval is what a person decided about a held order.
type Approval struct {
	// By is who, Why the reason given, At when; By is empty when nobody decided.
	By, Why string
	At      time.Time
	// Digest is the digest of what was approved, see Order.Digest.
	Digest string
}

// Decision is a person's word about a held order.
type Decision struct {
	// Order is the id, Approve the word.
	Order   string
	Approve bool
	// Digest is what the person was shown, at least its first 8 hex digits; required for Approve.
	Digest string
	// Actor is who, Why the reason; both required.
	Actor, Why string
}

// minShown is how many digits of a digest tell two orders apart for a person.
const minShown = 8

// Approvable reports whether an order held for this reason waits for a person's word, not for the end of a hold.
func Approvable(r Reason) bool {
	return r == ReasonApproval || r == ReasonDamping || r == ReasonHours
}

// Digest returns 64 hex digits over everything an approval is about: task, params, host, process and duration.
// No field of it changes in the life of an order, so an approval is good for exactly what was shown.
func (o Order) Digest() (string, error) {
	if o.Task == nil {
		return "", errors.New("the order has no task")
	}
	params, err := EncodeParams(o.Task)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	var n [8]byte
	for _, f := range []string{
		o.ID, string(o.Task.Kind()), string(params), o.Host, strconv.Itoa(o.Subject.PID), strconv.FormatUint(o.Subject.Start, 10),
		o.Subject.Path, o.For.String(), strconv.FormatBool(o.Subject.Tree),
	} {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ErrNotApprovable is returned for a decision that cannot be taken; its text says why.
var ErrNotApprovable = errors.New("cannot be decided")

// Decide returns the order as the decision leaves it: queued with its approval, or refused. now is the moment of the
// decision, notAfter the new last moment for an approved order to begin. Errors wrap ErrNotApprovable.
func Decide(o Order, d Decision, fourEyes bool, now, notAfter time.Time) (Order, error) {
	no := func(format string, args ...any) (Order, error) {
		return o, fmt.Errorf("order %s: %w: %s", o.ID, ErrNotApprovable, fmt.Sprintf(format, args...))
	}
	switch {
	case o.State != StateHeld:
		return no("it is %s", o.State)
	case !Approvable(o.Reason):
		return no("it is held for %s, not for a person (%s)", o.Reason, o.Detail)
	case strings.TrimSpace(d.Actor) == "" || strings.TrimSpace(d.Why) == "":
		return no("who decides and why is required")
	case !o.Due.IsZero() && now.After(o.Due):
		return no("its time to be approved ended at %s", o.Due.UTC().Format(time.RFC3339))
	}
	if !d.Approve {
		o.State, o.Reason, o.Detail = StateRefused, ReasonApproval, "rejected by "+d.Actor+": "+d.Why
		o.Approval = Approval{By: d.Actor, Why: d.Why, At: now}
		return o, nil
	}
	digest, err := o.Digest()
	switch {
	case err != nil:
		return no("%v", err)
	case len(d.Digest) < minShown || !strings.HasPrefix(digest, strings.ToLower(d.Digest)):
		return no("the digest given is not the one of this order: look at it again before you approve")
	case fourEyes && SamePerson(o.Actor, d.Actor):
		return no("four eyes: %s asked for it, somebody else has to approve (approvals.four_eyes)", d.Actor)
	}
	o.State, o.Reason, o.Detail = StateQueued, ReasonNone, "approved by "+d.Actor+": "+d.Why
	o.Approval = Approval{By: d.Actor, Why: d.Why, At: now, Digest: digest}
	o.NotAfter = notAfter
	return o, nil
}

// SamePerson reports whether two actors are one person: "cli:alice (INC-1)" and "socket:alice" are.
func SamePerson(a, b string) bool {
	return a != "" && person(a) == person(b)
}

func person(actor string) string {
	name, _, _ := strings.Cut(actor, " (")
	if _, user, ok := strings.Cut(name, ":"); ok {
		name = user
	}
	return name
}
