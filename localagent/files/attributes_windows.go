package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// keptBits are the attributes that can be set back: read-only, hidden, system, archive, not indexed.
const keptBits = windows.FILE_ATTRIBUTE_READONLY | windows.FILE_ATTRIBUTE_HIDDEN | windows.FILE_ATTRIBUTE_SYSTEM |
	windows.FILE_ATTRIBUTE_ARCHIVE | 0x2000

// ownership is what Apply gives back of a security descriptor.
const ownership = windows.OWNER_SECURITY_INFORMATION | windows.GROUP_SECURITY_INFORMATION | windows.DACL_SECURITY_INFORMATION

// basicInfo is FILE_BASIC_INFO (winbase.h).
type basicInfo struct {
	created, accessed, written, changed int64
	bits                                uint32
	_                                   uint32
}

// AttributesOf reads the attributes of the open file; lost is what could not be read, in words. Alternate data streams are not
// kept.
func AttributesOf(f *os.File) (a Attributes, lost []string, err error) {
	h := windows.Handle(f.Fd())
	var b basicInfo
	err = windows.GetFileInformationByHandleEx(h, windows.FileBasicInfo, (*byte)(unsafe.Pointer(&b)), uint32(unsafe.Sizeof(b)))
	if err != nil {
		return Attributes{}, nil, fmt.Errorf("stat: %w", err)
	}
	a = Attributes{Bits: b.bits & keptBits, Accessed: moment(b.accessed), Modified: moment(b.written), Created: moment(b.created)}
	sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, ownership)
	if err != nil {
		return a, []string{fmt.Sprintf("owner and access list: %v", err)}, nil
	}
	a.SDDL = sd.String()
	return a, nil, nil
}

// Apply gives the open file the attributes. Missing are those the system did not take, in words.
func Apply(f *os.File, a *Attributes) (missing []string, err error) {
	h := windows.Handle(f.Fd())
	if a.SDDL != "" {
		missing = setSecurity(h, a.SDDL)
	}
	b := basicInfo{created: ticks(a.Created), accessed: ticks(a.Accessed), written: ticks(a.Modified), bits: a.Bits & keptBits}
	if b.bits == 0 {
		b.bits = windows.FILE_ATTRIBUTE_NORMAL
	}
	err = windows.SetFileInformationByHandle(h, windows.FileBasicInfo, (*byte)(unsafe.Pointer(&b)), uint32(unsafe.Sizeof(b)))
	if err != nil {
		return missing, fmt.Errorf("give back times and attributes: %w", err)
	}
	return missing, nil
}

// setSecurity gives the open file owner, group and access list, and returns what the system did not take. To give a file to somebody else
// takes the privilege SeRestorePrivilege, the list does not.
func setSecurity(h windows.Handle, sddl string) (missing []string) {
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return []string{fmt.Sprintf("owner and access list: %v", err)}
	}
	owner, _, oerr := sd.Owner()
	group, _, gerr := sd.Group()
	if err = errors.Join(oerr, gerr); err == nil {
		err = windows.SetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.GROUP_SECURITY_INFORMATION, owner, group, nil, nil)
	}
	if err != nil {
		missing = append(missing, fmt.Sprintf("owner: %v", err))
	}
	dacl, _, err := sd.DACL()
	what := listInformation(sd)
	if err == nil {
		err = windows.SetSecurityInfo(h, windows.SE_FILE_OBJECT, what, nil, nil, dacl, nil)
	}
	if err != nil {
		missing = append(missing, fmt.Sprintf("access list: %v", err))
	}
	return missing
}

// listInformation says how the access list is to be set: one that inherits nothing goes on inheriting nothing.
func listInformation(sd *windows.SECURITY_DESCRIPTOR) windows.SECURITY_INFORMATION {
	if control, _, err := sd.Control(); err == nil && control&windows.SE_DACL_PROTECTED != 0 {
		return windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	}
	return windows.DACL_SECURITY_INFORMATION
}

// Times of Windows count 100 ns since 1601 (FILETIME).
const (
	ticksASecond = 10_000_000
	epoch1601    = 11_644_473_600
)

func moment(t int64) Moment {
	return Moment{t/ticksASecond - epoch1601, t % ticksASecond * 100}
}

func ticks(m Moment) int64 { return (m.Sec+epoch1601)*ticksASecond + m.Nsec/100 }

// Flags answers 0: Windows has no such flags.
func Flags(*os.File) (uint32, error) { return 0, nil }

// SetFlags does nothing.
func SetFlags(*os.File, uint32) error { return nil }

// FolderFlags answers 0.
func (*Pinned) FolderFlags() (ino uint64, flags uint32, err error) { return 0, 0, nil }

// SetFolderFlags does nothing.
func SetFolderFlags(string, uint64, uint32) error { return nil }

// Frozen keeps nobody off on Windows.
type Frozen struct{}

// Freeze does nothing on Windows: content is compared before and after instead.
func Freeze(*os.File) *Frozen { return &Frozen{} }

// Held answers false.
func (*Frozen) Held() bool { return false }

// Thaw does nothing.
func (*Frozen) Thaw() {}

// Holders knows nobody on Windows: a file in use cannot be deleted there, which Unlink reports.
func Holders(context.Context, ID) ([]Holder, error) { return nil, nil }
