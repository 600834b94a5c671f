package prevention

import (
	"cmp"
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// kind is how an entry keeps a file from starting.
type kind int

const (
	byDebugger kind = iota // the start of the path goes to a debugger that is not there
	byPath                 // a policy disallows the path
	byHash                 // a policy disallows the content
)

// entry is one thing in the registry that keeps a file from starting.
type entry struct {
	kind kind
	// rule is the id of the rule it belongs to; it stands in the registry as well.
	rule string
	path string
	// md5, sha256 and size are those of the content, for byHash.
	md5, sha256 string
	size        int64
}

func (e entry) policy() bool { return e.kind != byDebugger }

// damaged marks an entry that stands in the registry and does not hold.
func (e entry) damaged() bool { return e.size < 0 }

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.rule, b.rule), cmp.Compare(a.path, b.path))
}

func (e entry) add() error {
	switch e.kind {
	case byDebugger:
		return addDebugger(e)
	case byPath, byHash:
		return addPolicy(e)
	default:
		return fmt.Errorf("no kind of entry: %d", e.kind)
	}
}

func (e entry) remove() error {
	if e.kind == byDebugger {
		return removeDebugger(e)
	}
	return removePolicy(e)
}

// ownEntries returns everything in the registry that is ours, whichever process wrote it.
func ownEntries() ([]entry, error) {
	debuggers, err := debuggers()
	if err != nil {
		return nil, err
	}
	policies, err := policies()
	return append(debuggers, policies...), err
}

// image is what there is to know of a file for a rule.
type image struct {
	md5, sha256 string
	size        int64
	// signed says that the file carries a signature, by whose hash policies then go.
	signed bool
}

// lookAt reads the file at path; nil without an error when there is none.
func lookAt(ctx context.Context, path string) (*image, error) {
	f, err := files.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file is an answer, not an error
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d, err := new(files.Cache).Of(ctx, f, true, true)
	if err != nil {
		return nil, err
	}
	return &image{md5: d.MD5, sha256: d.SHA256, size: info.Size(), signed: carriesSignature(f)}, nil
}

// carriesSignature reports whether a program has a table of certificates (learn.microsoft.com/windows/win32/debug/pe-format, data
// directory 4). What is no program has none.
func carriesSignature(f *os.File) bool {
	p, err := pe.NewFile(f)
	if err != nil {
		return false
	}
	switch h := p.OptionalHeader.(type) {
	case *pe.OptionalHeader64:
		return h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size > 0
	case *pe.OptionalHeader32:
		return h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size > 0
	default:
		return false
	}
}

// machineKey opens a key below HKEY_LOCAL_MACHINE in the 64-bit view. ok is false when there is none.
func machineKey(path string, access uint32) (k registry.Key, ok bool, err error) {
	k, err = registry.OpenKey(registry.LOCAL_MACHINE, path, access|registry.WOW64_64KEY)
	if errors.Is(err, registry.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("open HKLM\\%s: %w", path, err)
	}
	return k, true, nil
}

// makeKey opens a key and makes it when it is missing.
func makeKey(path string) (registry.Key, error) {
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, path, registry.ALL_ACCESS|registry.WOW64_64KEY)
	if err != nil {
		return 0, fmt.Errorf("make HKLM\\%s: %w", path, err)
	}
	return k, nil
}

// deleteKey removes a key without subkeys; one that is gone already is no error.
func deleteKey(path string) error {
	err := registry.DeleteKey(registry.LOCAL_MACHINE, path)
	if err != nil && !errors.Is(err, registry.ErrNotExist) {
		return fmt.Errorf("remove HKLM\\%s: %w", path, err)
	}
	return nil
}

// subkeys lists the subkeys of a key; none when the key is missing.
func subkeys(path string) ([]string, error) {
	k, ok, err := machineKey(path, registry.ENUMERATE_SUB_KEYS)
	if err != nil || !ok {
		return nil, err
	}
	defer func() { _ = k.Close() }()
	names, err := k.ReadSubKeyNames(-1)
	if err != nil {
		return nil, fmt.Errorf("list HKLM\\%s: %w", path, err)
	}
	return names, nil
}

// empty reports whether the key holds nothing at all.
func empty(path string) (bool, error) {
	k, ok, err := machineKey(path, registry.QUERY_VALUE)
	if err != nil || !ok {
		return false, err
	}
	defer func() { _ = k.Close() }()
	info, err := k.Stat()
	if err != nil {
		return false, fmt.Errorf("look at HKLM\\%s: %w", path, err)
	}
	return info.SubKeyCount == 0 && info.ValueCount == 0, nil
}

func systemFolder() (string, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return "", fmt.Errorf("system folder: %w", err)
	}
	return dir, nil
}
