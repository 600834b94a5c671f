package sensor

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	// recordHead is length (4), check sum (4), kind (1) and number (8) of a record in the spool, little-endian. The length is that of
	// the body; the sum is CRC-32C over all that follows it.
	recordHead = 17
	// maxRecord bounds the body of a record: more than any alert.
	maxRecord = 1 << 20

	recordAlert   = 1 // the body is an alert
	recordSettled = 2 // the alert of that number is with its receiver; no body
)

// record is one entry of the spool.
type record struct {
	kind   byte
	number uint64
	body   []byte
}

func (r record) append(b []byte) []byte {
	from := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.body))) //nolint:gosec // at most maxRecord
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, r.kind)
	b = binary.LittleEndian.AppendUint64(b, r.number)
	b = append(b, r.body...)
	binary.LittleEndian.PutUint32(b[from+4:], crc32.Checksum(b[from+8:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// readRecord returns the first record and how many bytes it takes; ok is false at the end and where the text is damaged. The body
// shares memory with b.
func readRecord(b []byte) (r record, size int, ok bool) {
	if len(b) < recordHead {
		return record{}, 0, false
	}
	length := int64(binary.LittleEndian.Uint32(b))
	if length > maxRecord || int64(len(b)) < recordHead+length {
		return record{}, 0, false
	}
	size = recordHead + int(length)
	if crc32.Checksum(b[8:size], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, 0, false
	}
	r = record{kind: b[8], number: binary.LittleEndian.Uint64(b[9:]), body: b[recordHead:size]}
	switch {
	case r.kind == recordAlert && length > 0, r.kind == recordSettled && length == 0:
		return r, size, true
	default:
		return record{}, 0, false
	}
}
