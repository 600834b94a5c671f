package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	dialTimeout = 2 * time.Second
	// maxAnswer bounds what is read of an answer: a listing of 10,000 orders fits, unless they carry archives.
	maxAnswer = 256 << 20
)

var (
	// ErrNoBridge is returned when nobody listens on the socket: the store may be opened directly.
	ErrNoBridge = errors.New("no bridge runs here")
	// ErrNoAccess is returned when the user may not connect to the socket. A bridge may be running.
	ErrNoAccess = errors.New("no access to the control socket")
	// ErrNoAnswer is returned when the connection ended before the answer came: a change may have happened.
	ErrNoAnswer = errors.New("the bridge went away before it answered; what was asked may have been done")
)

// Client is the desk of a bridge that runs, over its control socket. It is safe for concurrent use; each call is a connection of
// its own, so there is nothing to close. All methods block until the bridge answers or ctx ends, and may return any of
// ErrNoBridge, ErrNoAccess and ErrNoAnswer beside what bridge.Desk says.
type Client struct {
	path string
	http *http.Client
}

// Dial checks within 2 s that somebody listens on the socket at path. Errors wrap ErrNoBridge or ErrNoAccess.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := &Client{path: path}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	return c, conn.Close()
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	within, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(within, "unix", path)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("control socket %s: %w", path, ErrNoBridge)
	case errors.Is(err, fs.ErrPermission):
		return nil, noAccess(path)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	// Where the system answers a missing file in words of its own.
	if _, serr := os.Lstat(path); errors.Is(serr, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket %s: %w", path, ErrNoBridge)
	}
	return nil, fmt.Errorf("control socket %s: %w", path, err)
}

// noAccess says what stands in the way.
func noAccess(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("%w %s: its folder is closed to this user: use sudo, or open %s to the group of the socket",
			ErrNoAccess, path, filepath.Dir(path))
	}
	return fmt.Errorf("%w %s: it belongs to %s with mode %04o: join the group or use sudo (api.group)",
		ErrNoAccess, path, ownerOf(info), info.Mode().Perm())
}

// Status returns what the bridge says about itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	s, err := ask[none, status](ctx, c, http.MethodGet, pathStatus, none{})
	return with(s, err, status.decode)
}

// ask makes one request. The value may be there beside an error.
func ask[In, Out any](ctx context.Context, c *Client, method, path string, in In) (Out, error) {
	var a answer[Out]
	var body io.Reader
	if method == http.MethodPost {
		doc, err := encodeJSON(in)
		if err != nil {
			return a.Value, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(doc)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+hostName+path, body)
	if err != nil {
		return a.Value, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return a.Value, c.broken(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return a.Value, c.broken(ctx, err)
	case len(doc) > maxAnswer:
		return a.Value, fmt.Errorf("control socket %s: the answer is longer than %d bytes: ask for less at once", c.path, maxAnswer)
	}
	if err := json.Unmarshal(doc, &a); err != nil {
		return a.Value, fmt.Errorf("control socket %s: answer %s: %w", c.path, resp.Status, err)
	}
	switch {
	case a.Error != nil:
		return a.Value, a.Error.decode()
	case resp.StatusCode != http.StatusOK:
		return a.Value, fmt.Errorf("control socket %s: answer %s", c.path, resp.Status)
	}
	return a.Value, nil
}

// broken says why there is no answer.
func (c *Client) broken(ctx context.Context, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	switch {
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), err)
	case errors.Is(err, ErrNoBridge), errors.Is(err, ErrNoAccess):
		return err
	}
	if oe, ok := errors.AsType[*net.OpError](err); ok && oe.Op == "dial" {
		return err
	}
	return fmt.Errorf("control socket %s: %w (%w)", c.path, ErrNoAnswer, err)
}
