package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo-terminal (pty(7)): what is written to the keyboard is typed at the screen.
func openTerminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	return keyboard, screen
}

func echoes(t *testing.T, screen *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestPasswordIsReadWithoutEcho(t *testing.T) {
	t.Parallel()
	keyboard, screen := openTerminal(t)
	if !echoes(t, screen) {
		t.Fatal("a fresh terminal does not echo")
	}
	var words bytes.Buffer
	a := &app{std: stdio{in: screen, out: &words, err: &words}}
	type answer struct {
		data []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		data, err := a.ask("Value: ")
		done <- answer{data, err}
	}()
	err := eventually(patience, func() error {
		if echoes(t, screen) {
			return fmt.Errorf("the terminal still echoes")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyboard.WriteString(canaryPassword + "\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-done:
		if got.err != nil || string(got.data) != canaryPassword {
			t.Fatalf("%d bytes were read, %v, want the password", len(got.data), got.err)
		}
	case <-time.After(patience):
		t.Fatal("the password was typed and is not read")
	}
	if !echoes(t, screen) {
		t.Error("the terminal does not echo any more")
	}
	if _, err := screen.WriteString("end"); err != nil {
		t.Fatal(err)
	}
	shown := make([]byte, 4096)
	n, err := keyboard.Read(shown)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(shown[:n]) + words.String(); strings.Contains(text, canaryPassword) || !strings.Contains(text, "Value: ") {
		t.Errorf("screen and words are %q, want the prompt without the password", text)
	}
}
