package ksctest

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxSessions = 10_000 // the oldest gives way
	maxTokens   = 1000
)

// session is one authenticated caller: with an id for X-KSC-Session, or without one and bound to a connection.
type session struct {
	id      string
	user    string
	vserver string
	// first and code belong to a second factor that is still wanted.
	first   credentials
	code    string
	pending atomic.Bool
	ended   atomic.Bool
	used    atomic.Int64 // unix nanoseconds of the last request
	open    atomic.Int32 // result sets and iterators it holds
}

// sessionTable finds sessions by id.
type sessionTable struct {
	// mu guards the fields below.
	mu     sync.RWMutex
	byID   map[string]*session
	order  []string // ids in order of creation, ended ones included until they reach the front
	tokens map[string]oneTimeToken
}

// oneTimeToken is a password of Session.CreateToken.
type oneTimeToken struct {
	user    string
	expires time.Time
}

func newSessionTable() *sessionTable {
	return &sessionTable{byID: make(map[string]*session), tokens: make(map[string]oneTimeToken)}
}

// newToken returns "n" and the base64 of 16 random bytes: the form the vendor's server uses.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return "n" + base64.StdEncoding.EncodeToString(b[:])
}

// add gives sess an id. It returns the session that had to give way, if any.
func (t *sessionTable) add(sess *session, now time.Time) *session {
	sess.id = newToken()
	sess.used.Store(now.UnixNano())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[sess.id] = sess
	t.order = append(t.order, sess.id)
	var evicted *session
	for len(t.byID) > maxSessions || len(t.order) > 2*maxSessions {
		if old := t.byID[t.order[0]]; old != nil {
			evicted = old
			delete(t.byID, t.order[0])
			old.ended.Store(true)
		}
		t.order = t.order[1:]
	}
	return evicted
}

func (t *sessionTable) find(id string) *session {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

func (t *sessionTable) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

func (t *sessionTable) all() []*session {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*session, 0, len(t.byID))
	for _, sess := range t.byID {
		list = append(list, sess)
	}
	return list
}

func (t *sessionTable) makeToken(user string, now time.Time) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, tok := range t.tokens {
		if now.After(tok.expires) {
			delete(t.tokens, name)
		}
	}
	if len(t.tokens) >= maxTokens {
		return "", false
	}
	name := newToken()
	t.tokens[name] = oneTimeToken{user, now.Add(tokenLife)}
	return name, true
}

func (t *sessionTable) takeToken(name string, now time.Time) (user string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok := t.tokens[name]
	delete(t.tokens, name)
	return tok.user, ok && !now.After(tok.expires)
}

// resolve finds the caller's session: by X-KSC-Session, else by the login of the connection.
func (s *Server) resolve(c *call) (*session, error) {
	if ids := c.request.Header[headerSession]; len(ids) > 0 {
		sess := s.sessions.find(ids[0])
		if sess == nil || sess.ended.Load() {
			return nil, forbidden()
		}
		now := s.now().UnixNano()
		if idle := s.cfg.SessionIdle; idle > 0 && now-sess.used.Load() > int64(idle) {
			s.endSession(sess)
			return nil, forbidden()
		}
		sess.used.Store(now)
		return sess, nil
	}
	if c.conn != nil {
		if sess := c.conn.login.Load(); sess != nil {
			return sess, nil
		}
	}
	return nil, &httpError{status: http.StatusUnauthorized, text: textDenied}
}

func forbidden() error { return &httpError{status: http.StatusForbidden, text: "Forbidden\n"} }

// endSession forgets a session with everything it held.
func (s *Server) endSession(sess *session) {
	sess.ended.Store(true)
	if sess.id != "" {
		s.sessions.remove(sess.id)
	}
	if sess.open.Load() > 0 {
		s.accessors.drop(sess)
	}
	s.feed.drop(sess)
}

// login authenticates the connection: later requests on it need no header.
func (s *Server) login(c *call) error {
	sess, err := s.authenticate(c)
	if err != nil {
		return err
	}
	if c.conn == nil {
		return &httpError{status: http.StatusInternalServerError, text: "No connection to bind the login to\n"}
	}
	if old := c.conn.login.Swap(sess); old != nil && old != sess {
		s.endSession(old)
	}
	return nil
}

func (s *Server) startSession(c *call) error {
	sess, err := s.authenticate(c)
	if err != nil {
		return err
	}
	if sess.id == "" {
		if evicted := s.sessions.add(sess, s.now()); evicted != nil {
			s.endSession(evicted)
		}
	}
	c.result(sess.id)
	return nil
}

func (s *Server) ping(*call) error { return nil }

func (s *Server) closeSession(c *call) error {
	if c.conn != nil {
		c.conn.login.CompareAndSwap(c.session, nil)
	}
	s.endSession(c.session)
	return nil
}

func (s *Server) createToken(c *call) error {
	name, ok := s.sessions.makeToken(c.session.user, s.now())
	if !ok {
		return tooMany("tokens")
	}
	c.result(name)
	return nil
}
