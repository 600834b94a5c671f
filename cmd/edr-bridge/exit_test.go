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
	"github.com/edr-bridge/edr-bridge/bridge/api"
	"github.com/edr-bridge/edr-bridge/bridge/store"
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
		{bridge.StateHeld, bridge.ReasonHours, exitHeld},
		{bridge.StateHeld, bridge.ReasonDamping, exitHeld},
		{bridge.StateHeld, bridge.ReasonHold, exitLimit},
		{bridge.StateHeld, bridge.ReasonLimit, exitLimit},
		{bridge.StateHeld, bridge.ReasonLiveTasks, exitLimit},
		{bridge.StateRefused, bridge.ReasonLimit, exitLimit},
		{bridge.StateRefused, bridge.ReasonLiveTasks, exitLimit},
		{bridge.StateRefused, bridge.ReasonApproval, exitRefused},
		{bridge.StateRefused, bridge.ReasonUnreachable, exitRefused},
		{bridge.StateDuplicate, bridge.ReasonLease, exitDone},
		{bridge.StateCancelled, bridge.ReasonLease, exitFailed},
		{bridge.StateUnknown, bridge.ReasonDeadline, exitUnknown},
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
		"limits":                        {t.Context(), execError(bridge.Permanent, bridge.ReasonLimit, cause), exitLimit},
		"ksc.tasks":                     {t.Context(), execError(bridge.Retry, bridge.ReasonLiveTasks, cause), exitLimit},
		"the bridge went away":          {t.Context(), fmt.Errorf("x: %w", api.ErrNoAnswer), exitUnknown},
		"no bridge any more":            {t.Context(), fmt.Errorf("x: %w", api.ErrNoBridge), exitUnreachable},
		"no access to its socket":       {t.Context(), fmt.Errorf("x: %w", api.ErrNoAccess), exitUnreachable},
		"a damaged store":               {t.Context(), fmt.Errorf("x: %w", store.ErrDamaged), exitFailed},
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

func TestDeskErrorsHaveTheirExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
		code string
	}{
		{bridge.ErrNotFound, exitNotFound, "order.not_found"},
		{bridge.ErrAmbiguous, exitNotFound, "order.not_found"},
		{bridge.ErrNotApprovable, exitRefused, "order.not_approvable"},
		{bridge.ErrStale, exitRefused, "order.moved_on"},
		{api.ErrNoAnswer, exitUnknown, "bridge.no_answer"},
	} {
		p := problemOf(t.Context(), deskError(fmt.Errorf("x: %w", c.err), "order", ""))
		if p.exit != c.want || p.code != c.code {
			t.Errorf("%v: exit code %d and word %q, want %d and %q", c.err, p.exit, p.code, c.want, c.code)
		}
	}
	if err := deskError(nil, "order", ""); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// exitsOfScripts finds the codes the scripts want.
var exitsOfScripts = regexp.MustCompile(`(?m)^(?:\[[a-z]+\] )?(?:exits|nobody) ([0-9]+) |^ended [a-z]+ ([0-9]+)$`)

// TestEveryExitCodeIsWantedByAScript keeps the table of exit codes true: none stands there that nobody has seen.
func TestEveryExitCodeIsWantedByAScript(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob(filepath.Join(scriptsOfTests, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range exitsOfScripts.FindAllStringSubmatch(string(text), -1) {
			seen[m[1]+m[2]] = true
		}
	}
	for _, c := range exitCodes() {
		if !seen[strconv.Itoa(c.Code)] {
			t.Errorf("no script ends with exit code %d (%s)", c.Code, c.Meaning)
		}
	}
}
