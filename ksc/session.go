package ksc

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The methods of class Session. Repeating StartSession costs at most a session nobody uses.
var (
	methodStartSession = method{"Session.StartSession", true}
	methodPing         = method{"Session.Ping", true}
	methodEndSession   = method{"Session.EndSession", true}
)

// cleanUp bounds calls that release something at the server after their caller's time is over.
const cleanUp = 5 * time.Second

// session is one authenticated session; its id is as good as a password.
type session struct{ id secret }

type startSessionOut struct {
	result
	ID *string `json:"PxgRetVal"`
}

func (o *startSessionOut) missing() string {
	if o.ID == nil || *o.ID == "" || !printable(*o.ID) || len(*o.ID) > maxSecret {
		return "PxgRetVal is no session id"
	}
	return ""
}

// startSession logs in. A refusal comes as an *AuthError inside.
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00608.html
func (c *Client) startSession(ctx context.Context) (*session, error) {
	password, err := c.cfg.Password(ctx)
	if err != nil {
		return nil, &CallError{Method: methodStartSession.name, Class: bridge.Retry, Err: &PasswordError{err}}
	}
	auth := c.cfg.authorization(password)
	secrets := []secret{secret(password), secret(base64.StdEncoding.EncodeToString(password)), secret(auth)}
	wipe(password)
	header := []string{"Authorization", auth}
	if c.cfg.VirtualServer != "" {
		header = append(header, "X-KSC-VServer", base64.StdEncoding.EncodeToString([]byte(c.cfg.VirtualServer)))
	}
	var out startSessionOut
	answered, err := c.post(ctx, methodStartSession, []byte("{}"), &out, secrets, header...)
	if err != nil {
		return nil, c.notLetIn(ctx, err, answered, secrets)
	}
	return &session{secret(*out.ID)}, nil
}

// notLetIn recognises refusals of the account among the errors of a login.
func (c *Client) notLetIn(ctx context.Context, err error, header http.Header, secrets []secret) error {
	e, ok := errors.AsType[*CallError](err)
	_, byApplication := errors.AsType[*Error](err)
	if !ok || !byApplication && !refusesSession(err) {
		return err
	}
	auth := &AuthError{User: c.cfg.User, Err: e.Err, Hint: c.loginHint()}
	if strings.Contains(header.Get("WWW-Authenticate"), "KSCMFA") {
		auth.SecondFactor = true
		auth.Hint = "two-factor verification is on for the account: exclude the service account from it in KSC (Users and roles)"
		if id := header.Get("X-KSC-Session"); id != "" {
			c.drop(ctx, &session{secret(id)}) // the server made a session and waits for the code
		}
	}
	if words := excerpt([]byte(header.Get("X-KSC-ErrorMsg")), maxName, secrets...); words != "" {
		auth.Hint = "the server says: " + words + "; " + auth.Hint
	}
	return &CallError{Method: e.Method, Class: bridge.Permanent, contact: contactAnswered, Err: auth}
}

func (c *Client) loginHint() string {
	kind := "whether it is a KSC internal user (ksc.internal: yes)"
	if c.cfg.Internal {
		kind = "whether it really is a KSC internal user (else ksc.internal: no)"
	}
	hints := []string{
		"the password", kind, "that this machine's address is on the server's list of allowed addresses", "that two-factor verification is off for it",
	}
	if c.cfg.Domain != "" {
		hints = append(hints, "the domain and its encoding (ksc.domain_encoding)")
	}
	return "check " + strings.Join(hints, ", then ")
}

// drop ends a session that is of no use, in whatever time is left for it.
func (c *Client) drop(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if err := c.exchange(ctx, methodEndSession, []byte("{}"), s, &result{}); err != nil {
		c.log.DebugContext(ctx, "session was not ended", "err", err)
	}
}

// Ping checks the session at the server and so keeps it; it logs in when there is none. While following an order call it
// about once a minute.
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00608.html
func (c *Client) Ping(ctx context.Context) error {
	return c.call(ctx, methodPing, struct{}{}, &result{})
}

// EndSession ends the session; without one it does nothing. The next call logs in again.
//
// KSC: https://support.kaspersky.com/help/KSC/16/KSCAPI/a00608.html
func (c *Client) EndSession(ctx context.Context) error {
	s := c.logins.take()
	if s == nil {
		return nil
	}
	err := c.exchange(ctx, methodEndSession, []byte("{}"), s, &result{})
	if refusesSession(err) {
		return nil // it was over already
	}
	return err
}
