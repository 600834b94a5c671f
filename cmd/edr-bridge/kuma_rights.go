package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// What a user wants of a file; the bits of one class of a mode.
const (
	wantRead  = 4
	wantWrite = 2
	wantEnter = 1 // enter a folder, run a file
)

// account is a user of this machine with the groups it is in.
type account struct {
	name string
	uid  int
	gids []int
}

func lookUpAccount(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fail(exitNotFound, "kuma.user", fmt.Errorf("this machine has no user %q", printable(name)),
			"run it on the server of the correlator, or say with --user who runs the scripts")
	}
	acc := account{name: name}
	if acc.uid, err = strconv.Atoi(u.Uid); err != nil {
		return account{}, fmt.Errorf("user %s: uid %q is no number", name, u.Uid)
	}
	gids, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("groups of %s: %w", name, err)
	}
	for _, text := range append(gids, u.Gid) {
		if gid, err := strconv.Atoi(text); err == nil {
			acc.gids = append(acc.gids, gid)
		}
	}
	return acc, nil
}

// obstacle is what keeps a user from a file, and the command that takes it away.
type obstacle struct {
	What string `json:"what"`
	Fix  string `json:"fix,omitempty"`
	// Minor says that calls are kept all the same.
	Minor bool `json:"minor,omitempty"`
	// missing says that nothing is there, which is not a matter of rights.
	missing bool
}

func (o *obstacle) String() string {
	if o.Fix == "" {
		return o.What
	}
	return o.What + ": " + o.Fix
}

// reach reports what keeps the user from the file, along the path as it is written and as its links lead; nil = nothing. Access lists and
// security modules are not looked at.
func (u account) reach(path string, want int) *obstacle {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return pathObstacle(path, err)
	}
	var folders []string
	for _, p := range []string{path, resolved} {
		for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
			folders = append(folders, dir)
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	slices.Sort(folders) // outer ones first
	for _, dir := range slices.Compact(folders) {
		if o := u.lacks(dir, wantEnter); o != nil {
			return o
		}
	}
	return u.lacks(resolved, want)
}

func pathObstacle(path string, err error) *obstacle {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &obstacle{What: path + " is not there", missing: true}
	default:
		return &obstacle{What: err.Error()}
	}
}

func (u account) lacks(path string, want int) *obstacle {
	info, err := os.Stat(path)
	if err != nil {
		return pathObstacle(path, err)
	}
	uid, gid, known := ownerOf(info)
	if !known {
		return &obstacle{What: "who owns " + path + " cannot be told"}
	}
	mode := int(info.Mode().Perm())
	class, letter := mode&7, "o"
	switch {
	case u.uid == 0:
		if info.IsDir() || want&wantEnter == 0 || mode&0o111 != 0 {
			return nil
		}
		return &obstacle{What: path + " may be run by nobody", Fix: "chmod +x " + path}
	case uid == u.uid:
		class, letter = mode>>6&7, "u"
	case slices.Contains(u.gids, gid):
		class, letter = mode>>3&7, "g"
	}
	if class&want == want {
		return nil
	}
	fix := fmt.Sprintf("chmod %s+%s %s", letter, modeLetters(want&^class), path)
	if letter == "o" && want&wantWrite != 0 {
		fix = fmt.Sprintf("put user %s into the group of %s (call_group in the settings)", u.name, path)
	}
	return &obstacle{What: fmt.Sprintf("user %s may not %s %s (mode %04o)", u.name, wantWords(info, want), path, mode), Fix: fix}
}

func modeLetters(bits int) string {
	var b strings.Builder
	for i, letter := range "rwx" {
		if bits&(wantRead>>i) != 0 {
			b.WriteRune(letter)
		}
	}
	return b.String()
}

func wantWords(info fs.FileInfo, want int) string {
	var words []string
	if want&wantRead != 0 {
		words = append(words, "read")
	}
	if want&wantWrite != 0 {
		words = append(words, "write to")
	}
	if want&wantEnter != 0 {
		if info.IsDir() {
			words = append(words, "enter")
		} else {
			words = append(words, "run")
		}
	}
	return strings.Join(words, ", ")
}
