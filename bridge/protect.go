package bridge

// ProtectEntry is replaced by the protect work.
type ProtectEntry struct{ Pattern, Why, At string }
// ProtectConfig is replaced by the protect work.
type ProtectConfig struct{ Hosts, Processes, Paths, Addresses []ProtectEntry }
// Protect is replaced by the protect work.
type Protect struct{}
// NewProtect is replaced by the protect work.
func NewProtect(ProtectConfig) (*Protect, error) { return &Protect{}, nil }
// Check is replaced by the protect work.
func (p *Protect) Check(Order) (Reason, string) { return "", "" }
// CheckProcess is replaced by the protect work.
func (p *Protect) CheckProcess(string) (Reason, string) { return "", "" }
