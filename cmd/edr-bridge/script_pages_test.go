package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// get CODE URL FILE asks for a page again and again until the answer has the code, and puts its body into the file.
func (s *stage) get(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: http CODE URL FILE")
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return eventually(patience, func() error {
		resp, err := client.Get(args[1])
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if err := os.WriteFile(ts.MkAbs(args[2]), body, 0o600); err != nil {
			return err
		}
		if got := strconv.Itoa(resp.StatusCode); got != args[0] {
			return fmt.Errorf("%s answers %s, want %s:\n%s", args[1], got, args[0], body)
		}
		return nil
	})
}

// port NAME puts a free port of this machine into a variable.
func (s *stage) port(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: port NAME")
	}
	var listener net.Listener
	// Below the range from which the kernel takes ports for connections: one of those could have it until the program listens.
	if err := eventually(patience, func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		return err
	}); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	ts.Setenv(args[0], port)
	return errors.Join(err, listener.Close())
}

// cut FILE OLD NEW replaces the only place of a text in a file.
func (s *stage) cut(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: cut FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if n := strings.Count(text, args[1]); n != 1 {
		return fmt.Errorf("%q stands %d times in %s", args[1], n, args[0])
	}
	return os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o600)
}
