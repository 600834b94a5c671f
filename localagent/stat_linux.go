package localagent

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// procStat is what /proc/PID/stat says. State is the letter of proc_pid_stat(5): R, S, D, T, t, Z, X, I.
type procStat struct {
	state        byte
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
		case 3:
			st.state = f[0]
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

// stopped reports whether a thread in this state begins nothing: it is stopped, traced, gone, or cannot be reached before it has
// handled its signals. A thread that forks handles a pending stop before the child exists.
func (st *procStat) stopped() bool {
	switch st.state {
	case 'T', 't', 'Z', 'X', 'x', 'D', 'I':
		return true
	default:
		return false
	}
}

// stateText says why a process that was killed is still there, or "" when it is on its way.
func (st *procStat) stateText() string {
	switch st.state {
	case 'D':
		return "in uninterruptible sleep (D): it ends when the kernel has finished what it waits for, such as input or output"
	case 't':
		return "held by a debugger"
	case 'Z':
		return fmt.Sprintf("its first thread has ended (Z), others have not; its parent is process %d", st.ppid)
	default:
		return ""
	}
}
