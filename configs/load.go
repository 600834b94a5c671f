package configs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
)

const maxFile = 256 << 10 // bytes of a settings file

// Load reads the settings: the file at path, then the environment variables of EnvVars over it, then the defaults for
// what is left. An empty path means no file. env looks up an environment variable. The error is *Error and lists every
// problem that was found; a file that anyone may write to is refused unread.
func Load(path string, env func(string) (string, bool)) (*Settings, error) {
	if path == "" {
		return build("", "", nil, env)
	}
	src, err := readGuarded(path, maxFile)
	if err != nil {
		return nil, err
	}
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, problemIn(path, "its directory is not known: %v", err)
	}
	return build(path, base, src, env)
}

// build makes settings of the text of a file; a nil src means no file.
func build(path, base string, src []byte, env func(string) (string, bool)) (*Settings, error) {
	s := Default(env)
	d := &decoder{file: path, at: make(map[string]place)}
	s.places = places{file: path, dir: filepath.Dir(path), base: base, at: d.at}
	if src != nil {
		s.Version = 0
		if body, err := parse(src); err != nil {
			d.syntax(err, src)
		} else {
			d.value("", body, reflect.ValueOf(s).Elem(), lastLine)
		}
	}
	if len(d.problems) == 0 || len(d.at) > 0 { // a file that is no YAML has one problem, not ten
		d.problems = append(d.problems, s.override(env)...)
		s.fill()
		vendor, _ := env(kscHost)
		c := checker{s: s, problems: d.problems, hidden: d.hidden, later: vendor != ""}
		c.all()
		d.problems, d.hidden = c.problems, c.hidden
	}
	if len(d.problems) > 0 {
		return nil, &Error{Problems: newExcerpts(src, d.hidden).fill(d.problems)}
	}
	return s, nil
}

// Find returns the settings file to load: the one named by flag (-c), else by $EDR_BRIDGE_CONFIG, else edr-bridge.yaml in
// the working directory, else that of the system; empty when there is none. A file that was named must exist, and one
// that merely lies in the working directory must belong to this account or root.
func Find(flag string, env func(string) (string, bool)) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if named, ok := env(configVariable); ok && named != "" {
		return named, nil
	}
	for _, path := range []string{settingsName, systemFile(env)} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", problemIn(path, "it is not readable: %v", err)
		}
		if why := foreign(info); why != "" && path == settingsName {
			return "", problemIn(path, "%s: name it with -c if it is meant", why)
		}
		return path, nil
	}
	return "", nil
}

// readGuarded reads a regular file of at most limit bytes that only its owner and group may change.
func readGuarded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, problemIn(path, "it is not readable: %v", cause(err))
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, problemIn(path, "it is not a regular file")
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, problemIn(path, "its directory is not readable: %v", cause(err))
	}
	if why := openToOthers(dir); why != "" {
		return nil, problemIn(filepath.Dir(path), "%s: take that right away with chmod o-w", why)
	}
	f, err := os.Open(path) //nolint:gosec // which file is read is the user's choice
	if err != nil {
		return nil, problemIn(path, "it is not readable: %v", cause(err))
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if info, err = f.Stat(); err != nil {
		return nil, problemIn(path, "it is not readable: %v", cause(err))
	}
	if why := openToOthers(info); why != "" {
		return nil, problemIn(path, "%s: take that right away with chmod o-w", why)
	}
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, problemIn(path, "it is not readable: %v", cause(err))
	}
	if int64(len(src)) > limit {
		return nil, problemIn(path, "it is larger than %d KiB", limit>>10)
	}
	return src, nil
}

// cause drops operation and path, which the problem already names.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
