package api

import (
	"context"
	"log/slog"
	"net"
	"os/user"
	"strconv"
	"strings"
	"unicode"
)

// peerListener takes connections of known users.
type peerListener struct {
	net.Listener
	log *slog.Logger
}

// Accept waits for a connection. One whose user the kernel does not tell is closed.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil {
			return &peerConn{Conn: conn, uid: uid}, nil
		}
		l.log.Warn("control socket: cannot tell who connects, refused", "err", err)
		_ = conn.Close()
	}
}

// peerConn is a connection with the user at its other end.
type peerConn struct {
	net.Conn
	uid uint32
}

type peerKey struct{}

// withPeer is the one way net/http has for a handler to learn about its connection.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*limitedConn); ok {
		conn = c.Conn
	}
	if c, ok := conn.(*peerConn); ok {
		return context.WithValue(ctx, peerKey{}, c.uid)
	}
	return ctx
}

// maxWhy is how many bytes of a client's reason are kept.
const maxWhy = 1 << 10

// actorOf names who asks: "socket:<user>", and the reason in parentheses the client gave, if any. Nothing else of
// what the client says about itself counts.
func actorOf(uid uint32, given string) string {
	id := strconv.FormatUint(uint64(uid), 10)
	who := "socket:uid" + id
	if u, err := user.LookupId(id); err == nil && plainName(u.Username) {
		who = "socket:" + u.Username
	}
	_, why, ok := strings.Cut(given, " (")
	why, closed := strings.CutSuffix(why, ")")
	if !ok || !closed || why == "" {
		return who
	}
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + "…"
	}
	return who + " (" + why + ")"
}

// plainName reports whether the name can be told apart from what stands around it in an actor.
func plainName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '(' || r == ')' || r == ':' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsGraphic(r)
	})
}
