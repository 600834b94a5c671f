package ioc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

const (
	// maxUnit is how large a unit file may be, in bytes, maxUnits how many of one folder are read.
	maxUnit  = 256 << 10
	maxUnits = 20_000
)

// unitFolders are where systemd looks for units, the first first (systemd.unit(5)).
func unitFolders() []string {
	return []string{
		"/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
		"/lib/systemd/system", "/etc/systemd/user", "/usr/lib/systemd/user",
	}
}

// unit is a service as its files describe it.
type unit struct {
	name              string
	description, kind string
	user              string
	commands          []string
	masked, enabled   bool
}

// collectServices lists the services of systemd, with their drop-ins, those of users, and scripts of /etc/init.d.
func collectServices(ctx context.Context, h host, o *object, emit func(*object)) error {
	running, errRunning := h.services(ctx)
	units := h.units(unitFolders())
	folders, errHomes := h.userFolders()
	for _, folder := range folders {
		units = append(units, h.userUnits(ctx, folder)...)
	}
	for _, u := range units {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		describeUnit(o, u, running[u.name])
		emit(o)
	}
	return errors.Join(errRunning, errHomes)
}

func describeUnit(o *object, u *unit, running []program) {
	o.text(serviceName, strings.TrimSuffix(u.name, ".service"), u.name)
	o.text(serviceTitle, u.description)
	o.text(serviceDescription, u.description)
	for _, c := range u.commands {
		program, arguments, _ := strings.Cut(c, " ")
		o.text(servicePath, strings.Trim(program, `"'`))
		o.text(serviceArguments, strings.TrimSpace(arguments))
	}
	switch {
	case u.masked:
		o.text(serviceMode, "SERVICE_DISABLED", "masked")
	case u.enabled:
		o.text(serviceMode, "SERVICE_AUTO_START", "enabled")
	default:
		o.text(serviceMode, "SERVICE_DEMAND_START", "disabled")
	}
	o.text(serviceType, u.kind)
	o.text(serviceUser, u.user)
	if len(running) == 0 {
		o.text(serviceStatus, "SERVICE_STOPPED", "inactive")
		return
	}
	o.text(serviceStatus, "SERVICE_RUNNING", "active")
	for _, p := range running {
		o.number(servicePID, int64(p.pid))
	}
}

// userFolders returns where users keep units of their own, as far as that can be looked at without asking another machine or program.
func (h host) userFolders() ([]string, error) {
	accounts, _, err := readUsers(h)
	if err != nil {
		return nil, missing(err)
	}
	mounts, err := h.mounts()
	if err != nil {
		return nil, missing(err)
	}
	var folders []string
	for _, a := range accounts {
		// Whoever has no home of their own has / or a folder of the system.
		folder := path.Join(path.Clean(a.home), ".config/systemd/user")
		if path.IsAbs(a.home) && storageOf(mountOf(mounts, folder).Type) != remote && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return folders, nil
}

// userUnits reads the units of one user, who may have put anything there: no link is followed, and nothing but regular
// files is opened.
func (h host) userUnits(ctx context.Context, folder string) []*unit {
	var list []*unit
	// A folder that is not there, or not to be walked, has no units.
	_, _ = files.Walk(ctx, h.path(folder), files.WalkConfig{MaxEntries: maxUnits}, func(e files.Entry) error {
		if !strings.HasSuffix(e.Path, ".service") {
			return nil
		}
		u := &unit{name: path.Base(e.Path)}
		list = append(list, u)
		f, err := e.Open()
		if err != nil {
			return nil
		}
		defer func() { _ = f.Close() }()
		if b, err := readSmall(f, maxUnit); err == nil {
			u.parse(string(b))
		}
		return nil
	})
	return list
}

// units reads the unit files of the system's folders; a file hides one of the same name in a later folder, drop-ins of all of
// them count.
func (h host) units(folders []string) []*unit {
	var list []*unit
	byName := map[string]*unit{}
	read := func(name, file string) *unit {
		u := byName[name]
		if u == nil {
			u = &unit{name: name}
			byName[name], list = u, append(list, u)
		}
		if file != "" {
			h.readUnit(u, file)
		}
		return u
	}
	type place struct{ name, path string }
	var dropIns, wanted []place
	for _, folder := range folders {
		for _, e := range h.folder(folder) {
			name, file := e.Name(), folder+"/"+e.Name()
			switch path.Ext(name) {
			case ".service":
				if byName[name] == nil {
					read(name, file)
				}
			case ".d":
				if unit := strings.TrimSuffix(name, ".d"); strings.HasSuffix(unit, ".service") {
					dropIns = append(dropIns, place{unit, file})
				}
			case ".wants", ".requires":
				for _, w := range h.folder(file) {
					if strings.HasSuffix(w.Name(), ".service") {
						wanted = append(wanted, place{w.Name(), file + "/" + w.Name()})
					}
				}
			}
		}
	}
	for _, w := range wanted {
		if byName[w.name] == nil {
			// An instance such as getty@tty1: the link leads to its template.
			read(w.name, w.path)
		}
		byName[w.name].enabled = true
	}
	for _, d := range dropIns {
		for _, e := range h.folder(d.path) {
			if strings.HasSuffix(e.Name(), ".conf") {
				read(d.name, d.path+"/"+e.Name())
			}
		}
	}
	for _, e := range h.folder("/etc/init.d") {
		if byName[e.Name()+".service"] == nil && e.Type().IsRegular() {
			list = append(list, &unit{name: e.Name(), kind: "sysv", commands: []string{"/etc/init.d/" + e.Name()}})
		}
	}
	return list
}

// folder lists a folder in the order of its names; one that cannot be read is empty.
func (h host) folder(name string) []fs.DirEntry {
	f, err := os.OpenFile(h.path(name), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	entries, _ := f.ReadDir(maxUnits)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries
}

// readUnit adds what a unit file or drop-in of the system says.
func (h host) readUnit(u *unit, name string) {
	if target, err := os.Readlink(h.path(name)); err == nil && target == "/dev/null" {
		u.masked = true
		return
	}
	if b, err := h.read(name, maxUnit); err == nil {
		u.parse(string(b))
	}
}

// parse adds what a unit file says (systemd.syntax(7), systemd.service(5)). All commands count, also those a later file takes
// back: to hide behind a drop-in should not help.
func (u *unit) parse(text string) {
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, ";") {
			continue
		}
		value = strings.TrimSpace(value)
		switch key = strings.TrimSpace(key); {
		case key == "Description":
			u.description = value
		case key == "Type":
			u.kind = value
		case key == "User":
			u.user = value
		case strings.HasPrefix(key, "Exec") && value != "":
			// Special characters before a command change how it is run, not what.
			u.commands = append(u.commands, strings.TrimLeft(value, "@-:+!|"))
		}
	}
}

// services finds the processes of services by their control groups (proc_pid_cgroup(5)).
func (h host) services(ctx context.Context) (map[string][]program, error) {
	running := map[string][]program{}
	err := h.eachProcess(ctx, func(pid int, dir *os.Root) {
		b, err := readIn(dir, "cgroup", 64<<10)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(b)) {
			f := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(f) != 3 {
				continue
			}
			if name := path.Base(f[2]); strings.HasSuffix(name, ".service") {
				running[name] = append(running[name], program{pid: pid})
				return
			}
		}
	})
	return running, err
}
