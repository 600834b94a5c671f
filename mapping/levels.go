package mapping

import (
	"strconv"
	"strings"
)

// levelTable turns a product's severities into the four of the bridge; the first row that fits wins.
type levelTable []levelRow

// levelRow gives the level of the numbers from low to high, or of a word in lower case.
type levelRow struct {
	level     string
	word      string
	low, high float64
}

// levelOf returns the level of a value, or false for a value outside the table: a severity is never guessed. Text that is a
// number counts as one, because products write both.
func (t levelTable) levelOf(text string) (string, bool) {
	text = strings.TrimSpace(text)
	n, err := strconv.ParseFloat(text, 64)
	for i := range t {
		r := &t[i]
		if r.word != "" && strings.EqualFold(r.word, text) || r.word == "" && err == nil && n >= r.low && n <= r.high {
			return r.level, true
		}
	}
	return "", false
}

// levelRowOf reads "high", "7" or "5-9" as preset files write them.
func levelRowOf(level, text string) (levelRow, bool) {
	low, high, span := strings.Cut(text, "-")
	if !span {
		high = low
	}
	from, err1 := strconv.ParseFloat(low, 64)
	to, err2 := strconv.ParseFloat(high, 64)
	switch {
	case err1 == nil && err2 == nil:
		return levelRow{level: level, low: from, high: to}, from <= to
	case text == "" || len(text) > maxExcerpt:
		return levelRow{}, false
	default:
		return levelRow{level: level, word: strings.ToLower(text)}, true
	}
}

// String says the table in words: "LOW 0-4, CRITICAL 15".
func (t levelTable) String() string {
	var words []string
	for _, r := range t {
		text := r.word
		if text == "" {
			text = strconv.FormatFloat(r.low, 'g', -1, 64)
			if r.high != r.low {
				text += "-" + strconv.FormatFloat(r.high, 'g', -1, 64)
			}
		}
		words = append(words, r.level+" "+text)
	}
	return strings.Join(words, ", ")
}
