package nobus

import (
	"os"
	"sync"
)

const (
	busVariable     = "DBUS_SESSION_BUS_ADDRESS"
	backendVariable = "EDR_BRIDGE_SECRETS_BACKEND"
)

// restore is built while the package is initialised: that moment is what the package is for.
var restore = detach()

// Restore puts the address of the session bus back as it was when the program started, for the children it starts.
// It may be called more than once.
func Restore() { restore() }

func detach() func() {
	value, present := os.LookupEnv(busVariable)         //nolint:forbidigo // it has to be read before main runs
	if os.Getenv(backendVariable) == "secret-service" { //nolint:forbidigo // it has to be read before main runs
		return func() {}
	}
	if os.Setenv(busVariable, "disabled:") != nil {
		return func() {}
	}
	return sync.OnceFunc(func() {
		if present {
			_ = os.Setenv(busVariable, value) // the same variable was set before
			return
		}
		_ = os.Unsetenv(busVariable) // the same variable was set before
	})
}
