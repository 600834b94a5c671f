package bridge

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const (
	maxIOCEntries  = 100
	maxIOCInflated = 32 << 20 // bytes of all entries together, as they really come out
	maxIOCRatio    = 100      // inflated to compressed bytes of an entry; OpenIOC text stays below 20
	iocFile        = "PK\x03\x04"
	iocDirectory   = "PK\x01\x02"
	iocChunk       = 32 << 10
)

// EncodeIOC reads a ZIP archive of OpenIOC files (up to 6 MiB) and returns it as the base64 text that
// IOCScan.IOC holds. It refuses what IOCScan.Validate would refuse. It blocks as long as r does.
func EncodeIOC(r io.Reader) (string, error) {
	limit := base64.StdEncoding.DecodedLen(maxIOCArchive)
	archive, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return "", fmt.Errorf("read the IOC archive: %w", err)
	}
	if len(archive) > limit {
		return "", fmt.Errorf("the IOC archive is larger than %d bytes: split it", limit)
	}
	if err := checkIOCArchive(archive); err != nil {
		return "", fmt.Errorf("the IOC archive %w", err)
	}
	return base64.StdEncoding.EncodeToString(archive), nil
}

// Validate needs the base64 of a ZIP archive that holds 1 to 100 .ioc or .xml files, inflates to at most
// 32 MiB and hides nothing: no encryption, links, archives, or names that lead elsewhere.
func (t IOCScan) Validate() error {
	var p problems
	p.add("ioc", checkIOC(t.IOC))
	return p.join()
}

func checkIOC(text string) error {
	switch {
	case text == "":
		return errRequired
	case len(text) > maxIOCArchive:
		return fmt.Errorf("is %d bytes of base64, allowed are %d: split the archive", len(text), maxIOCArchive)
	case strings.ContainsAny(text, "\r\n"):
		return errors.New("has line breaks: write the base64 in one line (base64 -w0)")
	}
	archive, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return errors.New("is not the base64 of a ZIP archive (a path belongs to the --ioc option, which reads and encodes the file)")
	}
	return checkIOCArchive(archive)
}

func checkIOCArchive(archive []byte) error {
	if !bytes.HasPrefix(archive, []byte(iocFile)) {
		return errors.New("is not a ZIP archive with files (it does not start with PK 03 04)")
	}
	// archive/zip makes an entry of everything that looks like one before it compares with the count in
	// the archive; the signatures tell first how many that can be.
	if n := bytes.Count(archive, []byte(iocDirectory)); n > maxIOCEntries {
		return fmt.Errorf("holds more than %d entries", maxIOCEntries)
	}
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return errors.New("is a damaged ZIP archive")
	}
	seen := make(map[string]bool, len(r.File))
	files, room := 0, int64(maxIOCInflated)
	for _, f := range r.File {
		if err := checkIOCEntry(f); err != nil {
			return fmt.Errorf("holds %s, which %w", show(f.Name), err)
		}
		name := foldPath(f.Name)
		if seen[name] {
			return fmt.Errorf("holds %s twice", show(f.Name))
		}
		seen[name] = true
		if f.FileInfo().IsDir() {
			continue
		}
		files++
		n, err := inflateIOC(f, room)
		if err != nil {
			return fmt.Errorf("holds %s, which %w", show(f.Name), err)
		}
		room -= n
	}
	if files == 0 {
		return errors.New("holds no .ioc or .xml file")
	}
	return nil
}

func checkIOCEntry(f *zip.File) error {
	const encrypted = 0x1
	mode := f.Mode()
	switch name := f.Name; {
	case checkText(name) != nil:
		return fmt.Errorf("has a bad name: it %w", checkText(name))
	case len(name) > maxSegment:
		return fmt.Errorf("has a name longer than %d bytes", maxSegment)
	case strings.ContainsAny(name, `\:`):
		return errors.New(`has \ or : in its name`)
	case !fs.ValidPath(strings.TrimSuffix(name, "/")):
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
	}
	if ext := strings.ToLower(path.Ext(f.Name)); ext != ".ioc" && ext != ".xml" {
		return errors.New("is no .ioc or .xml file")
	}
	return nil
}

// inflateIOC counts what really comes out of an entry, because its header may say anything.
func inflateIOC(f *zip.File, room int64) (n int64, err error) {
	if f.Method != zip.Store && f.Method != zip.Deflate {
		return 0, fmt.Errorf("is packed by method %d: use deflate", f.Method)
	}
	r, err := f.Open()
	if err != nil {
		return 0, errors.New("is damaged")
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	chunk := make([]byte, iocChunk)
	for {
		got, err := r.Read(chunk)
		if n == 0 && isArchive(chunk[:got]) {
			return 0, errors.New("is an archive itself")
		}
		n += int64(got)
		switch {
		case n > room:
			return 0, fmt.Errorf("takes the archive over %d MiB inflated", maxIOCInflated>>20)
		case n > iocChunk && uint64(n) > maxIOCRatio*f.CompressedSize64:
			return 0, fmt.Errorf("inflates to more than %d times its size", maxIOCRatio)
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return 0, errors.New("is damaged")
		}
	}
}

// isArchive knows ZIP, gzip, 7z, RAR, xz, bzip2, Zstandard and cabinet files by how they begin.
func isArchive(head []byte) bool {
	for _, magic := range []string{"PK\x03\x04", "PK\x05\x06", "\x1f\x8b", "7z\xbc\xaf", "Rar!", "\xfd7zXZ", "BZh", "\x28\xb5\x2f\xfd", "MSCF"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}
