package configs

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const defaultBackend = "file"

func defaultState(env func(string) (string, bool)) string {
	if os.Geteuid() == 0 {
		return "/var/lib/" + productDir
	}
	return userState(env)
}

// systemFile is where the settings of the service are (hier(7)).
func systemFile(func(string) (string, bool)) string { return "/etc/" + productDir + "/" + settingsName }

// openToOthers says why others could change a file or replace it in its directory, or nothing.
func openToOthers(info fs.FileInfo) string {
	mode := info.Mode()
	if mode.Perm()&0o002 == 0 || mode.IsDir() && mode&fs.ModeSticky != 0 {
		return ""
	}
	return fmt.Sprintf("anyone may write to it (mode %04o)", mode.Perm())
}

// foreign says that a file belongs neither to this account nor to root, or nothing.
func foreign(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Sprintf("it belongs to uid %d", st.Uid)
	}
	return ""
}
