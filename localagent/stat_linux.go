package localagent

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

type procStat struct {
	ppid         int
	flags, start uint64
}

// parseStat reads /proc/PID/stat from behind the last parenthesis, because the name before it is chosen by the
// process and may hold anything (proc_pid_stat(5)).
func parseStat(b []byte) (procStat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return procStat{}, errors.New("no process name in it")
	}
	var st procStat
	field := 3
	for f := range bytes.FieldsSeq(b[i+1:]) {
		var err error
		switch field {
		case 4:
			st.ppid, err = strconv.Atoi(string(f))
		case 9:
			st.flags, err = strconv.ParseUint(string(f), 10, 64)
		case 22:
			st.start, err = strconv.ParseUint(string(f), 10, 64)
			if err == nil {
				return st, nil
			}
		}
		if err != nil {
			return procStat{}, fmt.Errorf("field %d: %w", field, err)
		}
		field++
	}
	return procStat{}, fmt.Errorf("it has %d fields, 22 are needed", field-1)
}
