package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// What stands under one of the nine names.
const (
	nameMissing = "missing"
	nameLink    = "link"    // to a program of ours
	nameCopy    = "copy"    // of a program of ours
	nameForeign = "foreign" // the vendor's script, or anything else
)

const (
	kumaKept    = ".vendor-"       // what the name of a kept file goes on with
	kumaTemp    = ".edr-bridge-"   // how temporary names begin
	kumaProgram = "cmd/edr-bridge" // in the package path that a build carries
	kumaCaller  = "edr-bridge-call"
)

// kumaName is one of the nine names in a scripts folder.
type kumaName struct {
	Task bridge.Kind `json:"task"`
	Name string      `json:"name"`
	// State is missing, link, copy or foreign; Target is where a link leads.
	State  string `json:"state"`
	Target string `json:"target,omitempty"`
	// Kept are the vendor's files that were there before, newest first.
	Kept []string `json:"kept,omitempty"`
	path string
}

func lookAtNames(dir string) ([]kumaName, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []kumaName
	for _, task := range kumaScripts() {
		n := kumaName{Task: task, Name: callout.ScriptName(task)}
		n.path = filepath.Join(dir, n.Name)
		n.State, n.Target = stateOfName(n.path)
		for _, e := range slices.Backward(entries) {
			if strings.HasPrefix(e.Name(), n.Name+kumaKept) && !e.IsDir() {
				n.Kept = append(n.Kept, e.Name())
			}
		}
		names = append(names, n)
	}
	return names, nil
}

func stateOfName(path string) (state, target string) {
	info, err := os.Lstat(path)
	if err != nil {
		return nameMissing, ""
	}
	if info.Mode().Type() == fs.ModeSymlink {
		target, err = os.Readlink(path)
		if err == nil && (isOurProgram(path) || slices.Contains([]string{"edr-bridge", kumaCaller}, filepath.Base(target))) {
			return nameLink, target
		}
		return nameForeign, target
	}
	if info.Mode().IsRegular() && isOurProgram(path) {
		return nameCopy, ""
	}
	return nameForeign, ""
}

// isOurProgram knows a build of this program by what the Go linker writes into each.
func isOurProgram(path string) bool {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(info.Path, kumaProgram)
	return ok && (rest == "" || rest == "-call" || rest == ".test")
}

// kumaChange is what installing does to one name.
type kumaChange struct {
	Name string `json:"name"`
	// Do is keep, link or copy; Kept is the name the file that was there gets.
	Do     string `json:"do"`
	Target string `json:"target,omitempty"`
	Kept   string `json:"kept,omitempty"`
	path   string
}

// planNames decides for each name what there is to do. Nothing is touched.
func planNames(names []kumaName, program string, asCopy bool, today time.Time) ([]kumaChange, error) {
	var changes []kumaChange
	for _, n := range names {
		c := kumaChange{Name: n.Name, Do: "link", Target: program, path: n.path}
		if asCopy {
			c.Do = "copy"
		}
		if info, err := os.Lstat(n.path); err == nil && info.IsDir() {
			return nil, fail(exitFailed, "kuma.folder", fmt.Errorf("%s is a folder", n.path), "move it away")
		}
		switch {
		case n.State == nameLink && !asCopy && n.Target == program:
			c.Do = "keep"
		case n.State == nameCopy && asCopy && sameContent(n.path, program):
			c.Do = "keep"
		case n.State == nameForeign:
			c.Kept = freeName(filepath.Dir(n.path), n.Name+kumaKept+today.Format("20060102"))
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// freeName is the name, with a number behind it when it is taken.
func freeName(dir, name string) string {
	free := name
	for i := 2; ; i++ {
		if _, err := os.Lstat(filepath.Join(dir, free)); errors.Is(err, fs.ErrNotExist) {
			return free
		}
		free = name + "-" + strconv.Itoa(i)
	}
}

// carryOut puts the names in place. At every moment each name that was there is there: a new one is made beside it under a temporary
// name and takes its place by one rename(2).
func carryOut(dir, program string, changes []kumaChange) (err error) {
	copied := ""
	if slices.ContainsFunc(changes, func(c kumaChange) bool { return c.Do == "copy" }) {
		if copied, err = copyProgram(dir, program); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(copied)) }()
	}
	for _, c := range changes {
		if c.Do == "keep" {
			continue
		}
		if c.Kept != "" {
			// A second name, not a move: the script stays callable.
			if err := os.Link(c.path, filepath.Join(dir, c.Kept)); err != nil {
				return fmt.Errorf("keep %s: %w", c.Name, err)
			}
		}
		if err := putName(dir, c, copied); err != nil {
			return fmt.Errorf("put %s in place: %w", c.Name, err)
		}
	}
	return syncDir(dir)
}

func putName(dir string, c kumaChange, copied string) error {
	temp := filepath.Join(dir, kumaTemp+strconv.Itoa(os.Getpid())+"-"+c.Name)
	_ = os.Remove(temp) // of a run that was killed and had the same process id
	make := func() error { return os.Symlink(c.Target, temp) }
	if c.Do == "copy" {
		make = func() error { return os.Link(copied, temp) }
	}
	if err := make(); err != nil {
		return err
	}
	if err := os.Rename(temp, c.path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// copyProgram writes one copy for all nine names, which are hard links to it.
func copyProgram(dir, program string) (path string, err error) {
	in, err := os.Open(program) //nolint:gosec // this program
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	out, err := os.CreateTemp(dir, kumaTemp+"*")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o755)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the scripts folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sameContent compares two files by their bytes.
func sameContent(a, b string) bool {
	x, err := os.Open(a) //nolint:gosec // only compared
	if err != nil {
		return false
	}
	defer func() { _ = x.Close() }()
	y, err := os.Open(b) //nolint:gosec // only compared
	if err != nil {
		return false
	}
	defer func() { _ = y.Close() }()
	const block = 256 << 10
	left, right := make([]byte, block), make([]byte, block)
	for {
		n, errX := io.ReadFull(x, left)
		m, errY := io.ReadFull(y, right)
		if n != m || string(left[:n]) != string(right[:m]) {
			return false
		}
		if errX != nil || errY != nil {
			return ended(errX) && ended(errY)
		}
	}
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
