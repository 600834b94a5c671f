package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ProtectEntry is one never-touch entry.
type ProtectEntry struct {
	// Pattern is what must not be touched; ProtectConfig tells which patterns a list takes.
	Pattern string
	// Why is the reason for people; may be empty.
	Why string
	// At is the place of the setting as "file:line", "built in" for entries no setting can lift.
	At string
}

// ProtectConfig holds the never-touch lists. The built-in entries are added to them.
type ProtectConfig struct {
	// Hosts are names or globs (* and ?) in any case, addresses, CIDR prefixes, or administration groups of KSC with all
	// below them ("group:Managed devices/Servers").
	Hosts []ProtectEntry
	// Processes are file names or globs, which hold in every folder and with or without .exe, or absolute
	// path globs as in Paths.
	Processes []ProtectEntry
	// Paths are absolute: * and ? stay inside a name, ** stands for any number of folders, ?:\ for any
	// drive, **/ in front for anywhere. Windows patterns hold in any case.
	Paths []ProtectEntry
	// Addresses are addresses or CIDR prefixes that must not be blocked.
	Addresses []ProtectEntry
}

// Protect is the compiled never-touch lists. It does not change and may be used by many goroutines.
type Protect struct {
	hosts     []protectedHost
	processes []protectedProcess
	paths     []protectedPath
	addresses []protectedAddress
}

// NewProtect compiles the lists together with the built-in ones. The error joins every bad pattern with its At.
func NewProtect(cfg ProtectConfig) (*Protect, error) {
	own := builtinProtect()
	p := &Protect{}
	var problems []error
	bad := func(list string, e ProtectEntry, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("protect.%s: pattern %s %w%s", list, show(e.Pattern), err, e.at()))
		}
	}
	for _, e := range slices.Concat(own.Hosts, cfg.Hosts) {
		h, err := newProtectedHost(e)
		p.hosts = append(p.hosts, h)
		bad("hosts", e, err)
	}
	for _, e := range slices.Concat(own.Processes, cfg.Processes) {
		x, err := newProtectedProcess(e)
		p.processes = append(p.processes, x)
		bad("processes", e, err)
	}
	for _, e := range slices.Concat(own.Paths, cfg.Paths) {
		glob, err := parsePathGlob(e.Pattern)
		p.paths = append(p.paths, protectedPath{e, glob})
		bad("paths", e, err)
	}
	for _, e := range slices.Concat(own.Addresses, cfg.Addresses) {
		prefix, err := parsePrefix(e.Pattern)
		if err != nil {
			err = errors.New("is neither an address nor a prefix like 10.0.5.0/24")
		}
		p.addresses = append(p.addresses, protectedAddress{e, prefix.Masked()})
		bad("addresses", e, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return p, nil
}

// Check returns ReasonNone when the order touches nothing protected, else the reason and a text that names
// entry, match and place: `"dc*" matches "dc01" (edr-bridge.yaml:6)`. A release touches nothing. What cannot
// be judged is refused with ReasonInvalid: paths CheckPath refuses, addresses BlockAddress.Prefix refuses.
// A process or file that is named by digest only passes; the executor has to look at what it finds
// (CheckProcess).
func (p *Protect) Check(o Order) (Reason, string) {
	if IsRelease(o.Task) {
		return ReasonNone, ""
	}
	if reason, text := p.checkHost(o); reason != ReasonNone {
		return reason, text
	}
	switch t := o.Task.(type) {
	case nil, GetFile, IOCScan, StartProcess, IsolateHost, OnDemandScan:
		return ReasonNone, ""
	case TerminateProcess:
		return p.checkImages(t.Path, o.Subject.Path, o.Subject.Name)
	case PreventExecution:
		if reason, text := p.checkPath(t.Path, false); reason != ReasonNone {
			return reason, text
		}
		return p.checkImages(t.Path)
	case DeleteFile:
		return p.checkPath(t.Path, t.SearchInSubfolders)
	case QuarantineFile:
		return p.checkPath(t.Path, false)
	case BlockAddress:
		return p.checkAddress(t)
	default:
		return ReasonInvalid, fmt.Sprintf("the never-touch lists do not know the task %T", o.Task)
	}
}

// NamesGroups reports whether a list names administration groups: then a host whose group is not known cannot be judged.
func (p *Protect) NamesGroups() bool {
	return slices.ContainsFunc(p.hosts, func(h protectedHost) bool { return h.group != "" })
}

// CheckProcess judges a process by the absolute path of its image, as the kernel names it ("/usr/bin/x" or
// "/usr/bin/x (deleted)"). An unknown image is refused.
func (p *Protect) CheckProcess(image string) (Reason, string) {
	if image == "" {
		return ReasonProtectedProcess, "the image of the process is not known, as with kernel threads"
	}
	return p.matchImage(image)
}

// CheckFile judges a file by its absolute path, as the executor found it: a name no order may bring is as good as any.
func (p *Protect) CheckFile(path string) (Reason, string) { return p.matchPath(path, false) }

// checkImages judges what an order says about an image: paths, names and nothing.
func (p *Protect) checkImages(images ...string) (Reason, string) {
	for _, image := range images {
		if image == "" {
			continue
		}
		if strings.ContainsAny(image, `\/:`) {
			if err := CheckPath(image); err != nil {
				return ReasonInvalid, fmt.Sprintf("path %s %v", show(image), err)
			}
		}
		if reason, text := p.matchImage(image); reason != ReasonNone {
			return reason, text
		}
	}
	return ReasonNone, ""
}

func (p *Protect) matchImage(image string) (Reason, string) {
	image = strings.TrimSuffix(image, " (deleted)")
	all := readings(image)
	for i := range p.processes {
		e := &p.processes[i]
		if e.match(image, all) {
			return ReasonProtectedProcess, e.matches(image) + shortNameHint(all)
		}
	}
	return ReasonNone, ""
}

func (p *Protect) checkPath(path string, subfolders bool) (Reason, string) {
	if path == "" {
		return ReasonNone, ""
	}
	if err := CheckPath(path); err != nil {
		return ReasonInvalid, fmt.Sprintf("path %s %v", show(path), err)
	}
	return p.matchPath(path, subfolders)
}

func (p *Protect) matchPath(path string, subfolders bool) (Reason, string) {
	all := readings(path)
	for _, r := range all {
		if subfolders && len(r.segments) < 2 {
			return ReasonProtectedPath, fmt.Sprintf("searching all of %s for a file to delete is refused: name a folder", show(path))
		}
		for i := range p.paths {
			e := &p.paths[i]
			if e.matchOrAbove(r) || subfolders && e.below(r) {
				return ReasonProtectedPath, e.matches(path) + shortNameHint(all)
			}
		}
	}
	return ReasonNone, ""
}

func (p *Protect) checkAddress(t BlockAddress) (Reason, string) {
	prefix, err := t.Prefix()
	if err != nil {
		return ReasonInvalid, fmt.Sprintf("address %s: %v", show(t.Address), err)
	}
	for i := range p.addresses {
		e := &p.addresses[i]
		if e.prefix.Overlaps(prefix) {
			return ReasonProtectedAddress, e.matches(t.Address)
		}
	}
	return ReasonNone, ""
}

func (p *Protect) checkHost(o Order) (Reason, string) {
	for _, name := range append([]string{o.Host}, o.Intent.Names...) {
		spellings := hostSpellings(name)
		for i := range p.hosts {
			e := &p.hosts[i]
			if e.match(spellings) {
				return ReasonProtectedHost, e.matches(name)
			}
		}
	}
	return ReasonNone, ""
}

// matches is the text of a refusal.
func (e ProtectEntry) matches(what string) string {
	text := show(e.Pattern) + " matches " + show(what) + e.at()
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}

func (e ProtectEntry) at() string {
	if e.At == "" {
		return ""
	}
	return " (" + e.At + ")"
}

// shortNameHint tells what to do about a DOS 8.3 name, which fits every name it may stand for.
func shortNameHint(all []reading) string {
	for _, r := range all {
		if r.windows && slices.ContainsFunc(r.segments, isShortName) {
			return "; the path holds a DOS short name (~1), which may stand for it: write the long name"
		}
	}
	return ""
}
