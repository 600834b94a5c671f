package bridge

import "encoding/json"

// CheckJSON is filled in by the task work.
func CheckJSON(doc []byte) error { var v any; return json.Unmarshal(doc, &v) }
func checkKeyCase(params []byte, out any) error { return nil }
func decodeIsolateHost(params []byte) (Task, error) { return decodeTask[IsolateHost](params) }
// DidYouMean is filled in by the task work.
func DidYouMean(got string, names []string) string { return "" }
func (GetFile) Validate() error { return nil }
func (DeleteFile) Validate() error { return nil }
func (QuarantineFile) Validate() error { return nil }
func (IOCScan) Validate() error { return nil }
func (StartProcess) Validate() error { return nil }
func (TerminateProcess) Validate() error { return nil }
func (IsolateHost) Validate() error { return nil }
func (PreventExecution) Validate() error { return nil }
func (OnDemandScan) Validate() error { return nil }
func (BlockAddress) Validate() error { return nil }
