package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/configs/secrets"
)

// declaredExits reads the constants of exit.go with the comments above them, in their order.
func declaredExits(t *testing.T) []exitCode {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var codes []exitCode
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(v.Names[0].Name, "exit") {
				continue
			}
			lit, ok := v.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is no plain number", v.Names[0].Name)
			}
			n, err := strconv.Atoi(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, exitCode{n, strings.TrimSuffix(strings.Join(strings.Fields(v.Doc.Text()), " "), ".")})
		}
	}
	return codes
}

func TestExitCodesAreTheConstantsAndTheirComments(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(declaredExits(t), exitCodes()); diff != "" {
		t.Errorf("constants and table (-constants +table):\n%s", diff)
	}
}

func TestReadmeListsEveryExitCode(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "`", "")
	for _, c := range exitCodes() {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\|\s*%d\s*\|\s*%s\.?\s*\|\s*$`, c.Code, regexp.QuoteMeta(c.Meaning)))
		if !row.MatchString(text) {
			t.Errorf("README.md has no row | %d | %s |", c.Code, c.Meaning)
		}
	}
}

func TestExitCodeOfAnOrderSaysHowItStands(t *testing.T) {
	t.Parallel()
	cases := []struct {
		state  bridge.State
		reason bridge.Reason
		want   int
	}{
		{bridge.StateDone, "", exitDone},
		{bridge.StateAccepted, "", exitDone},
		{bridge.StateRunning, "", exitDone},
		{bridge.StateDuplicate, bridge.ReasonDedupe, exitDone},
		{bridge.StateShadow, bridge.ReasonDryRun, exitDone},
		{bridge.StateHeld, bridge.ReasonApproval, exitHeld},
		{bridge.StateHeld, bridge.ReasonHold, exitLimit},
		{bridge.StateRefused, bridge.ReasonProtectedHost, exitRefused},
		{bridge.StateRefused, bridge.ReasonOtherHost, exitRefused},
		{bridge.StateRefused, bridge.ReasonMode, exitRefused},
		{bridge.StateRefused, bridge.ReasonHostNotFound, exitNotFound},
		{bridge.StateRefused, bridge.ReasonHostAmbiguous, exitNotFound},
		{bridge.StateRefused, bridge.ReasonNoHost, exitNotFound},
		{bridge.StateRefused, bridge.ReasonInvalid, exitUsage},
		{bridge.StateRefused, bridge.ReasonCredentials, exitCredentials},
		{bridge.StateUnknown, "", exitUnknown},
		{bridge.StateSending, "", exitUnknown},
		{bridge.StateQueued, "", exitUnreachable},
		{bridge.StateFailed, "", exitFailed},
		{bridge.StateFailed, bridge.ReasonUnreachable, exitUnreachable},
		{bridge.StateFailed, bridge.ReasonCredentials, exitCredentials},
		{bridge.StateFailed, bridge.ReasonPanic, exitFailed},
		{bridge.StateExpired, bridge.ReasonAge, exitFailed},
		{bridge.StateCancelled, "", exitFailed},
	}
	seen := map[bridge.State]bool{}
	for _, c := range cases {
		seen[c.state] = true
		t.Run(fmt.Sprintf("%s %s", c.state, c.reason), func(t *testing.T) {
			t.Parallel()
			if got := exitOfOrder(bridge.Order{State: c.state, Reason: c.reason}); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
		})
	}
	for _, s := range bridge.States() {
		if !seen[s] {
			t.Errorf("no case for state %s", s)
		}
	}
}

func TestExitCodeOfSeveralOrdersIsOneOrMixed(t *testing.T) {
	t.Parallel()
	done, held := bridge.Order{State: bridge.StateAccepted}, bridge.Order{State: bridge.StateHeld, Reason: bridge.ReasonApproval}
	for name, c := range map[string]struct {
		orders []bridge.Order
		want   int
	}{
		"none":                     {nil, exitDone},
		"one held":                 {[]bridge.Order{held}, exitHeld},
		"all held":                 {[]bridge.Order{held, held, held}, exitHeld},
		"all ok in two states":     {[]bridge.Order{done, {State: bridge.StateDone}}, exitDone},
		"the first differs":        {[]bridge.Order{held, done, done}, exitMixed},
		"the last differs":         {[]bridge.Order{done, done, held}, exitMixed},
		"differ in the same state": {[]bridge.Order{held, {State: bridge.StateHeld, Reason: bridge.ReasonHold}}, exitMixed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := exitOfOrders(c.orders); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
		})
	}
}

func TestProblemOfFindsTheExitCodeBehindAnyWrapping(t *testing.T) {
	t.Parallel()
	execError := func(class bridge.Class, reason bridge.Reason, err error) error {
		return fmt.Errorf("send: %w", &bridge.ExecError{Executor: "ksc", Class: class, Reason: reason, Err: err})
	}
	cause := errors.New("cause")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		want int
	}{
		"plain":                         {t.Context(), cause, exitFailed},
		"problem":                       {t.Context(), fmt.Errorf("x: %w", usagef("flag")), exitUsage},
		"problem after Ctrl-C":          {gone, fail(exitNotFound, "order.not_found", cause, ""), exitNotFound},
		"anything after Ctrl-C":         {gone, cause, exitInterrupted},
		"cancelled":                     {t.Context(), fmt.Errorf("x: %w", context.Canceled), exitInterrupted},
		"no secret":                     {t.Context(), execError(bridge.Retry, "", &secrets.Error{Op: "get", Kind: secrets.ErrNotFound}), exitCredentials},
		"unreachable":                   {t.Context(), execError(bridge.Unreachable, bridge.ReasonUnreachable, cause), exitUnreachable},
		"may be tried again":            {t.Context(), execError(bridge.Retry, "", cause), exitUnreachable},
		"unknown":                       {t.Context(), execError(bridge.Unknown, "", cause), exitUnknown},
		"permanent":                     {t.Context(), execError(bridge.Permanent, "", cause), exitFailed},
		"the reason outranks the class": {t.Context(), execError(bridge.Permanent, bridge.ReasonCredentials, cause), exitCredentials},
		"hold":                          {t.Context(), execError(bridge.Permanent, bridge.ReasonHold, cause), exitLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problemOf(c.ctx, c.err)
			if p.exit != c.want {
				t.Errorf("exit code %d, want %d", p.exit, c.want)
			}
			if p.code == "" || p.Error() == "" {
				t.Errorf("problem %+v lacks its word or its text", p)
			}
		})
	}
}
