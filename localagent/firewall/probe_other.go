//go:build !linux && !windows

package firewall

import "context"

// ProbeTables says that there is no packet filter this package knows.
func ProbeTables(context.Context) (string, error) { return "", errNoFilter }
