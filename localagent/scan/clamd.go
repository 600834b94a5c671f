package scan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

const (
	// clamdDial is how long one try to connect may take.
	clamdDial = 2 * time.Second
	// clamdOutage is how long a clamd that went away is waited for: systemd starts it again within seconds.
	clamdOutage = 15 * time.Second
	// clamdRedial is the pause between two tries to connect.
	clamdRedial = 250 * time.Millisecond
	// clamdWord is how long clamd may take to answer a question that needs no work. It answers late while it loads a database.
	clamdWord = 10 * time.Second
	// clamdSilentMax is what is taken for clamd's MaxFileSize when it does not report what it skips: Debian's clamd.conf has
	// 25M, the program's own default is 100M (clamd.conf(5)).
	clamdSilentMax = 25 << 20
)

// clamd asks a ClamAV daemon: over its Unix socket it hands over the open file (FILDES), elsewhere the content (INSTREAM).
// Protocol: clamd(8), https://docs.clamav.net/manual/Usage/Scanning.html#clamd.
type clamd struct {
	network, address string
	// silentMax is the MaxFile of a clamd that does not report what it skips.
	silentMax int64
	// outage is how long to wait for a clamd that went away.
	outage time.Duration
	// idle holds the open sessions nobody uses.
	idle chan *session
}

var _ Engine = (*clamd)(nil)

// newClamd makes the client for the socket at an absolute path, or "tcp:127.0.0.1:3310". It connects to nothing.
func newClamd(where string, silentMax int64, sessions int) (*clamd, error) {
	c := &clamd{network: "unix", address: where, silentMax: silentMax, outage: clamdOutage, idle: make(chan *session, sessions)}
	if c.silentMax <= 0 {
		c.silentMax = clamdSilentMax
	}
	host, ok := strings.CutPrefix(where, "tcp:")
	if !ok {
		if !isAbsolute(where) {
			return nil, fmt.Errorf("clamd: %q is no absolute path of a socket and no tcp:ADDRESS:PORT", where)
		}
		return c, nil
	}
	c.network, c.address = "tcp", host
	// The content of every file would go over the network in the clear, and anybody on the way could answer OK.
	if at, err := netip.ParseAddrPort(host); err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("clamd: %q is not on this machine: want tcp:127.0.0.1:PORT", where)
	}
	return c, nil
}

// Info asks for the version, and finds out by a file of 5 GiB without content whether clamd reports what it skips.
func (c *clamd) Info(ctx context.Context) (EngineInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, clamdWord)
	defer cancel()
	reply, err := c.word(ctx, "VERSION")
	if err != nil {
		return EngineInfo{}, err
	}
	info, err := parseVersion(reply)
	if err != nil {
		return EngineInfo{}, err
	}
	speaks, err := c.reportsLimits(ctx)
	if err != nil {
		return EngineInfo{}, fmt.Errorf("ask clamd about a file that is too large: %w", err)
	}
	if !speaks {
		info.MaxFile, info.Silent = c.silentMax, true
		info.Notes = append(info.Notes, fmt.Sprintf("clamd does not say what it leaves out: files larger than %d MiB, archives and documents "+
			"count as skipped, and its MaxFileSize is taken not to be smaller; put \"AlertExceedsMax yes\" into clamd.conf", c.silentMax>>20))
	}
	return info, nil
}

// Scan hands the file over and waits for the verdict.
func (c *clamd) Scan(ctx context.Context, f *os.File, info FileInfo) (Verdict, error) {
	s, used, err := c.take(ctx)
	if err != nil {
		return Verdict{}, err
	}
	v, err := c.ask(ctx, s, f, info)
	if used && errors.Is(err, errSilent) && ctx.Err() == nil {
		// clamd ends sessions nobody used for a while (IdleTimeout). A file that kills clamd kills it again.
		if s, err = c.dial(ctx, c.outage); err != nil {
			return Verdict{}, err
		}
		v, err = c.ask(ctx, s, f, info)
	}
	return v, err
}

// ask puts one question over the session, and keeps the session if it can be used again.
func (c *clamd) ask(ctx context.Context, s *session, f *os.File, info FileInfo) (Verdict, error) {
	stop := context.AfterFunc(ctx, s.interrupt)
	v, again, err := s.scan(f, info.Size, c.network == "unix")
	if !stop() || !again {
		s.close()
		if cause := context.Cause(ctx); cause != nil && err != nil {
			err = errors.Join(cause, err)
		}
		return v, err
	}
	select {
	case c.idle <- s:
	default:
		s.close()
	}
	return v, err
}

// take returns an idle session, or a fresh one.
func (c *clamd) take(ctx context.Context) (s *session, used bool, err error) {
	select {
	case s := <-c.idle:
		return s, true, nil
	default:
		s, err := c.dial(ctx, c.outage)
		return s, false, err
	}
}

// dial opens a session; it tries again for as long as patience lasts.
func (c *clamd) dial(ctx context.Context, patience time.Duration) (*session, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		d := net.Dialer{Timeout: clamdDial}
		conn, err := d.DialContext(ctx, c.network, c.address)
		if err == nil {
			s, err := newSession(conn)
			if err == nil {
				return s, nil
			}
			_ = conn.Close()
		}
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("connect to clamd: %w", errors.Join(cause, err))
		}
		pause := time.NewTimer(clamdRedial)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		case <-timer.C:
			pause.Stop()
			return nil, fmt.Errorf("connect to clamd: %w: %w", ErrEngineGone, err)
		}
	}
}

// word puts a question that needs no work, on a connection of its own.
func (c *clamd) word(ctx context.Context, command string) (string, error) {
	d := net.Dialer{Timeout: clamdDial}
	conn, err := d.DialContext(ctx, c.network, c.address)
	if err != nil {
		return "", fmt.Errorf("connect to clamd: %w: %w", ErrEngineGone, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte("z" + command + "\x00")); err != nil {
		return "", fmt.Errorf("ask clamd for %s: %w", command, err)
	}
	reply, err := readReply(conn, make([]byte, maxReply))
	if err != nil {
		return "", fmt.Errorf("ask clamd for %s: %w", command, errors.Join(context.Cause(ctx), err))
	}
	return reply, nil
}

// close ends the idle sessions. Sessions in use end with the context of their question.
func (c *clamd) close() {
	for {
		select {
		case s := <-c.idle:
			s.close()
		default:
			return
		}
	}
}
