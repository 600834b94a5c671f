package scan

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxInflated bounds what is unpacked of one file, all levels together.
	maxInflated = 512 << 20
	// maxEntries bounds the files in one archive, all levels together.
	maxEntries = 20_000
	// maxDirectory bounds what is read to list an archive, because the list is held in memory: some 250 bytes for 46 read.
	maxDirectory = 4 << 20
	// maxNested bounds an archive inside an archive, which is unpacked into memory.
	maxNested = 32 << 20
	// maxLevels is how many archives may lie inside one another.
	maxLevels = 4
	// maxRatio is how much more than its packed size an entry may unpack to, once it is larger than freeRatio.
	maxRatio, freeRatio = 200, 1 << 20
)

// Why an archive is skipped.
const (
	reasonArchiveSize   = "archive: unpacks to more than is looked at"
	reasonArchiveCount  = "archive: holds more files than are looked at"
	reasonArchiveDepth  = "archive: archives lie inside one another too deep"
	reasonArchiveRatio  = "archive: unpacks out of all proportion"
	reasonArchiveLocked = "archive: holds encrypted files"
	reasonArchiveMethod = "archive: packed by a method that is not known"
	reasonArchiveBroken = "archive: damaged"
)

// errBudget ends the reading of an archive's directory.
var errBudget = errors.New("more than is looked at")

// archive walks the ZIP archives of one file within one budget.
type archive struct {
	engine *builtin
	// left is how many bytes may still be unpacked, entries how many files looked at.
	left    int64
	entries int
	// certain says that the file begins like an archive. One that only ends so may do it by chance: then there is nothing to
	// unpack.
	certain bool
}

// open looks at each entry of the archive; inside are the names of the archives around it. What is infected decides at once; what
// could not be looked at decides when nothing infected is found.
func (a *archive) open(ctx context.Context, r io.ReaderAt, size int64, inside []string) (Verdict, error) {
	if len(inside) >= maxLevels {
		return skipped(reasonArchiveDepth), nil
	}
	reader := &budgetAt{r: r, left: maxDirectory}
	z, err := zip.NewReader(reader, size)
	switch {
	case errors.Is(err, errBudget):
		return skipped(reasonArchiveCount), nil
	case errors.Is(err, zip.ErrFormat) && len(inside) == 0 && !a.certain:
		return clean(), nil
	case err != nil && !errors.Is(err, zip.ErrInsecurePath):
		return skipped(reasonArchiveBroken), nil
	}
	reader.unbound = true
	result := clean()
	for _, f := range z.File {
		if a.entries--; a.entries < 0 {
			return skipped(reasonArchiveCount), nil
		}
		v, err := a.entry(ctx, f, inside)
		if err != nil || v.State == Infected {
			return v, err
		}
		if v.State == Skipped && result.State == Clean {
			result = v
		}
	}
	return result, nil
}

func (a *archive) entry(ctx context.Context, f *zip.File, inside []string) (Verdict, error) {
	if strings.HasSuffix(f.Name, "/") && f.UncompressedSize64 == 0 {
		return clean(), nil
	}
	if f.Flags&1 != 0 {
		return skipped(reasonArchiveLocked), nil
	}
	in, err := f.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		return skipped(reasonArchiveMethod), nil
	}
	if err != nil {
		return skipped(reasonArchiveBroken), nil
	}
	defer func() { _ = in.Close() }()
	limit := min(a.left, freeRatio+maxRatio*int64(min(f.CompressedSize64, maxInflated)))
	m := &member{r: in, left: limit}
	name, _, err := a.engine.stream(ctx, m)
	a.left -= limit - m.left
	where := append(slices.Clip(inside), f.Name)
	switch {
	case context.Cause(ctx) != nil:
		return Verdict{}, context.Cause(ctx)
	case name != "":
		return Verdict{State: Infected, Signature: name, Member: verdict.Shown(strings.Join(where, " > "))}, nil
	case errors.Is(err, errBudget) && a.left <= 0:
		return skipped(reasonArchiveSize), nil
	case errors.Is(err, errBudget):
		return skipped(reasonArchiveRatio), nil
	case err != nil:
		return skipped(reasonArchiveBroken), nil
	case !m.zipped():
		return clean(), nil
	case m.whole == nil:
		return skipped(reasonArchiveSize), nil
	}
	return a.open(ctx, bytes.NewReader(m.whole.Bytes()), int64(m.whole.Len()), where)
}

// member is an entry being unpacked; it keeps the content when that may be an archive itself.
type member struct {
	r    io.Reader
	left int64
	head []byte
	// whole is nil unless the content may be an archive that is not too large.
	whole *bytes.Buffer
	// tooLarge says that whole was given up.
	tooLarge bool
}

// Read fails with errBudget when there is more than may be unpacked.
func (m *member) Read(p []byte) (int, error) {
	if m.left <= 0 {
		var one [1]byte
		if n, err := m.r.Read(one[:]); n == 0 && err != nil {
			return 0, err
		}
		return 0, errBudget
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	m.keep(p[:n])
	return n, err
}

func (m *member) keep(b []byte) {
	if need := 4 - len(m.head); need > 0 {
		m.head = append(m.head, b[:min(need, len(b))]...)
		if len(m.head) < 4 {
			return
		}
		if isZipHead([4]byte(m.head)) {
			m.whole = bytes.NewBuffer(append([]byte(nil), m.head[:4-min(need, len(b))]...))
		}
	}
	if m.whole == nil {
		return
	}
	if m.whole.Len()+len(b) > maxNested {
		m.whole, m.tooLarge = nil, true
		return
	}
	m.whole.Write(b)
}

func (m *member) zipped() bool { return m.whole != nil || m.tooLarge }

// budgetAt fails with errBudget once more than left bytes were read, until it is unbound.
type budgetAt struct {
	r       io.ReaderAt
	left    int64
	unbound bool
}

// ReadAt reads as the reader below does.
func (b *budgetAt) ReadAt(p []byte, off int64) (int, error) {
	if !b.unbound {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, fmt.Errorf("directory of the archive: %w", errBudget)
		}
	}
	return b.r.ReadAt(p, off)
}
