package ioc

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxName bounds the short description that is kept, in bytes.
	maxName = 512
	// maxContent bounds the value of a term in bytes.
	maxContent = 4 << 10
)

var (
	errNotUTF8 = errors.New("is not UTF-8: save it as UTF-8")
	errNoRoot  = errors.New("is no OpenIOC document: its root element is neither ioc (1.0) nor OpenIOC (1.1)")
	errDoctype = errors.New("has a DOCTYPE: entities are not read")
)

// parser turns one XML text into a Document.
type parser struct {
	in    *tokens
	d     *xml.Decoder
	depth int // elements that may still be opened
	left  int // terms and groups that may still come
	doc   Document
	seen  bool // the criteria
	words map[string]string
}

func (p *parser) document() (Document, error) {
	if err := p.in.start(); err != nil {
		return Document{}, err
	}
	p.d = xml.NewDecoder(p.in)
	p.d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		// Mandiant's editor declares its files so; ASCII is UTF-8.
		if strings.EqualFold(charset, "us-ascii") {
			return in, nil
		}
		return nil, errNotUTF8
	}
	root, err := p.open()
	if err != nil {
		return Document{}, err
	}
	if root == nil {
		return Document{}, errNoRoot
	}
	switch root.Name.Local {
	case "ioc":
		p.doc.Version = Version10
	case "OpenIOC":
		p.doc.Version = Version11
	default:
		return Document{}, errNoRoot
	}
	switch p.doc.ID = strings.TrimSpace(attr(root, "id")); {
	case p.doc.ID == "":
		return Document{}, errors.New("has no id: results are told apart by it")
	case len(p.doc.ID) > maxID:
		return Document{}, fmt.Errorf("has an id of more than %d bytes", maxID)
	}
	if err := p.body(); err != nil {
		return Document{}, err
	}
	if !p.seen {
		return Document{}, errors.New("has no definition (1.0) or criteria (1.1) with an Indicator")
	}
	for {
		tok, err := p.token()
		if errors.Is(err, io.EOF) {
			return p.doc, nil
		}
		if err != nil {
			return Document{}, err
		}
		switch e := tok.(type) {
		case xml.Comment, xml.ProcInst:
			continue
		case xml.CharData:
			if len(bytes.TrimSpace(e)) == 0 {
				continue
			}
		}
		return Document{}, errors.New("goes on after its root element")
	}
}

// body reads the children of the root.
func (p *parser) body() error {
	for {
		e, err := p.open()
		if e == nil || err != nil {
			return err
		}
		switch name := e.Name.Local; {
		case name == "short_description":
			err = p.name()
		case name == "metadata" && p.doc.Version == Version11:
			err = p.metadata()
		case name == "definition" && p.doc.Version == Version10, name == "criteria" && p.doc.Version == Version11:
			if p.seen {
				return fmt.Errorf("has two elements %s", name)
			}
			err = p.criteria()
		default:
			err = p.skip()
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) metadata() error {
	for {
		e, err := p.open()
		if e == nil || err != nil {
			return err
		}
		if e.Name.Local == "short_description" {
			err = p.name()
		} else {
			err = p.skip()
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) name() error {
	text, err := p.text()
	if len(text) > maxName {
		text = strings.ToValidUTF8(text[:maxName], "") + "…"
	}
	p.doc.Name = strings.Join(strings.Fields(text), " ")
	return err
}

// criteria reads definition or criteria: several indicators at the top are alternatives.
func (p *parser) criteria() error {
	p.doc.root.operator = "OR"
	for {
		e, err := p.open()
		if e == nil || err != nil {
			return err
		}
		if e.Name.Local != "Indicator" {
			if err := p.skip(); err != nil {
				return err
			}
			continue
		}
		g, err := p.indicator(e)
		if err != nil {
			return err
		}
		p.seen = true
		p.doc.root.groups = append(p.doc.root.groups, g)
	}
}

func (p *parser) indicator(at *xml.StartElement) (group, error) {
	g := group{operator: p.word(at, "operator")}
	if err := p.count(); err != nil {
		return g, err
	}
	for {
		e, err := p.open()
		if e == nil || err != nil {
			return g, err
		}
		switch e.Name.Local {
		case "Indicator":
			var sub group
			sub, err = p.indicator(e)
			g.groups = append(g.groups, sub)
		case "IndicatorItem":
			var t term
			t, err = p.item(e)
			g.terms = append(g.terms, t)
		default:
			err = p.skip()
		}
		if err != nil {
			return g, err
		}
	}
}

func (p *parser) item(at *xml.StartElement) (term, error) {
	t := term{id: attr(at, "id"), condition: p.word(at, "condition"), negate: p.word(at, "negate"), exact: p.word(at, "preserve-case")}
	if err := p.count(); err != nil {
		return t, err
	}
	if len(t.id) > maxID {
		return t, fmt.Errorf("has a term with an id of more than %d bytes", maxID)
	}
	for {
		e, err := p.open()
		if e == nil || err != nil {
			return t, err
		}
		switch {
		case e.Name.Local == "Context" && !t.context:
			t.context, t.document, t.search = true, p.word(e, "document"), p.word(e, "search")
			if len(t.document)+len(t.search) > maxContent {
				return t, fmt.Errorf("has the term %s with a name of more than %d bytes", verdict.Shown(t.id), maxContent)
			}
			err = p.skip()
		case e.Name.Local == "Content" && !t.filled:
			t.filled = true
			t.content, err = p.text()
			if len(t.content) > maxContent {
				return t, fmt.Errorf("has the term %s with a value of more than %d bytes", verdict.Shown(t.id), maxContent)
			}
		case e.Name.Local == "Context" || e.Name.Local == "Content":
			return t, fmt.Errorf("has the term %s with two elements %s", verdict.Shown(t.id), e.Name.Local)
		default:
			err = p.skip()
		}
		if err != nil {
			return t, err
		}
	}
}

// count takes one term or group off what may still come.
func (p *parser) count() error {
	if p.left == 0 {
		return errors.New("takes the archive over its limit of terms: split it")
	}
	p.left--
	return nil
}

// open returns the next child element, or nil at the end of the element it stands in.
func (p *parser) open() (*xml.StartElement, error) {
	for {
		tok, err := p.token()
		if errors.Is(err, io.EOF) {
			return nil, nil //nolint:nilnil // the end, of which only a text without any element gets here
		}
		if err != nil {
			return nil, err
		}
		switch e := tok.(type) {
		case xml.StartElement:
			if p.depth == 0 {
				return nil, errors.New("nests its elements too deep")
			}
			p.depth--
			return &e, nil
		case xml.EndElement:
			p.depth++
			return nil, nil //nolint:nilnil // the end of the element
		}
	}
}

// skip reads to the end of the element it stands in.
func (p *parser) skip() error {
	for level := 1; level > 0; {
		e, err := p.open()
		switch {
		case err != nil:
			return err
		case e != nil:
			level++
		default:
			level--
		}
	}
	return nil
}

// text returns the text of the element it stands in; elements inside are an error.
func (p *parser) text() (string, error) {
	var b strings.Builder
	for {
		tok, err := p.token()
		if err != nil {
			return "", err
		}
		switch e := tok.(type) {
		case xml.CharData:
			if b.Len() <= maxToken {
				b.Write(e)
			}
		case xml.StartElement:
			return "", fmt.Errorf("has the element %s where only text belongs", verdict.Shown(e.Name.Local))
		case xml.EndElement:
			p.depth++
			return b.String(), nil
		}
	}
}

// token returns the next token; it says in our words what is wrong with the text.
func (p *parser) token() (xml.Token, error) {
	p.in.next()
	tok, err := p.d.Token()
	if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
		switch {
		case strings.Contains(syntax.Msg, "entity"):
			return nil, fmt.Errorf("uses an entity in line %d: only the five of XML are read", syntax.Line)
		case strings.Contains(syntax.Msg, "UTF-8"):
			return nil, errNotUTF8
		}
		return nil, fmt.Errorf("is damaged XML in line %d: %s", syntax.Line, verdict.Shown(syntax.Msg))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if errors.Is(err, errNotUTF8) || strings.HasPrefix(err.Error(), "xml: opening charset") {
			return nil, errNotUTF8
		}
		return nil, err
	}
	if _, ok := tok.(xml.Directive); ok {
		return nil, errDoctype
	}
	return tok, err
}

// word returns an attribute that many terms have alike, each value held once.
func (p *parser) word(e *xml.StartElement, name string) string {
	value := attr(e, name)
	if value == "" {
		return ""
	}
	if p.words == nil {
		p.words = map[string]string{}
	}
	known, ok := p.words[value]
	if !ok {
		known = value
		p.words[value] = value
	}
	return known
}

func attr(e *xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}
