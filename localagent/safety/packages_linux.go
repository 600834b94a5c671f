package safety

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// maxStatus and maxList bound dpkg's status file and one list of files.
	maxStatus = 256 << 20
	maxList   = 64 << 20
)

// packageFiles returns the files of the packages the system needs, by path, with the name of the package. known is false
// where there is no dpkg database.
func packageFiles(ctx context.Context, folder string, patterns []string) (owners map[string]string, known bool, err error) {
	status, err := os.Open(filepath.Join(folder, "status")) //nolint:gosec // a setting, not an alert
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("packages of the system: %w", err)
	}
	all, err := parseStatus(io.LimitReader(status, maxStatus))
	if err := errors.Join(err, status.Close()); err != nil {
		return nil, false, fmt.Errorf("packages of the system: %s: %w", status.Name(), err)
	}
	owners = make(map[string]string)
	for _, p := range neededPackages(all, patterns) {
		if cause := context.Cause(ctx); cause != nil {
			return nil, false, fmt.Errorf("packages of the system: %w", cause)
		}
		if err := readList(folder, p, owners); err != nil {
			return nil, false, fmt.Errorf("files of package %s: %w", p.name, err)
		}
	}
	return owners, len(all) > 0, nil
}

// readList adds the files of one package. Packages of several architectures have theirs in the name of the list.
func readList(folder string, p pack, owners map[string]string) error {
	f, err := os.Open(filepath.Join(folder, "info", filepath.Base(p.name+":"+p.arch)+".list")) //nolint:gosec // below dpkg's folder
	if errors.Is(err, os.ErrNotExist) {
		f, err = os.Open(filepath.Join(folder, "info", filepath.Base(p.name)+".list")) //nolint:gosec // below dpkg's folder
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(io.LimitReader(f, maxList))
	for lines.Scan() {
		if name := lines.Text(); ofUse(name) {
			owners[name] = p.name
		}
	}
	return lines.Err()
}
