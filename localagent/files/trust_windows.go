package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// ErrOthers marks what somebody else than SYSTEM, the administrators, the installer of Windows and this account could change.
var ErrOthers = errors.New("others could change it")

const (
	// trustedInstaller is the service that owns the files of Windows.
	trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	// private lets the system and administrators in, and nobody else
	// (learn.microsoft.com/windows/win32/secauthz/security-descriptor-string-format).
	private = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
)

// Rights to files and folders (winnt.h, file access rights). The first two are those to write to a file as well.
const (
	addFile     = 0x2
	addFolder   = 0x4
	deleteChild = 0x40
	takeOver    = windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_ALL | windows.GENERIC_WRITE | windows.DELETE
	anyRight    = ^windows.ACCESS_MASK(0)
)

// Types of entries that allow (winnt.h): plain ones, those about objects of a directory, and those with a condition.
const allowPlain, allowObject, allowIf, allowObjectIf = 0, 5, 9, 11

// CheckTrusted answers nil when nobody but SYSTEM, the administrators, the installer of Windows and this account may write to the file or
// folder, owns it, or could put another in its place, by it and the folders above; links on the way are judged, and so is what they
// lead to. Else the error wraps ErrOthers and names who and where. What is missing is nobody's.
func CheckTrusted(path string) error { return checkTrusted(path, 0, true) }

// CheckTrustedProgram is CheckTrusted for what is executed: nobody may put a file beside it either, because a library there is loaded
// before the system's.
func CheckTrustedProgram(path string) error { return checkTrusted(path, addFile, true) }

// CheckSystemProgram is CheckTrustedProgram for what SYSTEM is to execute later: this account counts as any other.
func CheckSystemProgram(path string) error { return checkTrusted(path, addFile, false) }

func checkTrusted(path string, beside windows.ACCESS_MASK, own bool) error {
	path = filepath.Clean(path)
	names := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && !strings.EqualFold(real, path) {
		names = append(names, real)
	}
	for _, name := range names {
		rights := windows.ACCESS_MASK(addFile | addFolder | takeOver)
		for at := name; ; at = filepath.Dir(at) {
			if err := judgeAccess(at, rights, own); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if filepath.Dir(at) == at {
				break
			}
			rights = deleteChild | takeOver
			if at == name {
				rights |= beside
			}
		}
	}
	return nil
}

// CheckOpen answers nil when nobody but SYSTEM, the administrators and this account owns the open file or may write to it; else the error
// wraps ErrOthers.
func CheckOpen(f *os.File) error {
	sd, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", f.Name(), err)
	}
	return judge(f.Name(), sd, addFile|addFolder|takeOver, true)
}

// judgeAccess refuses what belongs to somebody else, or what somebody else has one of the rights to.
func judgeAccess(path string, rights windows.ACCESS_MASK, own bool) error {
	sd, err := securityOf(path)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", path, err)
	}
	return judge(path, sd, rights, own)
}

func judge(path string, sd *windows.SECURITY_DESCRIPTOR, rights windows.ACCESS_MASK, own bool) error {
	owner, err := foreignOwner(sd, own)
	if err != nil {
		return fmt.Errorf("owner of %s: %w", path, err)
	}
	if owner != "" {
		return fmt.Errorf("%s belongs to %s: %w", path, owner, ErrOthers)
	}
	who, err := foreignRight(sd, rights, own)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", path, err)
	}
	if who != "" {
		return fmt.Errorf("%s may be changed by %s: %w", path, who, ErrOthers)
	}
	return nil
}

// securityOf returns owner and access list of a file or folder, of a link those of its own.
func securityOf(path string) (*windows.SECURITY_DESCRIPTOR, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const flags = windows.FILE_FLAG_OPEN_REPARSE_POINT | windows.FILE_FLAG_BACKUP_SEMANTICS
	h, err := windows.CreateFile(name, windows.READ_CONTROL, shareAll, nil, windows.OPEN_EXISTING, flags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	return windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
}

// foreignOwner names the owner when nobody of ours is.
func foreignOwner(sd *windows.SECURITY_DESCRIPTOR, own bool) (string, error) {
	owner, _, err := sd.Owner()
	if err != nil || owner == nil {
		return "", errors.Join(err, errors.New("it has none"))
	}
	ours, err := trustedSID(owner, own)
	if err != nil || ours {
		return "", err
	}
	return accountOf(owner), nil
}

// foreignRight names somebody who is none of ours and has one of the rights. What is denied is not looked at: at worst too much is refused.
func foreignRight(sd *windows.SECURITY_DESCRIPTOR, rights windows.ACCESS_MASK, own bool) (string, error) {
	dacl, _, err := sd.DACL()
	if err != nil && !errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) {
		return "", err
	}
	if dacl == nil {
		return "everybody", nil // without a list everything is allowed
	}
	for i := range uint32(dacl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return "", err
		}
		if ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 || ace.Mask&rights == 0 {
			continue
		}
		switch ace.Header.AceType {
		case allowPlain, allowIf:
		case allowObject, allowObjectIf:
			return "an entry about objects of a directory", nil
		default:
			continue
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)) //nolint:gosec // the identifier stands behind the entry
		if ours, err := trustedSID(sid, own); err != nil {
			return "", err
		} else if !ours {
			return accountOf(sid), nil
		}
	}
	return "", nil
}

// trustedSID reports whether an account may do everything anyway: the system, administrators, the installer of Windows, with own the account
// of this process, and what stands for the owner, who is judged by himself.
func trustedSID(sid *windows.SID, own bool) (bool, error) {
	known := []windows.WELL_KNOWN_SID_TYPE{windows.WinLocalSystemSid, windows.WinBuiltinAdministratorsSid, windows.WinCreatorOwnerRightsSid}
	if slices.ContainsFunc(known, sid.IsWellKnown) {
		return true, nil
	}
	if sid.String() == trustedInstaller || !own {
		return sid.String() == trustedInstaller, nil
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return false, fmt.Errorf("who this process is: %w", err)
	}
	return sid.Equals(me.User.Sid), nil
}

// accountOf names an account for people.
func accountOf(sid *windows.SID) string {
	if name, domain, _, err := sid.LookupAccount(""); err == nil {
		return domain + `\` + name
	}
	return sid.String()
}

// MakePrivate makes a folder only the system and administrators may look into, or gives one that is there that access list. One that
// belongs to somebody else, or holds what somebody else owns or may change, is refused (ErrOthers): what lies there was not all made by
// us. It looks at every file below.
func MakePrivate(dir string) error {
	dir = filepath.Clean(dir)
	if filepath.Dir(dir) == dir {
		return fmt.Errorf("%s is a whole drive", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	sd, err := windows.SecurityDescriptorFromString(private)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	sa := windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(sa))
	err = windows.CreateDirectory(name, &sa)
	if err == nil || !errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%q is not a folder", dir)
	}
	if err := shut(dir, sd); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = judgeAccess(path, addFile|addFolder|deleteChild|takeOver, true)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		return err
	})
}

// shut gives the folder the access list unless nobody else has any right there.
func shut(dir string, list *windows.SECURITY_DESCRIPTOR) error {
	sd, err := securityOf(dir)
	if err != nil {
		return err
	}
	switch owner, err := foreignOwner(sd, true); {
	case err != nil:
		return fmt.Errorf("owner of %s: %w", dir, err)
	case owner != "":
		return fmt.Errorf("%s belongs to %s: %w", dir, owner, ErrOthers)
	}
	control, _, err := sd.Control()
	if err != nil {
		return err
	}
	if who, err := foreignRight(sd, anyRight, true); err == nil && who == "" && control&windows.SE_DACL_PROTECTED != 0 {
		return nil
	}
	dacl, _, err := list.DACL()
	if err != nil {
		return err
	}
	const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	return windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, what, nil, nil, dacl, nil)
}
