package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Kind is the name of a task, spelled as in KLINCDT_BODY.task of Kaspersky's EDR response API.
type Kind string

// The nine tasks of KES 12.9 (support.kaspersky.com/help/KESWin/12.9/en-US/300491.htm) and
// blockAddress, which only the local agent knows.
const (
	KindGetFile          Kind = "getFile"
	KindDeleteFile       Kind = "deleteFile"
	KindQuarantineFile   Kind = "quarantineFile"
	KindIOCScan          Kind = "iocScan"
	KindStartProcess     Kind = "startProcess"
	KindTerminateProcess Kind = "terminateProcess"
	KindIsolateHost      Kind = "isolateHost"
	KindPreventExecution Kind = "preventExecution"
	KindOnDemandScan     Kind = "onDemandScan"
	KindBlockAddress     Kind = "blockAddress"
)

// Task says what to do on a host. The interface is closed: only the ten structs of this package
// implement it, with value receivers, and they are always passed as values.
//
//sumtype:decl
type Task interface {
	// Kind returns the name of the task.
	Kind() Kind
	// Validate reports every problem at once, each as "params.<field>: <what is wrong>".
	Validate() error
	task()
}

// Kinds lists every task in the order of the vendor's page, blockAddress last.
func Kinds() []Kind {
	return []Kind{
		KindGetFile, KindDeleteFile, KindQuarantineFile, KindIOCScan, KindStartProcess, KindTerminateProcess,
		KindIsolateHost, KindPreventExecution, KindOnDemandScan, KindBlockAddress,
	}
}

// ParseKind returns the kind spelled exactly so; the error names the nearest one.
func ParseKind(name string) (Kind, error) {
	if slices.Contains(Kinds(), Kind(name)) {
		return Kind(name), nil
	}
	names := make([]string, 0, len(Kinds()))
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return "", fmt.Errorf("unknown task %q%s", name, DidYouMean(name, names))
}

// KSC reports whether Kaspersky Security Center knows the task.
func (k Kind) KSC() bool { return k != KindBlockAddress }

// NewTask returns the zero task of the kind, or an error for an unknown one.
func NewTask(k Kind) (Task, error) {
	switch k {
	case KindGetFile:
		return GetFile{}, nil
	case KindDeleteFile:
		return DeleteFile{}, nil
	case KindQuarantineFile:
		return QuarantineFile{}, nil
	case KindIOCScan:
		return IOCScan{}, nil
	case KindStartProcess:
		return StartProcess{}, nil
	case KindTerminateProcess:
		return TerminateProcess{}, nil
	case KindIsolateHost:
		return IsolateHost{}, nil
	case KindPreventExecution:
		return PreventExecution{}, nil
	case KindOnDemandScan:
		return OnDemandScan{}, nil
	case KindBlockAddress:
		return BlockAddress{}, nil
	default:
		return nil, fmt.Errorf("unknown task %q", k)
	}
}

// EncodeParams returns the params of the task as compact JSON with unescaped <, > and &.
func EncodeParams(t Task) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(t); err != nil {
		return nil, fmt.Errorf("encode %s params: %w", t.Kind(), err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
