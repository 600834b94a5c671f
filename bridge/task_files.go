package bridge

// GetFile copies a file to the quarantine of the host; the original stays.
//
//	{"md5hash":"","sha256hash":"","path":"C:\\Users\\Public\\a.exe"}
type GetFile struct {
	// MD5 and SHA256 are hex digests of the file, or empty; what is given must match.
	MD5    string `json:"md5hash"`
	SHA256 string `json:"sha256hash"`
	// Path is the absolute path of the file.
	Path string `json:"path"`
}

// QuarantineFile moves a file to the quarantine of the host. Undo: restore it there.
type QuarantineFile struct {
	// MD5 and SHA256 are hex digests of the file, or empty; what is given must match.
	MD5    string `json:"md5hash"`
	SHA256 string `json:"sha256hash"`
	// Path is the absolute path of the file.
	Path string `json:"path"`
}

// DeleteFile removes a file. It has no undo.
type DeleteFile struct {
	// MD5 and SHA256 are hex digests of the file, or empty; what is given must match.
	MD5    string `json:"md5hash"`
	SHA256 string `json:"sha256hash"`
	// Path is the absolute path of the file.
	Path string `json:"path"`
	// SearchInSubfolders also looks for the file name below its folder.
	SearchInSubfolders bool `json:"searchInSubfolders,omitempty"`
}

// Kind returns KindGetFile.
func (GetFile) Kind() Kind { return KindGetFile }

// Kind returns KindQuarantineFile.
func (QuarantineFile) Kind() Kind { return KindQuarantineFile }

// Kind returns KindDeleteFile.
func (DeleteFile) Kind() Kind { return KindDeleteFile }

func (GetFile) task()        {}
func (QuarantineFile) task() {}
func (DeleteFile) task()     {}
