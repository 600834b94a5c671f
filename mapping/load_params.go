package mapping

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/yamltree"
)

// reading is the params of one step while they are read.
type reading struct {
	task bridge.Kind
	// names are the parameters the task has, by path of the object they stand in; shape tells their types.
	names []string
	shape map[string]reflect.Kind
	// places and refs tell for each path ("params.path", "params[0].type") where it stands and what it refers to.
	places map[string]yamltree.Place
	refs   map[string]*paramRef
}

// newReading looks the names and types of a task's parameters up in its struct, so that no list of them
// can go stale here. list says that params is a list of objects.
func newReading(k bridge.Kind) (rd *reading, list bool, err error) {
	zero, err := bridge.NewTask(k)
	if err != nil {
		return nil, false, err
	}
	shape := reflect.TypeOf(zero)
	if _, ok := zero.(bridge.OnDemandScan); ok {
		shape, list = reflect.TypeFor[bridge.ScanObject](), true
	}
	rd = &reading{task: k, shape: map[string]reflect.Kind{}, places: map[string]yamltree.Place{}, refs: map[string]*paramRef{}}
	for f := range shape.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		rd.names = append(rd.names, name)
		rd.shape[name] = f.Type.Kind()
	}
	return rd, list, nil
}

// params compiles the params of a task.
func (l *loader) params(n *yamltree.Node, rd *reading, list bool) (param, bool) {
	rd.places[keyParams] = n.Place
	if !list {
		return l.paramObject(n, "params", rd)
	}
	items, ok := l.Items(n, "params of "+string(rd.task))
	if !ok {
		return nil, false
	}
	all := paramList{}
	for i, item := range items {
		p, itemOK := l.paramObject(item, fmt.Sprintf("params[%d]", i), rd)
		ok = ok && itemOK
		all = append(all, p)
	}
	return all, ok
}

func (l *loader) paramObject(n *yamltree.Node, at string, rd *reading) (param, bool) {
	rd.places[at] = n.Place
	before := len(l.Problems)
	entries, ok := l.Entries(n, at, rd.names)
	if !ok {
		return nil, false
	}
	o := &paramObject{}
	for _, e := range entries {
		path := at + "." + e.Key
		rd.places[path] = e.Value.Place
		p := l.paramValue(e.Value, path)
		if p == nil {
			continue
		}
		if r, ok := p.(*paramRef); ok {
			rd.refs[path] = r
			if rd.task == bridge.KindStartProcess && e.Key != "workingFolder" {
				l.Fail(e.Value, "%s of startProcess cannot come from an alert: whoever writes the alert would choose what runs", e.Key)
			}
		}
		o.keys, o.values = append(o.keys, e.Key), append(o.values, p)
	}
	return o, len(l.Problems) == before
}

// paramValue compiles one scalar; nil after noting a problem.
func (l *loader) paramValue(n *yamltree.Node, what string) param {
	switch v := n.Value.(type) {
	case string:
		return l.paramText(n, v)
	case bool:
		return paramLiteral(strconv.AppendBool(nil, v))
	case int64, uint64:
		return paramLiteral(fmt.Append(nil, v))
	case float64:
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			return paramLiteral(strconv.AppendFloat(nil, v, 'g', -1, 64))
		}
	}
	if n.Kind == yamltree.Null {
		l.Fail(n, `%s has no value: write "" for an empty text`, what)
		return nil
	}
	l.Fail(n, "%s must be text, a number, true or false, not %s", what, n.Kind)
	return nil
}

// paramText compiles a text: "${…}" as a whole is a reference, "$${" stands for "${", anything else with
// "${" in it is an error, because a value is never spliced into a text.
func (l *loader) paramText(n *yamltree.Node, text string) param {
	body, opens := strings.CutPrefix(text, "${")
	body, closes := strings.CutSuffix(body, "}")
	if opens && closes && !strings.Contains(body, "${") {
		return l.reference(n, body)
	}
	if strings.Contains(strings.ReplaceAll(text, "$${", ""), "${") {
		l.Fail(n, "${…} must be the whole value, because values of an alert are never put into a text (write $${ for the characters ${)")
		return nil
	}
	return paramLiteral(quoteJSON(strings.ReplaceAll(text, "$${", "${")))
}

// reference compiles what stands between ${ and }: a fact, or "fact ?: literal" with a JSON literal.
func (l *loader) reference(n *yamltree.Node, body string) param {
	name, literal, hasDefault := strings.Cut(body, "?:")
	name = strings.TrimPrefix(strings.TrimSpace(name), alertPrefix)
	at, k, ok := l.factNamed(n, name)
	if !ok {
		return nil
	}
	if k == kindTime {
		l.Fail(n, "the time of an alert cannot be a parameter")
		return nil
	}
	r := &paramRef{name: name, ref: at, kind: k}
	if !hasDefault {
		return r
	}
	r.otherwise = []byte(strings.TrimSpace(literal))
	var scalar any
	err := json.Unmarshal(r.otherwise, &scalar)
	switch scalar.(type) {
	case string, float64, bool:
	default:
		err = fmt.Errorf("not a scalar")
	}
	if err != nil {
		l.Fail(n, `the value behind ?: must be a text in double quotes, a number, true or false: ${%s ?: ""}`, name)
		return nil
	}
	return r
}

// sample returns JSON of the type the reference yields, as the parameter at path could get it. With
// defaults set it is what stands behind ?:, where that is given.
func (rd *reading) sample(path string, r *paramRef, defaults bool) []byte {
	if defaults && r.otherwise != nil {
		return r.otherwise
	}
	name := path[strings.LastIndexByte(path, '.')+1:]
	switch {
	case r.kind == kindPID || r.kind == kindTicks || r.kind == kindRaw && rd.shape[name] == reflect.Int:
		return []byte("1")
	case r.kind == kindRaw && rd.shape[name] == reflect.Bool:
		return []byte("true")
	default:
		return []byte(`"/sample"`)
	}
}
