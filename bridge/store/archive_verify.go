package store

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line of an export or archive: the longest holds a document of maxStored bytes in base64.
const maxLine = maxStored*4/3 + 64<<10

// VerifyExport verifies an export or archive without a store: a JSON object a line as EncodeRecord writes it, plain or compressed
// with gzip, one file or several that follow one another. key is the audit key or nil; ErrNoKey: the records are sealed with one.
// A first record with a Seq above 1 is trusted to follow from its Prev, so compare that with the archive before. Anchors
// before the first record are left out, and those after the last one too if the input says itself where it ends (archives do);
// else they mean that the end is missing. The error is about reading; what was found is in the report.
func VerifyExport(r io.Reader, key []byte, anchors []Anchor) (AuditReport, error) {
	if key != nil {
		if err := checkKey(key); err != nil {
			return AuditReport{}, err
		}
	}
	v := newVerifier(newSeal(key), anchors)
	var last int64
	err := readLines(r, lineReader{
		archive: func(a archiveJSON) error {
			last = max(last, a.Last)
			return nil
		},
		record: func(rec AuditRecord) error { return v.addLinked(rec) },
	})
	switch {
	case errors.Is(err, errBadRecord):
		return v.report, nil
	case errors.Is(err, errLine), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		v.bad(v.report.Head.Seq+1, "it cannot be read: "+err.Error())
		return v.report, nil
	case err != nil:
		return v.report, err
	}
	if last > v.report.Head.Seq {
		v.bad(v.report.Head.Seq+1, fmt.Sprintf("it is missing: the archive says that it ends with record %d", last))
	}
	if last > 0 {
		v.anchors = nil
	}
	return v.end(), nil
}

// addLinked takes the next record of an export, which has its Prev itself.
func (v *verifier) addLinked(r AuditRecord) error {
	switch {
	case v.report.Records == 0 && r.Seq > 1:
		v.begin(head{Anchor: Anchor{Seq: r.Seq - 1, Hash: r.Prev}})
		v.from = Anchor{} // where the chain went on before is not for this export to say
		if v.report.FirstBad != 0 {
			return errBadRecord
		}
	case v.report.FirstBad == 0 && r.Seq == v.report.Head.Seq+1 && r.Prev != v.report.Head.Hash:
		v.report.Records++
		v.bad(r.Seq, "its prev is not the hash of the record before")
		return errBadRecord
	}
	return v.add(r)
}

// errLine marks a line that is not what it should be.
var errLine = errors.New("bad line")

// lineReader says what to do with the lines of an archive; nil = nothing.
type lineReader struct {
	archive func(archiveJSON) error
	record  func(AuditRecord) error
	order   func(orderJSON) error
	alert   func(alertJSON) error
}

// readLines reads an export or archive to its end or an error of a function.
func readLines(r io.Reader, do lineReader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		zr, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = bufio.NewReaderSize(zr, 64<<10)
	}
	for n := 1; ; n++ {
		line, err := readLine(in)
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := do.line(line); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
		if end {
			return nil
		}
	}
}

// readLine returns the next line of at most maxLine bytes; it is valid until the next call.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > maxLine {
			return nil, fmt.Errorf("%w: longer than %d bytes", errLine, maxLine)
		}
		line, err = in.ReadSlice('\n')
		long = append(long, line...)
	}
	return long, err
}

func (do lineReader) line(line []byte) error {
	if !isTyped(line) {
		rec, err := DecodeRecord(line)
		if err != nil {
			return fmt.Errorf("%w: %w", errLine, err)
		}
		return call(do.record, rec)
	}
	var typed typedLine
	err := decodeStrict(line, &typed)
	if err != nil {
		return fmt.Errorf("%w: %w", errLine, err)
	}
	switch typed.Type {
	case lineArchive:
		var a archiveJSON
		if err = decodeStrict(typed.Data, &a); err == nil && a.Version != archiveVersion {
			err = fmt.Errorf("format %d: this program knows %d", a.Version, archiveVersion)
		}
		if err == nil {
			return call(do.archive, a)
		}
	case lineOrder:
		return decodeInto(typed.Data, do.order)
	case lineAlert:
		return decodeInto(typed.Data, do.alert)
	default:
		err = fmt.Errorf("unknown type %q", typed.Type)
	}
	return fmt.Errorf("%w: %w", errLine, err)
}

func decodeInto[T any](data []byte, fn func(T) error) error {
	var v T
	if err := decodeStrict(data, &v); err != nil {
		return fmt.Errorf("%w: %w", errLine, err)
	}
	return call(fn, v)
}

func call[T any](fn func(T) error, v T) error {
	if fn == nil {
		return nil
	}
	return fn(v)
}
