//go:build !linux && !windows

package prevention

import (
	"context"
	"errors"
	"fmt"
)

// machine is what makes rules effective on a system. Its methods are the seam to the system:
//
//   - settle refuses a path whose file is protected (*verdict.Error) and returns the rule with the path in the form the system compares
//   - apply makes exactly the rules effective and returns when they are; only what is wrong with the rule of the id, if one is given, is an
//     error; resume lets rules deny again that the breaker stopped
//   - run keeps the stored rules effective until ctx ends; running reports whether they are
//   - status fills in what it knows; gaps says what a rule (nil = any) does not cover; probe what the system lacks
type machine struct{}

// errSystem says where executions can be prevented.
var errSystem = fmt.Errorf("executions are prevented on Linux and Windows only: send the order through KSC: %w", errors.ErrUnsupported)

func newMachine(*Config) *machine { return &machine{} }

func (*machine) settle(_ context.Context, _ Protected, r Rule) (Rule, error) { return r, nil }
func (*machine) apply(context.Context, []Rule, string) error                 { return errSystem }
func (*machine) resume(context.Context) error                                { return errSystem }
func (*machine) run(context.Context) error                                   { return errSystem }
func (*machine) running() bool                                               { return false }
func (*machine) status(context.Context, *Status)                             {}
func (*machine) gaps(*Rule) []string                                         { return nil }
func (*machine) probe(context.Context) (string, error)                       { return "", errSystem }

func bootedWithout() bool { return false }

// trusted reports whether somebody else can have written the stored rules.
func trusted(...string) error { return nil }
