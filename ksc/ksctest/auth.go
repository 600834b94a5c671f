package ksctest

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	textDenied     = "Authentication failure\n"
	textUnfinished = "Authentication not finished"
	tokenLife      = 3 * time.Minute // of Session.CreateToken
	maxLogins      = 1000            // kept for Server.Logins
)

// Login is one successful authentication, as the client asked for it.
type Login struct {
	// User and Domain are as sent (user decoded from base64, domain not).
	User   string
	Domain string
	// Internal is the internal attribute: "1", "0", "true", "false" or "" when missing.
	Internal string
	// VirtualServer is the virtual server the name was found for; empty = main.
	VirtualServer string
	// Session is true for Session.StartSession and false for login on a connection.
	Session bool
	// At is the server's time.
	At time.Time
}

// credentials are the attributes of a KSCBasic header.
type credentials struct {
	user, pass, domain, internal string
}

// authenticate judges the Authorization header of login and Session.StartSession.
// It returns a session that is not yet bound to a connection or an id.
func (s *Server) authenticate(c *call) (*session, error) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(c.header("Authorization")), " ")
	switch {
	case strings.EqualFold(scheme, "KSCBasic"):
		return s.authBasic(c, rest)
	case strings.EqualFold(scheme, "KSCMFA"):
		return s.authSecondFactor(c, rest)
	case strings.EqualFold(scheme, "KSCT"):
		if user, ok := s.sessions.takeToken(strings.TrimSpace(rest), s.now()); ok {
			return s.admit(c, &session{user: user, vserver: s.virtualServer(c)}, credentials{user: user})
		}
	}
	return nil, s.deny()
}

func (s *Server) authBasic(c *call, header string) (*session, error) {
	cred, ok := parseBasic(header)
	if !ok {
		return nil, s.deny()
	}
	i := slices.IndexFunc(s.cfg.Accounts, func(a Account) bool { return a.User == cred.user })
	if i < 0 {
		return nil, s.deny()
	}
	account := s.cfg.Accounts[i]
	internal := cred.internal == "1" || cred.internal == "true"
	if subtle.ConstantTimeCompare([]byte(account.Password), []byte(cred.pass)) != 1 ||
		s.cfg.EnforceInternal && internal != account.Internal {
		return nil, s.deny()
	}
	if s.cfg.FirstLogin401 && s.warmedUp.CompareAndSwap(false, true) {
		return nil, s.deny()
	}
	sess := &session{user: account.User, vserver: s.virtualServer(c)}
	if account.TOTP != "" {
		sess.code, sess.first = account.TOTP, cred
		sess.pending.Store(true)
		s.sessions.add(sess, s.now())
		return nil, unfinished(sess)
	}
	return s.admit(c, sess, cred)
}

// authSecondFactor finishes the session that the first factor made. A wrong code leaves it pending.
func (s *Server) authSecondFactor(c *call, header string) (*session, error) {
	sess := s.sessions.find(c.header(headerSession))
	if sess == nil || !sess.pending.Load() {
		return nil, s.deny()
	}
	if subtle.ConstantTimeCompare([]byte(attributes(header)["totp"]), []byte(sess.code)) != 1 {
		s.count.failedLogins.Add(1)
		return nil, unfinished(sess)
	}
	sess.pending.Store(false)
	return s.admit(c, sess, sess.first)
}

// admit counts a finished login.
func (s *Server) admit(c *call, sess *session, cred credentials) (*session, error) {
	s.count.login(Login{
		User: cred.user, Domain: cred.domain, Internal: cred.internal, VirtualServer: sess.vserver,
		Session: c.route.name != "login", At: s.now(),
	})
	return sess, nil
}

func (s *Server) deny() error {
	s.count.failedLogins.Add(1)
	return &httpError{status: http.StatusUnauthorized, text: textDenied}
}

// unfinished asks for the second factor
// (support.kaspersky.com/help/KSC/13.2/KSCAPI/a00392.html).
func unfinished(sess *session) error {
	return &httpError{status: http.StatusUnauthorized, text: textUnfinished, header: http.Header{
		"WWW-Authenticate": {`KSCMFA type="totp", lengthHint="` + strconv.Itoa(len(sess.code)) + `"`},
		"X-KSC-Session":    {sess.id},
	}}
}

// virtualServer returns the known name in X-KSC-VServer; empty, missing, malformed and unknown mean main.
func (s *Server) virtualServer(c *call) string {
	name, ok := decode64(c.header("X-Ksc-Vserver"))
	if !ok || !slices.Contains(s.cfg.VirtualServers, name) {
		return ""
	}
	return name
}

// parseBasic reads the attributes behind KSCBasic; user and pass are base64 of UTF-8.
func parseBasic(header string) (credentials, bool) {
	attr := attributes(header)
	user, okUser := decode64(attr["user"])
	pass, okPass := decode64(attr["pass"])
	return credentials{user: user, pass: pass, domain: attr["domain"], internal: attr["internal"]}, okUser && okPass && user != ""
}

// attributes splits name="value", name=value lists: any order, quotes optional, spaces anywhere between.
func attributes(s string) map[string]string {
	attr := make(map[string]string, 4)
	for {
		s = strings.TrimLeft(s, ", \t")
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			return attr
		}
		rest = strings.TrimLeft(rest, " \t")
		var value string
		if quoted, isQuoted := strings.CutPrefix(rest, `"`); isQuoted {
			value, s, _ = strings.Cut(quoted, `"`)
		} else {
			end := strings.IndexAny(rest, ", \t")
			if end < 0 {
				end = len(rest)
			}
			value, s = rest[:end], rest[end:]
		}
		attr[strings.ToLower(strings.TrimSpace(name))] = value
	}
}

func decode64(s string) (string, bool) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	return string(b), err == nil
}
