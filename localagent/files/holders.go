package files

// maxHolders bounds how many holders are named.
const maxHolders = 256

// Holder is a process through which the content of a file lives on when its name is gone.
type Holder struct {
	PID int
	// Name is what the process calls itself; programs choose it, so show it with care.
	Name string
	// How is "runs", "maps", "writes" or "reads".
	How string
}
