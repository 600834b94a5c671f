package socket

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// asEnv makes the test program send its value to the socket named by asPathEnv and print the answer.
const (
	asEnv     = "LOCALAGENT_SOCKET_SEND"
	asPathEnv = "LOCALAGENT_SOCKET_PATH"
)

func TestMain(m *testing.M) {
	text := os.Getenv(asEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: os.Getenv(asPathEnv)})
	}
	if err != nil {
		_, _ = os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	_, _ = syscall.Write(fd, []byte(text+"\n"))
	b := make([]byte, 64<<10)
	n, _ := syscall.Read(fd, b)
	_, _ = os.Stdout.Write(b[:max(n, 0)])
	os.Exit(0)
}

// as sends the text as another user and returns the answer.
func as(t *testing.T, uid int, path, text string) string {
	t.Helper()
	// The test program lies where only root may go.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = []string{asEnv + "=" + text, asPathEnv + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as %d: %v: %s", uid, err, out)
	}
	return string(out)
}
