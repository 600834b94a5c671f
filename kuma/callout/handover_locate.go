package callout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

const (
	// LocationFile is the name of the file beside a script link that says where its calls go.
	LocationFile = "edr-bridge-kuma.json"
	// LocationDefault is where it is looked for last.
	LocationDefault = "/etc/edr-bridge/kuma.json"

	handOverMaxLocation = 4 << 10
)

// Location says where calls go:
//
//	{"socket":"/run/edr-bridge/kuma.sock","spool":"/var/spool/edr-bridge/kuma"}
type Location struct {
	// Socket and Spool are absolute paths; one may be empty.
	Socket string `json:"socket,omitempty"`
	Spool  string `json:"spool,omitempty"`
}

func (l Location) check() error {
	if l.Socket == "" && l.Spool == "" {
		return errors.New("names neither socket nor spool")
	}
	for key, path := range map[string]string{"socket": l.Socket, "spool": l.Spool} {
		if path != "" && (!filepath.IsAbs(path) || argsCheckValue(path) != nil) {
			return fmt.Errorf("%s is no absolute path", key)
		}
	}
	return nil
}

// Locate finds where calls go without any settings: the file beside the link the script was called by (argv0), the one beside the
// executable, /etc/edr-bridge/kuma.json. KUMA documents neither working directory nor HOME nor PATH of its scripts, so none of
// them counts. The first file that is there decides; one that may not be trusted is an error. It returns which file it was;
// errors wrap fs.ErrNotExist when there is none.
func Locate(argv0, executable string) (Location, string, error) {
	candidates := []string{LocationDefault}
	if executable != "" {
		candidates = append([]string{filepath.Join(filepath.Dir(executable), LocationFile)}, candidates...)
	}
	if strings.Contains(argv0, string(filepath.Separator)) {
		candidates = append([]string{filepath.Join(filepath.Dir(argv0), LocationFile)}, candidates...)
	}
	for _, path := range candidates {
		l, err := ReadLocation(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return l, path, err
	}
	return Location{}, "", fmt.Errorf("where calls go is said nowhere (%s): run edr-bridge kuma install: %w", strings.Join(candidates, ", "), fs.ErrNotExist)
}

// ReadLocation reads such a file. It must be a file of root or of this user that nobody else may write to, with the two keys and
// nothing else. It wraps errors.ErrUnsupported where the system does not tell.
func ReadLocation(path string) (Location, error) {
	data, err := handOverRead(path, handOverMaxLocation)
	if err != nil {
		return Location{}, err
	}
	var l Location
	if err := bridge.CheckJSON(data); err != nil {
		return Location{}, fmt.Errorf("%s: %w", path, err)
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return Location{}, fmt.Errorf("%s: want {\"socket\":…, \"spool\":…}", path)
	}
	if err := l.check(); err != nil {
		return Location{}, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// WriteLocation writes such a file, mode 0644, in place of any other: at no moment is there half a file.
func WriteLocation(path string, l Location) error {
	if err := l.check(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	data, err := callEncode(l)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".edr-bridge-kuma-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(append(data, '\n'))
	if err == nil {
		err = temp.Chmod(0o644) // every user that runs a script reads it; it holds no secret
	}
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
