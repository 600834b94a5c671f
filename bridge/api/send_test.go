package api

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestEveryFieldOfAnOrderIsEnteredOrRefused(t *testing.T) {
	t.Parallel()
	persons := []string{"ID", "Host", "Subject", "Task", "Mode", "Via", "For", "Actor"}
	rapid.Check(t, func(rt *rapid.T) {
		full := reflect.ValueOf(drawn[bridge.Order](rt, true))
		for i := range full.NumField() {
			o := bridge.Order{ID: "o1", Host: "h", Task: bridge.IsolateHost{}}
			name := full.Type().Field(i).Name
			if name == "Mode" || name == "Via" {
				continue // closed words
			}
			reflect.ValueOf(&o).Elem().Field(i).Set(full.Field(i))
			if err := enterable(o); (err == nil) != slices.Contains(persons, name) {
				rt.Errorf("%s: got %v", name, err)
			}
		}
	})
	for _, o := range []bridge.Order{{Host: "h", Task: bridge.IsolateHost{}}, {ID: "o", Task: bridge.IsolateHost{}}, {ID: "o", Host: "h"}} {
		if enterable(o) == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
