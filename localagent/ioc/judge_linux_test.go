package ioc

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTermsOfOneKindHoldForOneAndTheSameObject(t *testing.T) {
	t.Parallel()
	small := thing(t, "FileItem/FullPath=/tmp/a", "FileItem/SizeInBytes=5")
	elsewhere := thing(t, "FileItem/FullPath=/usr/b", "FileItem/SizeInBytes=15")
	both := thing(t, "FileItem/FullPath=/tmp/c", "FileItem/SizeInBytes=15")
	evil := thing(t, "ProcessItem/name=evil", "ProcessItem/pid=7")
	good := thing(t, "ProcessItem/name=good", "ProcessItem/pid=8")
	tmp, size, proc := "FileItem/FullPath contains /tmp/", "FileItem/SizeInBytes is 10 TO 20", "ProcessItem/name is evil"
	for _, tt := range []struct {
		name     string
		criteria string
		objects  []*object
		want     []string // the first field of the records that take part; nil = no match
	}{
		{"both terms, on two files", all(items(tmp, size)), []*object{small, elsewhere}, nil},
		{"both terms, on one file", all(items(tmp, size)), []*object{small, elsewhere, both}, []string{"/tmp/c"}},
		{"in groups of their own", all(either(item(tmp)), either(item(size))), []*object{small, elsewhere}, nil},
		{"one of them", either(items(tmp, size)), []*object{small, elsewhere, both}, []string{"/tmp/a", "/usr/b", "/tmp/c"}},
		{"two kinds", all(items(tmp, proc)), []*object{small, evil, good}, []string{"evil", "/tmp/a"}},
		{"two kinds, one is missing", all(items(tmp, proc)), []*object{small, good}, nil},
		{"two kinds, the other is missing", all(items(tmp, proc)), []*object{elsewhere, evil}, nil},
		{"one file and a process", all(items(tmp, size, proc)), []*object{small, elsewhere, evil}, nil},
		{"one file and a process, all there", all(items(tmp, size, proc)), []*object{small, elsewhere, both, evil}, []string{"evil", "/tmp/c"}},
		{"either kind", either(items(tmp, proc)), []*object{small, elsewhere, evil}, []string{"evil", "/tmp/a"}},
		// The file of the right size alone has nothing to do with the match, whatever the process is.
		{"a part that decides nothing", either(all(items(tmp, size)), item(proc)), []*object{elsewhere, evil}, []string{"evil"}},
		{"exclusion", all(items("ProcessItem/pid is 7 TO 8"), item("ProcessItem/name isnot evil")), []*object{evil, good}, []string{"good"}},
		{"a group of nothing", either(all()), []*object{small}, nil},
		{"no terms", all(), []*object{small}, nil},
		{"nothing beside something", all(item(tmp), all()), []*object{small}, nil},
		{"nothing or something", either(item(tmp), all()), []*object{small}, []string{"/tmp/a"}},
		{"an unknown operator", `<Indicator operator="XOR">` + item(tmp) + `</Indicator>`, []*object{small}, nil},
		{"an unknown operator beside", either(item(tmp), `<Indicator operator="XOR">`+item(proc)+`</Indicator>`), []*object{small, evil}, []string{"/tmp/a"}},
		{"alternatives at the top", all(item(tmp)) + all(item(proc)), []*object{evil}, []string{"evil"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q, _ := query(t, v10("d", tt.criteria))
			r := evaluate(q, tt.objects...)
			if tt.want == nil {
				if len(r.Matches) != 0 {
					t.Errorf("matches %+v", r.Matches)
				}
				return
			}
			if len(r.Matches) != 1 {
				t.Fatalf("%d matches, want 1", len(r.Matches))
			}
			var got []string
			for _, rec := range r.Matches[0].Records {
				field := map[Kind]string{KindFile: "FullPath", KindProcess: "name"}[rec.Kind]
				got = append(got, string(rec.Fields[field][0]))
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("records %v, want %v", got, tt.want)
			}
		})
	}
}

func TestHitsAreKeptPerTerm(t *testing.T) {
	t.Parallel()
	q, _ := query(t, v10("d", either(items("FileItem/FileName is a", "FileItem/FileName is b", "FileItem/SizeInBytes is 1", "FileItem/FileName is z"))))
	r := evaluate(q, thing(t, "FileItem/FileName=a", "FileItem/SizeInBytes=1"), thing(t, "FileItem/FileName=b"), thing(t, "FileItem/FileName=c", "FileItem/SizeInBytes=1"))
	var got []string
	for _, h := range r.Matches[0].Terms {
		got = append(got, fmt.Sprintf("%s %s %s: %d", h.Search, h.Condition, h.Content, h.Objects))
	}
	want := []string{"FileItem/FileName is a: 1", "FileItem/FileName is b: 1", "FileItem/SizeInBytes is 1: 2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, rec := range r.Matches[0].Records {
		for _, term := range rec.Terms {
			h := r.Matches[0].Terms[term]
			_, name, _ := strings.Cut(string(h.Search), "/")
			if got := rec.Fields[name]; len(got) != 1 || got[0] != h.Content {
				t.Errorf("record %v is said to fulfil %v", rec.Fields, h)
			}
		}
	}
}

func TestFixturesMatchWhatTheyDescribe(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	q, report := query(t, read("dropper-1.0.ioc"), read("beacon-1.1.ioc"))
	if want := []Kind{KindProcess, KindPort, KindFile}; !slices.Equal(q.Kinds(), want) {
		t.Errorf("kinds %v, want %v", q.Kinds(), want)
	}
	if report.UnsupportedTotal != 1 || report.Unsupported[0].Search != "RegistryItem/Path" || report.Terms != 9 || report.Documents != 2 {
		t.Errorf("report %+v", report)
	}
	const dropper, beacon = "0d5e2f0a-6c51-4f43-9a2f-3f5a0f8a1001", "0d5e2f0a-6c51-4f43-9a2f-3f5a0f8a1002"
	listener := thing(t, "PortItem/localPort=4444", "PortItem/state=LISTEN")
	for _, tt := range []struct {
		name    string
		objects []*object
		want    []string
	}{
		{"digest", []*object{thing(t, "FileItem/Md5sum=1e50210a0202497fb79bc38b6ade6c34")}, []string{dropper}},
		{"size and path", []*object{thing(t, "FileItem/FullPath=/var/tmp/x.sh", "FileItem/SizeInBytes=20", "FileItem/FileExtension=sh")}, []string{dropper}},
		{"a log", []*object{thing(t, "FileItem/FullPath=/var/tmp/x.log", "FileItem/SizeInBytes=20", "FileItem/FileExtension=log")}, nil},
		{"beacon", []*object{thing(t, "ProcessItem/arguments=x --BEACON=4444 y"), listener}, []string{beacon}},
		{"beacon by path", []*object{thing(t, "ProcessItem/path=/opt/BeaconD"), listener}, []string{beacon}},
		{"path of another case", []*object{thing(t, "ProcessItem/path=/opt/beacond"), listener}, nil},
		{"no listener", []*object{thing(t, "ProcessItem/path=/opt/BeaconD"), thing(t, "PortItem/localPort=4444", "PortItem/state=ESTABLISHED")}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := ids(evaluate(q, tt.objects...)); !slices.Equal(got, append([]string{}, tt.want...)) {
				t.Errorf("matches %v, want %v", got, tt.want)
			}
		})
	}
}

// bruteForce says whether a document matches by trying every choice of one object, or none, of each kind.
func bruteForce(d *document, c *dossier) bool {
	var try func(left []Kind, set termset) bool
	try = func(left []Kind, set termset) bool {
		if len(left) == 0 {
			return d.root.holds(set)
		}
		if try(left[1:], set) {
			return true
		}
		for _, v := range c.variants[left[0]] {
			if try(left[1:], union(set, v.terms)) {
				return true
			}
		}
		return false
	}
	return try(kinds(), newTermset(len(d.terms)))
}

// randomCriteria nests groups over terms of three kinds with few values each.
func randomCriteria(r *rand.Rand, depth int) string {
	var b strings.Builder
	for range 1 + r.IntN(3) {
		if depth > 0 && r.IntN(2) == 0 {
			b.WriteString(randomCriteria(r, depth-1))
			continue
		}
		kind := []string{"FileItem/FileName", "ProcessItem/name", "UserItem/Username"}[r.IntN(3)]
		b.WriteString(item(fmt.Sprintf("%s %s %c", kind, []string{"contains", "containsnot"}[r.IntN(2)], 'a'+rune(r.IntN(3)))))
	}
	if r.IntN(2) == 0 {
		return all(b.String())
	}
	return either(b.String())
}

func TestMatchesAreThoseOfTryingEveryCombination(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	matched := 0
	for i := range 1000 {
		q, _ := query(t, v10("d", randomCriteria(r, 3)))
		var objects []*object
		for _, field := range []string{"FileItem/FileName", "ProcessItem/name", "UserItem/Username"} {
			for range r.IntN(4) {
				objects = append(objects, thing(t, field+"="+[]string{"a", "b", "c", "ab", "bc", "abc", "d"}[r.IntN(7)]))
			}
		}
		s := &scan{q: q, cfg: Config{MaxRecords: 10}, judge: newJudge(q, 10), skipped: map[string]*Skipped{}}
		seen := map[Kind]bool{}
		full := newJudge(q, 10)
		for _, k := range q.Kinds() {
			s.judge.begin(k, seen)
			full.begin(k, nil)
			// What one judge leaves out, because it cannot lead to a match any more, the other keeps.
			for _, d := range full.hopes {
				for i := range d[k] {
					d[k][i] = ^uint64(0)
				}
			}
			a, b := s.judge.clerk(k), full.clerk(k)
			for _, o := range objects {
				if o.kind == k {
					for _, c := range []*clerk{a, b} {
						c.look(c.ix.early, o)
						c.settle(func() *Record { return newRecord(o) })
					}
				}
			}
			seen[k] = true
		}
		s.finish()
		want := len(q.documents) == 1 && bruteForce(&q.documents[0], &full.cases[0])
		if got := len(s.result.Matches) == 1; got != want {
			t.Fatalf("round %d: match %v, want %v", i, got, want)
		}
		if want {
			matched++
			if len(s.result.Matches[0].Records) == 0 {
				t.Fatalf("round %d: a match without records", i)
			}
		}
	}
	if matched < 200 || matched > 950 {
		t.Errorf("%d of 1000 matched: the test tries too little", matched)
	}
}

func TestTooManyCombinationsAreLeftUndecided(t *testing.T) {
	t.Parallel()
	// Nine kinds whose objects never fit together, and none of which can be left out early.
	var groups []string
	var objects []*object
	for i, field := range []string{"FileItem/FileName", "ProcessItem/name", "UserItem/Username", "PortItem/state", "ServiceItem/name", "VolumeItem/VolumeName"} {
		for v := range 40 {
			objects = append(objects, thing(t, fmt.Sprintf("%s=v%02dx", field, v)))
			groups = append(groups, all(item(fmt.Sprintf("%s contains v%02dx", field, v)), item(fmt.Sprintf("%s contains v%02dx", []string{"ProcessItem/name", "UserItem/Username", "PortItem/state", "ServiceItem/name", "VolumeItem/VolumeName", "FileItem/FileName"}[i], (v+1)%40))))
		}
	}
	q, _ := query(t, v10("hard", all(either(groups[:40]...), either(groups[40:80]...), either(groups[80:120]...), either(groups[120:160]...), either(groups[160:200]...), either(groups[200:]...))),
		v10("easy", either(item("FileItem/FileName contains v01x"))))
	r := evaluate(q, objects...)
	if !slices.Equal(r.Undecided, []Text{"hard"}) || !slices.Equal(ids(r), []string{"easy"}) {
		t.Errorf("undecided %v, matches %v", r.Undecided, ids(r))
	}
	if r.Complete() {
		t.Error("a scan with an undecided document says it is complete")
	}
}

func TestRecordsAreBoundedAndCounted(t *testing.T) {
	t.Parallel()
	q, _ := query(t, v10("d", either(item("FileItem/FileName contains f"))))
	var objects []*object
	for i := range defaultRecords + 500 {
		objects = append(objects, thing(t, fmt.Sprintf("FileItem/FileName=f%d", i)))
	}
	r := evaluate(q, objects...)
	if m := r.Matches[0]; len(m.Records) != defaultRecords || m.More != 500 || m.Terms[0].Objects != defaultRecords+500 {
		t.Errorf("%d records and %d more of %d", len(m.Records), m.More, m.Terms[0].Objects)
	}
	if r.MoreFiles != 500 {
		t.Errorf("%d more files, want those without a record", r.MoreFiles)
	}
}

func FuzzEvaluate(f *testing.F) {
	f.Add("FileItem/FileName", "is", "evil", "Evil", int64(5), true)
	f.Add("FileItem/SizeInBytes", "is", "[1 TO 5]", "x", int64(5), false)
	f.Add("FileItem/FullPath", "matches", "^a.*b$", "aab", int64(0), true)
	f.Add("FileItem/Modified", "greater-than", "2026-01-01", "", int64(1767225600000000000), false)
	f.Add("PortItem/remoteIP", "is", "10.0.0.0/8", "10.1.2.3", int64(1), true)
	f.Fuzz(func(t *testing.T, search, condition, content, text string, n int64, v1 bool) {
		version := Version10
		if v1 {
			version = Version11
		}
		for _, negate := range []string{"", "true"} {
			doc := Document{ID: "d", Version: version, root: group{operator: "OR", terms: []term{
				{search: search, condition: condition, content: content, negate: negate, context: true, filled: true},
			}}}
			q, report := Compile([]Document{doc})
			if len(q.Kinds()) == 0 {
				if report.UnsupportedTotal != 1 || len(report.Hopeless) != 1 {
					t.Fatalf("a term is neither looked for nor reported: %+v", report)
				}
				continue
			}
			o := newObject(q.Kinds()[0])
			for at := range o.values {
				o.values[at] = []value{{text: text, n: n}}
			}
			r := evaluate(q, o)
			p := q.predicates[0]
			if got := len(r.Matches) == 1; got != p.holds(o) {
				t.Fatalf("the index says %v, the predicate %v: %+v", got, p.holds(o), p)
			}
			// What is not known is no match, negated or not.
			if r := evaluate(q, newObject(q.Kinds()[0])); len(r.Matches) != 0 {
				t.Fatal("an object without values matches")
			}
		}
	})
}
