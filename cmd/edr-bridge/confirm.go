package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// confirm asks on a terminal before something that cannot be undone; scripts say --yes.
func (a *app) confirm(req *sendRequest, task bridge.Task, orders []bridge.Order) error {
	info := bridge.Describe(task.Kind())
	if req.yes || !info.Irreversible {
		return nil
	}
	var hosts []string
	for _, o := range orders {
		hosts = append(hosts, o.Host)
	}
	return a.goOn(false, fmt.Sprintf("%s on %s. Undo: %s", info.Summary, strings.Join(hosts, ", "), info.Undo))
}

// goOn asks on a terminal whether to go on with what cannot be undone.
func (a *app) goOn(yes bool, what string) error {
	if yes || a.noInput || !isTerminal(a.std.in) {
		return nil // a script said exactly what it wants; the guards still judge it
	}
	a.say("%s", what)
	if _, err := fmt.Fprint(a.std.err, "Go on? [y/N] "); err != nil {
		return err
	}
	line, err := bufio.NewReader(a.std.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return fail(exitFailed, "cancelled", errors.New("cancelled, nothing was done"), "")
	}
	return nil
}
