package ioc

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	zipFile      = "PK\x03\x04"
	zipDirectory = "PK\x01\x02"
	// maxEntryName is the longest name of an entry in bytes.
	maxEntryName = 255
	// maxID bounds the id of a document and of a term in bytes.
	maxID = 256
	// freeInflation is what may come out of an entry before its ratio counts: small texts pack well.
	freeInflation = 32 << 10
)

// Read reads the OpenIOC documents of a ZIP archive. Nothing touches the disk, and it needs less than 64 MiB whatever the
// archive holds. It refuses the whole archive, naming the entry, when anything about it is not plain: more than the limits
// allow, names that lead elsewhere, links, encryption, archives in archives, DOCTYPEs and entities, text that is not UTF-8,
// damaged XML, a root that is not OpenIOC, or two documents with the same id, which Kaspersky forbids within one task
// (support.kaspersky.com/kes12/220828). What a document says is judged by Compile. Errors are *verdict.Error.
func Read(archive []byte, limits Limits) ([]Document, error) {
	l, err := limits.check()
	if err != nil {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "%w", err)
	}
	docs, err := read(archive, l)
	if err != nil {
		return nil, verdict.Refuse(bridge.ReasonInvalid, "the IOC archive %w", err)
	}
	return docs, nil
}

func read(archive []byte, l Limits) ([]Document, error) {
	switch {
	case int64(len(archive)) > l.Archive:
		return nil, fmt.Errorf("is %d bytes, allowed are %d: split it", len(archive), l.Archive)
	case !bytes.HasPrefix(archive, []byte(zipFile)):
		return nil, errors.New("is not a ZIP archive with files")
	case bytes.Count(archive, []byte(zipDirectory)) > l.Entries:
		// archive/zip makes an entry of everything that looks like one, whatever the archive says about their number.
		return nil, fmt.Errorf("holds more than %d entries", l.Entries)
	}
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, errors.New("is a damaged ZIP archive")
	}
	if len(r.File) > l.Entries {
		return nil, fmt.Errorf("holds more than %d entries", l.Entries)
	}
	var docs []Document
	names, ids := make(map[string]bool, len(r.File)), make(map[string]string, len(r.File))
	room, terms := l.Inflated, l.Terms
	for _, f := range r.File {
		if err := checkEntry(f); err != nil {
			return nil, fmt.Errorf("holds %s, which %w", verdict.Shown(f.Name), err)
		}
		name := fold(f.Name)
		if names[name] {
			return nil, fmt.Errorf("holds %s twice", verdict.Shown(f.Name))
		}
		names[name] = true
		if f.FileInfo().IsDir() {
			continue
		}
		doc, used, err := readEntry(f, l, room, terms)
		if err != nil {
			return nil, fmt.Errorf("holds %s, which %w", verdict.Shown(f.Name), err)
		}
		if other, taken := ids[fold(doc.ID)]; taken {
			return nil, fmt.Errorf("holds %s, which has the id %s of %s: ids are unique within a task",
				verdict.Shown(f.Name), verdict.Shown(doc.ID), verdict.Shown(other))
		}
		ids[fold(doc.ID)] = f.Name
		room -= used.bytes
		terms -= used.terms
		docs = append(docs, doc)
	}
	if len(docs) == 0 {
		return nil, errors.New("holds no .ioc or .xml file")
	}
	return docs, nil
}

// checkEntry judges an entry by what its header says.
func checkEntry(f *zip.File) error {
	const encrypted = 0x1
	mode := f.Mode()
	switch name := f.Name; {
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("has a name that is no plain text")
	case len(name) > maxEntryName:
		return fmt.Errorf("has a name longer than %d bytes", maxEntryName)
	case strings.ContainsAny(name, `\:`):
		return errors.New(`has \ or : in its name`)
	case !fs.ValidPath(strings.TrimSuffix(name, "/")) || strings.TrimSuffix(name, "/") == ".":
		return errors.New("has a name that leads out of the archive")
	case f.Flags&encrypted != 0:
		return errors.New("is encrypted: scanners cannot open it")
	case mode.IsDir():
		if f.UncompressedSize64 != 0 {
			return errors.New("is a folder with content")
		}
		return nil
	case !mode.IsRegular():
		return errors.New("is a link or a device")
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return fmt.Errorf("is packed by method %d: use deflate", f.Method)
	}
	if ext := strings.ToLower(path.Ext(f.Name)); ext != ".ioc" && ext != ".xml" {
		return errors.New("is no .ioc or .xml file")
	}
	return nil
}

// usage is what one document took of the limits for all.
type usage struct {
	bytes int64
	terms int
}

// readEntry reads one document while it is inflated.
func readEntry(f *zip.File, l Limits, room int64, terms int) (doc Document, used usage, err error) {
	r, err := f.Open()
	if err != nil {
		return Document{}, usage{}, errors.New("is damaged")
	}
	defer func() { _ = r.Close() }()
	in := &inflated{r: r, file: l.File, room: room, ratio: uint64(l.Ratio) * f.CompressedSize64} //nolint:gosec // checked: not negative
	p := parser{in: newTokens(in), depth: l.Depth, left: terms}
	doc, err = p.document()
	switch {
	case in.err != nil:
		return Document{}, usage{}, in.err
	case err != nil:
		return Document{}, usage{}, err
	}
	doc.Entry = f.Name
	return doc, usage{in.n, terms - p.left}, nil
}

// inflated counts what really comes out of an entry, because its header may say anything.
type inflated struct {
	r          io.Reader
	n          int64
	file, room int64
	ratio      uint64
	// err is why no more is read; io.EOF is none.
	err error
}

// Read reads at most what the limits leave.
func (in *inflated) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.r.Read(p)
	if in.n == 0 && isArchive(p[:n]) {
		in.err = errors.New("is an archive itself")
	}
	in.n += int64(n)
	switch {
	case in.err != nil:
	case in.n > in.file:
		in.err = fmt.Errorf("is larger than %d bytes inflated", in.file)
	case in.n > in.room:
		in.err = errors.New("takes the archive over its limit of inflated bytes: split it")
	case in.n > freeInflation && uint64(in.n) > in.ratio:
		in.err = errors.New("inflates to too many times its size")
	case err != nil && !errors.Is(err, io.EOF):
		in.err = errors.New("is damaged")
	default:
		return n, err
	}
	return 0, in.err
}

// isArchive knows ZIP, gzip, 7z, RAR, xz, bzip2, Zstandard and cabinet files by how they begin.
func isArchive(head []byte) bool {
	for _, magic := range []string{zipFile, "PK\x05\x06", "\x1f\x8b", "7z\xbc\xaf", "Rar!", "\xfd7zXZ", "BZh", "\x28\xb5\x2f\xfd", "MSCF"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// fold is the one way texts are compared without regard to case.
func fold(s string) string { return strings.ToLower(s) }
