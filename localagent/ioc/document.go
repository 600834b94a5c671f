package ioc

// Version is the version of OpenIOC a document is written in.
type Version string

// The versions. 1.0 has the root element ioc, 1.1 the root element OpenIOC
// (github.com/mandiant/OpenIOC_1.1, schemas of both).
const (
	Version10 Version = "1.0"
	Version11 Version = "1.1"
)

// Document is one OpenIOC file as it was read.
type Document struct {
	// ID is the id of the document, unique within a task; Name its short description, may be empty.
	ID, Name string
	// Entry is its name in the archive.
	Entry string
	// Version is 1.0 or 1.1.
	Version Version

	root group
}

// group is an Indicator element: an operator over terms and groups.
type group struct {
	operator string
	groups   []group
	terms    []term
}

// term is an IndicatorItem element, word for word.
type term struct {
	id, condition   string
	document        string // Context/@document, the kind it says it is about
	search          string // Context/@search, such as FileItem/Md5sum
	content         string
	negate, exact   string // @negate and @preserve-case of 1.1
	context, filled bool   // a Context and a Content were there
}

// Terms returns how many terms the document holds.
func (d Document) Terms() int { return d.root.count() }

func (g group) count() int {
	n := len(g.terms)
	for _, sub := range g.groups {
		n += sub.count()
	}
	return n
}
