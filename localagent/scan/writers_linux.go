package scan

import (
	"fmt"
	"os"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// checkWriters refuses a signatures file others may write: who names a file malware has it quarantined.
func checkWriters(st files.Stat) error {
	if st.UID != 0 && int(st.UID) != os.Geteuid() {
		return fmt.Errorf("belongs to user %d, who could name any file malware: chown it to root", st.UID)
	}
	if st.Perm.Perm()&0o022 != 0 {
		return fmt.Errorf("may be written by others than its owner (mode %04o): chmod go-w it", st.Perm.Perm())
	}
	return nil
}
