package api

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// fill draws every exported field of what v points to, so that a field nobody thought of is drawn too. full leaves nothing zero.
func fill(rt *rapid.T, v reflect.Value, full bool) {
	switch v.Interface().(type) {
	case time.Time:
		sec, ns := int64(1), int64(1)
		if !full {
			sec, ns = rapid.Int64Range(-9_200_000_000, 9_200_000_000).Draw(rt, "sec"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns")
		}
		if full || rapid.Bool().Draw(rt, "timed") {
			v.Set(reflect.ValueOf(time.Unix(sec, ns).UTC()))
		}
		return
	}
	if v.Type() == reflect.TypeFor[bridge.Task]() {
		if full || rapid.IntRange(0, 9).Draw(rt, "with task") > 0 {
			v.Set(reflect.ValueOf(drawTask(rt)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(rt, field, full)
		}
	case reflect.String:
		gen := rapid.StringMatching(`[a-zA-Z_.]{0,12}`) // a closed word
		if v.Type() == reflect.TypeFor[string]() {
			gen = hostileText()
		}
		v.SetString(gen.Filter(func(s string) bool { return !full || s != "" }).Draw(rt, "text"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Filter(func(n int64) bool { return !full || n != 0 }).Draw(rt, "int"))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Filter(func(n uint64) bool { return !full || n != 0 }).Draw(rt, "uint"))
	case reflect.Bool:
		v.SetBool(full || rapid.Bool().Draw(rt, "bool"))
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice {
			least := 0
			if full {
				least = 1
			}
			n := rapid.IntRange(least, 4).Draw(rt, "len")
			if n == 0 {
				return
			}
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			fill(rt, v.Index(i), full)
		}
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Filter(func(b byte) bool { return !full || b != 0 }).Draw(rt, "byte")))
	default:
		rt.Fatalf("nobody knows how to draw a %s", v.Type())
	}
}

// hostileText is any bytes: text, halves of UTF-8, NUL, escapes, what looks like the form for bytes.
func hostileText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"\x00", "\xff\xfe", `{"base64":"AA=="}`, "<script>&", "\u2028", "\x1b[31m", "a\r\nb", "\ufffd"}),
	)
}

// drawTask draws a task of any kind. Its texts are UTF-8 without NUL: no other passes a preset or DecodeTask.
func drawTask(rt *rapid.T) bridge.Task {
	task, err := bridge.NewTask(rapid.SampledFrom(bridge.Kinds()).Draw(rt, "kind"))
	if err != nil {
		rt.Fatal(err)
	}
	v := reflect.New(reflect.TypeOf(task)).Elem()
	drawParams(rt, v)
	drawn, ok := reflect.TypeAssert[bridge.Task](v)
	if !ok {
		rt.Fatalf("%s is no task", v.Type())
	}
	return drawn
}

func drawParams(rt *rapid.T, v reflect.Value) {
	if v.Kind() == reflect.String {
		runes := rapid.Rune().Filter(func(r rune) bool { return r != 0 })
		v.SetString(rapid.StringOfN(runes, 0, 20, -1).Draw(rt, "param"))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			drawParams(rt, field)
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 3).Draw(rt, "len"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			drawParams(rt, v.Index(i))
		}
	default:
		fill(rt, v, false)
	}
}

// drawn returns a value of any type of bridge.
func drawn[T any](rt *rapid.T, full bool) T {
	var v T
	fill(rt, reflect.ValueOf(&v).Elem(), full)
	return v
}

// checkFull fails when a field at the first level is zero.
func checkFull(t testing.TB, v any) {
	t.Helper()
	rv := reflect.ValueOf(v)
	for i := range rv.NumField() {
		if rv.Field(i).IsZero() {
			t.Errorf("%s.%s was left zero by the test", rv.Type(), rv.Type().Field(i).Name)
		}
	}
}
