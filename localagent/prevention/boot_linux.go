package prevention

import (
	"os"
	"slices"
	"strings"
)

// bootedWithout reports whether the machine was started with the emergency switch on, for rules that would keep it from starting: the
// file of the switch is gone then.
func bootedWithout() bool {
	line, err := os.ReadFile("/proc/cmdline")
	return err == nil && hasBootWord(string(line))
}

func hasBootWord(line string) bool { return slices.Contains(strings.Fields(line), bootWord) }
