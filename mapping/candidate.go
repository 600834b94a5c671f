package mapping

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// place is where a preset looks: a slot of the document itself or of one around it.
type place struct {
	layer, slot int
	// path is the place as the preset file spells it; each ^. in front goes one document outwards.
	path string
}

// filter asks whether a place holds one of some words; absent says that nothing at all there fits too.
type filter struct {
	place  place
	words  [][]byte
	absent bool
}

// finding is the way one field of an alert is found: the first candidate that is present decides, also when it cannot be read.
// Going on to the next one could put the parent's path to the child's process.
type finding struct {
	field      int
	candidates []candidate
}

// candidate is one place, or several joined to one text.
type candidate struct {
	parts []place
	glue  string
	// when must all fit, of unless none may.
	when, unless []filter
	forms        forms
	levels       levelTable
	// intoFile says that digests are those of the file, else of the process.
	intoFile bool
	note     string
}

// pick returns the value of the candidate: present says that something is there, ok that it is one plain value.
func (s *scene) pick(c *candidate) (v scalar, present, ok bool) {
	if !s.allowed(c) {
		return scalar{}, false, false
	}
	if len(c.parts) == 1 {
		return s.one(&c.parts[0], c.forms)
	}
	var b strings.Builder
	for i := range c.parts {
		part, present, ok := s.one(&c.parts[i], c.forms)
		if !present || !ok || !part.isText() {
			return scalar{}, present, false
		}
		text, ok := part.read()
		if !ok {
			return scalar{}, true, false
		}
		if i > 0 && !strings.HasSuffix(b.String(), c.glue) {
			b.WriteString(c.glue)
		}
		b.WriteString(text)
	}
	return scalar{text: b.String()}, true, true
}

func (s *scene) one(p *place, f forms) (v scalar, present, ok bool) {
	at := &s.slots[p.layer][p.slot]
	switch {
	case at.none() || len(s.preset.empty) > 0 && at.isOneOf(s.preset.empty):
		return scalar{}, false, false
	case (at.several || at.mixed) && !f.has(formFirst):
		return scalar{}, true, false
	default:
		return at.scalar, true, true
	}
}

// allowed reports whether the conditions of the candidate hold; one that cannot be decided does not.
func (s *scene) allowed(c *candidate) bool {
	for i := range c.when {
		if fits, sure := s.fits(&c.when[i]); !fits || !sure {
			return false
		}
	}
	for i := range c.unless {
		if fits, sure := s.fits(&c.unless[i]); fits || !sure {
			return false
		}
	}
	return true
}

// fits asks one filter; sure is false when the place holds several values.
func (s *scene) fits(f *filter) (fits, sure bool) {
	v, present, ok := s.one(&f.place, 0)
	switch {
	case !present:
		return f.absent, true
	case !ok:
		return false, false
	default:
		return v.isOneOf(f.words), true
	}
}

// fill takes one field of the alert from its candidates.
func (s *scene) fill(f *finding, a *bridge.Alert) {
	for i := range f.candidates {
		c := &f.candidates[i]
		v, present, ok := s.pick(c)
		if !present {
			continue
		}
		if ok {
			s.decode(f.field, c, v, a)
		}
		return
	}
}

// decode puts a value into the alert; one that has none of the declared forms is left out.
func (s *scene) decode(index int, c *candidate, v scalar, a *bridge.Alert) {
	field := &alertFields[index]
	switch field.kind {
	case kindTime:
		if t, ok := c.forms.clock(v, s.local); ok {
			a.Time = plausible(t, a.Received)
		}
		return
	case kindPID, kindTicks:
		n, ok := c.forms.count(v)
		switch {
		case ok && field.kind == kindTicks:
			a.Process.Start = n
		case ok && n > 0 && n <= maxPID:
			a.Process.PID = int(n)
		}
		return
	case kindText, kindID, kindLevel, kindMD5, kindSHA256, kindAddress, kindRaw:
	}
	if !v.isText() && (field.kind != kindLevel && !c.forms.has(formNumber) || !v.number()) {
		return
	}
	text, ok := v.read()
	if !ok {
		return
	}
	switch field.kind {
	case kindAddress:
		*field.addr(a) = c.forms.address(text)
	case kindLevel:
		a.Level = c.level(text)
	case kindMD5, kindSHA256:
		if isHex(text, digestLength(field.kind)) {
			*field.text(a) = strings.ToLower(text)
		}
	case kindID:
		if checkID(text) == nil {
			*field.text(a) = text
		}
	default:
		*field.text(a) = c.forms.shape(text)
	}
}

func (c *candidate) level(text string) string {
	if c.levels == nil {
		level, _ := levelOf(text)
		return level
	}
	level, _ := c.levels.levelOf(text)
	return level
}

// shape returns the text in the declared form, or "" when it does not have it.
func (f forms) shape(text string) string {
	if f.has(formHostPort) {
		text = hostOf(text)
	}
	if f.has(formDoubled) && len(text) > 2 && text[1] == ':' {
		for strings.Contains(text, `\\`) {
			text = strings.ReplaceAll(text, `\\`, `\`)
		}
	}
	if f.has(formAbsolutePath) && !isAbsolute(text) {
		return ""
	}
	if f.has(formFileName) {
		text = bridge.BaseName(text)
	}
	return text
}

// isAbsolute tells a path from a bare file name; whether a task may act on it is judged with the task.
func isAbsolute(path string) bool {
	drive := len(path) > 2 && path[1] == ':' && (path[2] == '\\' || path[2] == '/')
	return drive || strings.HasPrefix(path, "/") || strings.HasPrefix(path, `\\`)
}

// hostOf takes the port off "host:port" and "[address]:port"; everything else stays as it is.
func hostOf(text string) string {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().String()
	}
	host, port, ok := strings.Cut(text, ":")
	if ok && port != "" && strings.Trim(port, "0123456789") == "" {
		return host
	}
	return text
}

// address reads an IP address; a port or a zone is taken off only where that is declared, otherwise there is no address.
func (f forms) address(text string) netip.Addr {
	if f.has(formHostPort) {
		text = hostOf(text)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" && !f.has(formZone) {
		return netip.Addr{}
	}
	return addr.WithZone("").Unmap()
}

// count reads a process id or a count: a number, or text of decimal or hexadecimal digits where that is declared.
func (f forms) count(v scalar) (uint64, bool) {
	text, ok := v.read()
	if !ok {
		return 0, false
	}
	if f.has(formHex) && v.isText() {
		if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
			n, err := strconv.ParseUint(hex, 16, 64)
			return n, err == nil
		}
	}
	if f.has(formDecimal) && v.isText() || f.has(formNumber|formDecimal) && v.number() {
		return digits([]byte(text))
	}
	return 0, false
}

// fillDigests takes digests for the process and the file where no field of the preset gave any.
func (s *scene) fillDigests(list []candidate, a *bridge.Alert) {
	done := [2]bool{a.Process.MD5 != "" || a.Process.SHA256 != "", a.File.MD5 != "" || a.File.SHA256 != ""}
	for i := range list {
		c := &list[i]
		at := 0
		if c.intoFile {
			at = 1
		}
		if done[at] {
			continue
		}
		v, present, ok := s.pick(c)
		if !present {
			continue
		}
		done[at] = true
		text, readable := v.read()
		if !ok || !readable || !v.isText() {
			continue
		}
		d := readDigests(text)
		if c.intoFile {
			a.File.MD5, a.File.SHA256 = d.md5, d.sha256
		} else {
			a.Process.MD5, a.Process.SHA256 = d.md5, d.sha256
		}
	}
}
