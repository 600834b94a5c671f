package configs

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes; it is written 512KiB, 100MiB, 10GiB.
type Size int64

const maxSize = Size(1) << 50

// sizeUnits returns the units, the largest first.
func sizeUnits() []struct {
	name string
	of   Size
} {
	return []struct {
		name string
		of   Size
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

func (s *Size) parse(text string) error {
	for _, u := range sizeUnits() {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 40)
		if err != nil || Size(n) > maxSize/u.of {
			break
		}
		*s = Size(n) * u.of
		return nil
	}
	return fmt.Errorf("must be %s, not %s", s.wants(), quoted(text))
}

func (*Size) wants() string { return "a size such as 512KiB, 100MiB or 10GiB" }

// MarshalText returns the size as it is written, in the largest unit it is a whole number of.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range sizeUnits() {
		if s >= u.of && s%u.of == 0 {
			return fmt.Appendf(nil, "%d%s", s/u.of, u.name), nil
		}
	}
	return []byte("0B"), nil
}
