package bridge_test

import (
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestDidYouMeanNamesTheNearestName(t *testing.T) {
	t.Parallel()
	names := []string{"getFile", "deleteFile", "quarantineFile", "isolateHost", "onDemandScan", "md5hash", "path", "for"}
	for got, want := range map[string]string{
		"getfile":                  "getFile",
		"get-file":                 "getFile",
		"get_file":                 "getFile",
		"gteFile":                  "getFile",
		"deletFile":                "deleteFile",
		"quarantineFiles":          "quarantineFile",
		"isolateHots":              "isolateHost",
		"pth":                      "path",
		"paht":                     "path",
		"md5hsh":                   "md5hash",
		"MD5-HASH":                 "md5hash",
		"getFile":                  "getFile",
		"reboot":                   "",
		"xyz":                      "",
		"p":                        "",
		"":                         "",
		"--":                       "",
		"терминировать":            "",
		strings.Repeat("a", 1<<20): "",
	} {
		if want != "" {
			want = `, did you mean "` + want + `"?`
		}
		if s := bridge.DidYouMean(got, names); s != want {
			t.Errorf("DidYouMean(%.20q) = %q, want %q", got, s, want)
		}
	}
	if s := bridge.DidYouMean("path", []string{"Path", "path"}); s != `, did you mean "Path"?` {
		t.Errorf("of equally near names the first wins, got %q", s)
	}
	if s := bridge.DidYouMean("a", []string{strings.Repeat("a", 100), ""}); s != "" {
		t.Errorf("got %q", s)
	}
}
