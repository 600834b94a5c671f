package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// maxParams is how many bytes of params are read; iocScan may have an archive more. The longest command line
// and working folder Windows takes fit in.
const maxParams = 256 << 10

// DecodeTask reads params JSON of the given kind strictly and reports every problem at once, each as
// "params.<field>: <what is wrong>": unknown, repeated or differently cased keys, null, wrong types and
// what CheckJSON refuses. Keys that are left out are zero values, but isolateHost needs its action, each
// object of onDemandScan its enabled and type: their absence must not read as 0 or false.
// Params may have 256 KiB, those of iocScan 8 MiB more. The task is not validated.
func DecodeTask(k Kind, params []byte) (Task, error) {
	limit := maxParams
	if k == KindIOCScan {
		limit += maxIOCArchive
	}
	if len(params) > limit {
		return nil, fmt.Errorf("params: is %d bytes long, allowed are %d", len(params), limit)
	}
	if err := checkJSON(params); err != nil {
		return nil, fmt.Errorf("params%s: %s (byte %d)", err.path, err.msg, err.offset)
	}
	switch k {
	case KindGetFile:
		return decodeTask[GetFile](params)
	case KindDeleteFile:
		return decodeTask[DeleteFile](params)
	case KindQuarantineFile:
		return decodeTask[QuarantineFile](params)
	case KindIOCScan:
		return decodeTask[IOCScan](params)
	case KindStartProcess:
		return decodeTask[StartProcess](params)
	case KindTerminateProcess:
		return decodeTask[TerminateProcess](params)
	case KindIsolateHost:
		return decodeTask[IsolateHost](params, "action")
	case KindPreventExecution:
		return decodeTask[PreventExecution](params)
	case KindOnDemandScan:
		objects, err := decodeScanObjects(params)
		if err != nil {
			return nil, err
		}
		return OnDemandScan{Objects: objects}, nil
	case KindBlockAddress:
		return decodeTask[BlockAddress](params)
	default:
		_, err := ParseKind(string(k))
		return nil, err
	}
}

// MarshalJSON returns the array of objects, [] when there are none.
func (t OnDemandScan) MarshalJSON() ([]byte, error) {
	if len(t.Objects) == 0 {
		return []byte("[]"), nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(t.Objects); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// UnmarshalJSON reads the array as strictly as DecodeTask.
func (t *OnDemandScan) UnmarshalJSON(params []byte) error {
	if err := checkJSON(params); err != nil {
		return fmt.Errorf("params%s: %s (byte %d)", err.path, err.msg, err.offset)
	}
	objects, err := decodeScanObjects(params)
	if err != nil {
		return err
	}
	t.Objects = objects
	return nil
}

func decodeTask[T Task](params []byte, required ...string) (Task, error) {
	var t T
	if err := decodeObject("params", params, reflect.ValueOf(&t).Elem(), required...); err != nil {
		return nil, err
	}
	return t, nil
}

func decodeScanObjects(params []byte) ([]ScanObject, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(params, &raw); err != nil || raw == nil {
		return nil, fmt.Errorf("params: is %s, want an array of scan objects: put [ ] around it", jsonWord(params))
	}
	if len(raw) > maxScanObjects {
		return nil, fmt.Errorf("params: holds %d scan objects, allowed are %d", len(raw), maxScanObjects)
	}
	var objects []ScanObject
	var problems []error
	for i, r := range raw {
		var o ScanObject
		problems = append(problems, decodeObject(fmt.Sprintf("params[%d]", i), r, reflect.ValueOf(&o).Elem(), "enabled", "type"))
		objects = append(objects, o)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return objects, nil
}

// decodeObject fills the fields of a struct from an object that checkJSON has passed. It goes by field
// instead of unmarshalling the whole, because encoding/json would take keys in any case, let null pass
// as zero and stop at the first wrong type.
func decodeObject(at string, doc []byte, out reflect.Value, required ...string) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(doc, &given); err != nil || given == nil {
		return fmt.Errorf("%s: is %s, want an object", at, jsonWord(doc))
	}
	var problems []error
	var names []string
	for i := range out.NumField() {
		name, _, _ := strings.Cut(out.Type().Field(i).Tag.Get("json"), ",")
		names = append(names, name)
		raw, ok := given[name]
		delete(given, name)
		switch {
		case !ok && slices.Contains(required, name):
			problems = append(problems, fmt.Errorf("%s.%s: required", at, name))
		case ok:
			if err := decodeField(raw, out.Field(i)); err != nil {
				problems = append(problems, fmt.Errorf("%s.%s: %w", at, name, err))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		problems = append(problems, fmt.Errorf("%s%s: no such parameter%s", at, keyStep(name), DidYouMean(name, names)))
	}
	return errors.Join(problems...)
}

func decodeField(raw []byte, field reflect.Value) error {
	want := "a string"
	switch field.Kind() {
	case reflect.Bool:
		want = "true or false without quotes"
	case reflect.Int:
		want = "a whole number without quotes"
	default:
	}
	if bytes.Equal(raw, []byte("null")) {
		return fmt.Errorf("is null, want %s", want)
	}
	if err := json.Unmarshal(raw, field.Addr().Interface()); err != nil {
		return fmt.Errorf("is %s, want %s", jsonWord(raw), want)
	}
	return nil
}

// jsonWord says what kind of value a checked document is.
func jsonWord(doc []byte) string {
	doc = bytes.TrimLeft(doc, " \t\r\n")
	switch {
	case len(doc) == 0:
		return "nothing"
	case doc[0] == '{':
		return "an object"
	case doc[0] == '[':
		return "an array"
	case doc[0] == '"':
		return "a string"
	case doc[0] == 't', doc[0] == 'f':
		return "a boolean"
	case doc[0] == 'n':
		return "null"
	default:
		return "the number " + show(string(doc))
	}
}
