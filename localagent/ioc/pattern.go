package ioc

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

const (
	// maxPattern is the longest regular expression in bytes.
	maxPattern = 1024
	// maxPatternCost is how large one expression gets when its repetitions are written out, maxPatternsCost all of a task; an
	// instruction of the compiled form takes about 100 bytes.
	maxPatternCost  = 10_000
	maxPatternsCost = 100_000
)

// patternBudget bounds the memory compiled expressions take.
type patternBudget struct{ used int }

// compile compiles RE2 syntax (github.com/google/re2/wiki/Syntax), whose matching time is linear in the text.
func (b *patternBudget) compile(expr string, exact bool) (*regexp.Regexp, error) {
	if len(expr) > maxPattern {
		return nil, fmt.Errorf("the expression is longer than %d bytes", maxPattern)
	}
	flags := syntax.Perl
	if !exact {
		flags |= syntax.FoldCase
	}
	tree, err := syntax.Parse(expr, flags)
	if err != nil {
		if strings.Contains(expr, "(?=") || strings.Contains(expr, "(?!") || strings.Contains(expr, "(?<=") || strings.Contains(expr, "(?<!") {
			return nil, errors.New("look-around is not supported: expressions are of RE2 syntax")
		}
		return nil, errors.New("the expression is not of RE2 syntax")
	}
	cost := patternCost(tree, maxPatternCost+1)
	if cost > maxPatternCost {
		return nil, errors.New("the expression is too large when its repetitions are written out")
	}
	if b.used += cost; b.used > maxPatternsCost {
		return nil, errors.New("the expressions of this task are too large together: split it")
	}
	if !exact {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, errors.New("the expression is not of RE2 syntax")
	}
	return re, nil
}

// patternCost says how many instructions and ranges the tree takes, or limit when it is as many or more.
func patternCost(re *syntax.Regexp, limit int) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += patternCost(sub, limit)
	}
	if re.Op == syntax.OpRepeat {
		times := max(re.Min, re.Max, 1)
		if n >= limit/times {
			return limit
		}
		n *= times
	}
	return min(n, limit)
}
