package safety

import (
	"path"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// aliases returns the other names a file has because its file system, or a folder of it, is mounted several times.
func aliases(mounts []files.Mount, id int, name string) []string {
	var own *files.Mount
	for i := range mounts {
		if mounts[i].ID == id {
			own = &mounts[i]
		}
	}
	if own == nil {
		return nil
	}
	rest, ok := inside(own.Point, name)
	if !ok {
		return nil
	}
	place := path.Join(own.Root, rest)
	var names []string
	for _, m := range mounts {
		if m.Device != own.Device || m.ID == id {
			continue
		}
		if rest, ok := inside(m.Root, place); ok {
			names = append(names, path.Join(m.Point, rest))
		}
	}
	return names
}

// inside returns name as seen from folder; ok is false when it is elsewhere.
func inside(folder, name string) (rest string, ok bool) {
	if name == folder {
		return "", true
	}
	if folder != "/" {
		folder += "/"
	}
	return strings.CutPrefix(name, folder)
}
