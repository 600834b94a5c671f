package bridge

// StartProcess runs an executable. It has no undo.
//
//	{"executablePath":"C:\\Tools\\collect.exe","arguments":"/all","workingFolder":"C:\\Tools"}
type StartProcess struct {
	// ExecutablePath is the absolute path of the executable.
	ExecutablePath string `json:"executablePath"`
	// Arguments is one command-line string, WorkingFolder an absolute path; both optional.
	Arguments     string `json:"arguments,omitempty"`
	WorkingFolder string `json:"workingFolder,omitempty"`
}

// TerminateProcess ends every process whose image fulfils all given criteria. It has no undo.
type TerminateProcess struct {
	// MD5 and SHA256 are hex digests of the image, or empty.
	MD5    string `json:"md5hash"`
	SHA256 string `json:"sha256hash"`
	// Path is the absolute path of the image, or empty when a digest is given.
	Path string `json:"path"`
	// CaseSensitive compares the path by exact case.
	CaseSensitive bool `json:"caseSensitive"`
}

// PreventExecution forbids a file to run. Undo: remove the rule from the policy of the host.
type PreventExecution struct {
	// Hash is the MD5 of the file (hex). The local agent also takes a SHA-256.
	Hash string `json:"hash"`
	// Path is the absolute path of the file, or empty.
	Path string `json:"path"`
	// CaseSensitive compares the path by exact case.
	CaseSensitive bool `json:"caseSensitive"`
}

// Kind returns KindStartProcess.
func (StartProcess) Kind() Kind { return KindStartProcess }

// Kind returns KindTerminateProcess.
func (TerminateProcess) Kind() Kind { return KindTerminateProcess }

// Kind returns KindPreventExecution.
func (PreventExecution) Kind() Kind { return KindPreventExecution }

func (StartProcess) task()     {}
func (TerminateProcess) task() {}
func (PreventExecution) task() {}
