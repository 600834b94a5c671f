package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

const (
	maxPID      = 4194304 // PID_MAX_LIMIT of Linux, proc_sys_kernel(5); Windows stays below in practice
	maxIDLength = 256     // bytes of a product's own alert id
)

// take reads one token into the alert as the row of the preset says.
func (r *reader) take(token []byte, rw *row) error {
	k := kindPID
	index := -1
	if rw.Field != "" {
		index = rw.field
		k = alertFields[index].kind
		if r.have[index] {
			return fmt.Errorf("%s is given already under another name", rw.Field)
		}
	}
	switch k {
	case kindPID, kindTicks:
		return r.takeNumber(token, k, index)
	case kindText, kindID, kindLevel, kindTime, kindMD5, kindSHA256, kindAddress:
		text, err := textOf(token)
		if err != nil || text == "" {
			return err
		}
		r.have[index] = true
		return r.takeText(text, index)
	case kindRaw:
		return errors.New("is not an alert field")
	default:
		return fmt.Errorf("has the unknown kind %d", k)
	}
}

func (r *reader) takeNumber(token []byte, k kind, index int) error {
	if k == kindTicks {
		n, ok := digits(token)
		if !ok {
			return fmt.Errorf("must be a count of clock ticks, not %s", excerpt(token))
		}
		r.have[index] = true
		r.alert.Process.Start = n
		return nil
	}
	n, ok := digits(token)
	least := uint64(1)
	if index < 0 {
		least = 0 // the parent of the first process has number 0
	}
	if !ok || n < least || n > maxPID {
		return fmt.Errorf("must be a whole number from %d to %d, not %s", least, maxPID, excerpt(token))
	}
	if index >= 0 {
		r.have[index] = true
		r.alert.Process.PID = int(n)
	}
	return nil
}

// digits reads a JSON number that is written with digits only: no sign, fraction or exponent.
func digits(token []byte) (uint64, bool) {
	if len(token) == 0 || token[0] < '0' || token[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(token), 10, 64)
	return n, err == nil
}

func (r *reader) takeText(text string, index int) error {
	f := &alertFields[index]
	switch f.kind {
	case kindText:
	case kindID:
		if err := checkID(text); err != nil {
			return err
		}
	case kindLevel:
		level, ok := levelOf(text)
		if !ok {
			return fmt.Errorf("must be LOW, MEDIUM, HIGH or CRITICAL, not %s", excerpt([]byte(text)))
		}
		text = level
	case kindTime:
		r.clock = text
		return nil
	case kindMD5, kindSHA256:
		if !isHex(text, digestLength(f.kind)) {
			return fmt.Errorf("must be %d hex digits, not %s", digestLength(f.kind), excerpt([]byte(text)))
		}
		text = strings.ToLower(text)
	case kindAddress:
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("must be an IP address, not %s", excerpt([]byte(text)))
		}
		*f.addr(r.alert) = addr.Unmap()
		return nil
	case kindPID, kindTicks, kindRaw:
		return errors.New("must not be text")
	default:
		return fmt.Errorf("has the unknown kind %d", f.kind)
	}
	*f.text(r.alert) = text
	return nil
}

// textOf returns the text of a string token; other scalars are errors.
func textOf(token []byte) (string, error) {
	if token[0] != '"' {
		return "", fmt.Errorf("must be text, not %s", excerpt(token))
	}
	return unquote(token, bytes.IndexByte(token, '\\') >= 0)
}

func checkID(id string) error {
	if len(id) > maxIDLength {
		return fmt.Errorf("must not be longer than %d bytes", maxIDLength)
	}
	for _, c := range id {
		if unicode.IsControl(c) || unicode.Is(unicode.Cf, c) {
			return errors.New("must not hold control or invisible characters")
		}
	}
	return nil
}

// levelOf folds the words products use for severities to the four of the bridge.
func levelOf(word string) (string, bool) {
	switch strings.ToUpper(word) {
	case "LOW", "INFO", "INFORMATIONAL":
		return "LOW", true
	case "MEDIUM", "WARNING":
		return "MEDIUM", true
	case "HIGH":
		return "HIGH", true
	case "CRITICAL":
		return "CRITICAL", true
	default:
		return "", false
	}
}

func digestLength(k kind) int {
	if k == kindMD5 {
		return 32
	}
	return 64
}

func isHex(s string, length int) bool {
	if len(s) != length {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
