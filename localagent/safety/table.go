package safety

import (
	"slices"
	"strings"
)

// Kind says what sort of thing an entry keeps from being touched.
type Kind string

// The kinds of entries.
const (
	KindProcess   Kind = "process"   // never ended, frozen or signalled
	KindFile      Kind = "file"      // never moved, deleted or quarantined
	KindExecution Kind = "execution" // never forbidden to run
	KindNetwork   Kind = "network"   // never blocked, and reachable in isolation
)

// System is the operating system an entry is about; empty = all.
type System string

// The systems.
const (
	Linux   System = "linux"
	Windows System = "windows"
)

// Names of the entries whose condition is code and not a path; the rooms that know the condition look it up by these.
const (
	Process1      = "process 1"
	KernelThread  = "kernel thread"
	Self          = "self"
	Ancestor      = "ancestor"
	OwnProgram    = "own program"
	SSHListener   = "ssh listener"
	UnitMain      = "service"
	Server        = "server of the bridge"
	Critical      = "critical process"
	SystemPackage = "system package"
	OwnFiles      = "own files"
	Folder        = "folder"
	MountPoint    = "mount point"
	Device        = "device or pipe"
	KernelFiles   = "kernel file system"
	EmptyFile     = "empty file"
)

// Entry is one line of the never-touch table.
type Entry struct {
	Kind   Kind
	System System
	// Name is short and unique among the entries of a kind and system; refusals begin with it.
	Name string
	// Why is the reason, for people.
	Why string
	// Paths are absolute paths, patterns of path.Match, or whole trees when they end in a separator. On Windows they begin with
	// FolderSystem, FolderWindows, FolderPrograms, FolderPrograms32, FolderData or FolderDrive. A process or an
	// execution is meant when it runs one of these files, by identity and not only by name.
	Paths []string
	// Users are the accounts (names, or patterns of path.Match) whose processes are meant, with root always among them; empty = all.
	Users []string
	// Units are services of systemd (names or patterns of path.Match) in the slice of the system.
	Units []string
	// Packages are names (or patterns of path.Match) of packages of the system whose programs and settings are meant.
	Packages []string
	// Narrow says in words what else must hold, or what is meant where no path says it; empty = every file of Paths.
	Narrow string
}

// Folders of Windows at the beginning of an entry's path: where they are is asked of the system.
const (
	FolderSystem     = `{system}\`
	FolderWindows    = `{windows}\`
	FolderPrograms   = `{programs}\`
	FolderPrograms32 = `{programs32}\`
	FolderData       = `{data}\`
	FolderDrive      = `{drive}\`
)

// Table returns the whole never-touch table for all systems. The caller may keep and change it.
func Table() []Entry {
	return slices.Concat(processEntries(), windowsProcessEntries(), fileEntries(), windowsFileEntries(), executionEntries(), networkEntries())
}

// Of returns the entries of a kind that hold on the system the program runs on, in the order of Table.
func Of(kind Kind) []Entry {
	var found []Entry
	for _, e := range Table() {
		if e.Kind == kind && (e.System == "" || e.System == thisSystem) {
			found = append(found, e)
		}
	}
	return found
}

// tree reports whether a path of an entry means a folder with all below it.
func tree(p string) bool { return strings.HasSuffix(p, "/") || strings.HasSuffix(p, `\`) }

// text is how refusals name the entry.
func (e *Entry) text() string { return e.Name + ": " + e.Why }

// named returns the entry of a kind and name on any system; a name that is not in the table protects all the same.
func named(kind Kind, name string) Entry {
	for _, e := range Table() {
		if e.Kind == kind && e.Name == name {
			return e
		}
	}
	return Entry{Kind: kind, Name: name, Why: "it is protected"}
}
