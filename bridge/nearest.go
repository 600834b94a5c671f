package bridge

import (
	"strings"
)

// maxNearest is how long a name may be to be compared; the cost grows with the square.
const maxNearest = 64

// DidYouMean returns `, did you mean "x"?` for the name nearest to got, to be put behind an error, or ""
// when none is near. Case, - and _ do not count; one slip in three letters does (a letter too many, missing,
// wrong, or two swapped). Of equally near names the first wins.
func DidYouMean(got string, names []string) string {
	word := looseName(got)
	if word == "" || len(word) > maxNearest {
		return ""
	}
	best, least := "", len(word)/3+1
	for _, name := range names {
		loose := looseName(name)
		if len(loose) > maxNearest {
			continue
		}
		// A short name is near to everything: it must not be replaced as a whole.
		if d := editDistance(word, loose); d < least && d < max(len(loose), 1) {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return `, did you mean "` + best + `"?`
}

// looseName is a name without what people get wrong: case, - and _.
func looseName(name string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
}

// editDistance counts inserted, deleted, replaced and swapped bytes (optimal string alignment).
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
