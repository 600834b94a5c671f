package mapping

import (
	"bytes"
	"errors"
	"fmt"
)

// param is a parameter, or all of them, before the alert is known. It becomes JSON; a value of the alert is
// always one whole JSON value and never a part of a text.
type param interface {
	// encode appends the JSON and returns every reference the alert cannot fill, each as a fieldError
	// whose path begins with at.
	encode(to *bytes.Buffer, at string, v *view) error
}

var (
	_ param = paramLiteral(nil)
	_ param = (*paramRef)(nil)
	_ param = (*paramObject)(nil)
	_ param = paramList(nil)
)

// paramLiteral is a JSON value written in the rule.
type paramLiteral []byte

// paramRef is ${fact} or ${fact ?: literal}.
type paramRef struct {
	name string
	ref  ref
	kind kind
	// otherwise is the JSON used when the fact is absent; nil = refuse the order.
	otherwise []byte
}

// paramObject is a mapping; keys are in the order of the rule.
type paramObject struct {
	keys   []string
	values []param
}

type paramList []param

func (p paramLiteral) encode(to *bytes.Buffer, _ string, _ *view) error {
	to.Write(p)
	return nil
}

func (p *paramRef) encode(to *bytes.Buffer, at string, v *view) error {
	values := v.values(p.ref)
	switch len(values) {
	case 0:
		if p.otherwise == nil {
			return &fieldError{at, "the alert has no " + p.name}
		}
		to.Write(p.otherwise)
		return nil
	case 1:
		b, ok := values[0].json()
		if !ok {
			return &fieldError{at, p.name + " is not one plain value"}
		}
		to.Write(b)
		return nil
	default:
		return &fieldError{at, fmt.Sprintf("%s holds %d values, want one", p.name, len(values))}
	}
}

func (p *paramObject) encode(to *bytes.Buffer, at string, v *view) error {
	var problems []error
	to.WriteByte('{')
	for i, key := range p.keys {
		if i > 0 {
			to.WriteByte(',')
		}
		to.Write(quoteJSON(key))
		to.WriteByte(':')
		if err := p.values[i].encode(to, at+"."+key, v); err != nil {
			problems = append(problems, err)
		}
	}
	to.WriteByte('}')
	return errors.Join(problems...)
}

func (p paramList) encode(to *bytes.Buffer, at string, v *view) error {
	var problems []error
	to.WriteByte('[')
	for i, element := range p {
		if i > 0 {
			to.WriteByte(',')
		}
		if err := element.encode(to, fmt.Sprintf("%s[%d]", at, i), v); err != nil {
			problems = append(problems, err)
		}
	}
	to.WriteByte(']')
	return errors.Join(problems...)
}
