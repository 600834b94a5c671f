package api

import "testing"

func TestNamesThatCouldBeTakenForMoreAreNotUsed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"root": true, "ivanov": true, "иванов": true, `CORP\ann`: true, "a.b-c_d$": true,
		"": false, "ann (boss)": false, "socket:root": false, "a b": false, "a\nb": false, "a\xff": false, "a\u202eb": false, "a)": false,
	} {
		if got := plainName(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}
