package ksc

import (
	"context"
	"fmt"
	"time"

	"github.com/edr-bridge/edr-bridge/servercert"
)

// certificateWarning is how long before its end a certificate is worth a word: KSC makes the next one 90 days
// before and swaps it in on the last day.
const certificateWarning = 30 * 24 * time.Hour

// CheckLevel says how bad the result of a check is.
type CheckLevel int

// The levels. The zero value is the bad one.
const (
	CheckFailed CheckLevel = iota // orders cannot be sent
	CheckWarned                   // orders can be sent, but something may keep them from being carried out
	CheckPassed
)

// String returns fail, warn or ok.
func (l CheckLevel) String() string {
	switch l {
	case CheckPassed:
		return "ok"
	case CheckWarned:
		return "warn"
	case CheckFailed:
		return "fail"
	default:
		return fmt.Sprintf("level(%d)", int(l))
	}
}

// CheckResult is the result of one check.
type CheckResult struct {
	// Name is login, certificate, console or hosts.
	Name  string
	Level CheckLevel
	// Detail is what was seen, Fix what to do about it; Fix is empty when all is well.
	Detail, Fix string
	// Err is the error behind a failure, if there was one.
	Err error
}

// Check logs in and makes harmless reads, one after the other. It has no effect at the server. When the login fails, the
// result ends there.
func (e *Executor) Check(ctx context.Context) []CheckResult {
	c := e.client
	err := c.Ping(ctx)
	results := []CheckResult{loginResult(c, err)}
	if cert := c.trust.Seen(); cert != nil {
		results = append(results, certificateResult(c, *cert, e.now()))
	}
	if err != nil {
		return results
	}
	return append(results, consoleResult(c.IsAnyServiceConsoleAvailable(ctx)), hostsResult(c.countHosts(ctx)))
}

func loginResult(c *Client, err error) CheckResult {
	if err != nil {
		return CheckResult{Name: "login", Level: CheckFailed, Detail: err.Error(), Fix: "see the message; then try again", Err: err}
	}
	return CheckResult{Name: "login", Level: CheckPassed, Detail: fmt.Sprintf("%s at %s", c.cfg.User, c.cfg.Address)}
}

func certificateResult(c *Client, cert servercert.Certificate, now time.Time) CheckResult {
	r := CheckResult{
		Name: "certificate", Level: CheckPassed,
		Detail: fmt.Sprintf("%s, SHA-256 %s, valid until %s", cert.Subject, cert.Fingerprint, cert.NotAfter.UTC().Format(time.DateOnly)),
	}
	switch left := cert.NotAfter.Sub(now); {
	case c.cfg.Insecure:
		r.Level, r.Fix = CheckWarned, "it is not checked: set ksc.ca or ksc.fingerprints and take ksc.insecure out"
	case left <= 0:
		r.Level, r.Fix = CheckFailed, "renew the certificate on the server"
	case left < certificateWarning:
		r.Level, r.Fix = CheckWarned, "it ends soon: add the fingerprint of the reserve certificate to ksc.fingerprints"
	}
	return r
}

func consoleResult(there bool, err error) CheckResult {
	r := CheckResult{Name: "console", Level: CheckWarned}
	switch {
	case err != nil:
		r.Detail = "cannot tell whether Web Console holds its background connection: " + err.Error()
		r.Fix, r.Err = "look for tasks named [Response][KUMA] after the first order", err
	case !there:
		r.Detail = "Web Console holds no background connection: incidents are accepted and no task appears"
		r.Fix = "grant \"Operations on Administration Server\" to the Web Console service account (NWCSvcUser…)"
	default:
		r.Level, r.Detail = CheckPassed, "Web Console holds its background connection"
	}
	return r
}

func hostsResult(n int, err error) CheckResult {
	r := CheckResult{Name: "hosts", Level: CheckWarned}
	switch {
	case err != nil:
		r.Level, r.Detail, r.Err = CheckFailed, err.Error(), err
		r.Fix = "give the account Read on \"Basic functionality\" for the device groups"
	case n == 0:
		r.Detail, r.Fix = "the account sees no host", "give the account Read on \"Basic functionality\" for the device groups"
	default:
		r.Level, r.Detail = CheckPassed, fmt.Sprintf("%d hosts", n)
	}
	return r
}

// countHosts asks for all hosts and reads none of them.
func (c *Client) countHosts(ctx context.Context) (int, error) {
	got, err := c.collect(ctx, 0, func(ctx context.Context) (ResultSet, error) { return c.FindHosts(ctx, Present("KLHST_WKS_HOSTNAME")) })
	return got.total, err
}
