package main

import (
	"io"
	"strings"
	"testing"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestSendTakesTheSpellingsOfTheScripts(t *testing.T) {
	t.Parallel()
	const md5, sha256 = "44D88612FEA8A8F36DE82E1278ABB02F", "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
	for name, tc := range map[string]struct {
		kind        bridge.Kind
		args        []string
		md5, sha256 string
		refused     string
	}{
		"names":                  {kind: bridge.KindQuarantineFile, args: []string{"--TARGET_HOST", "a", "--md5", md5, "--Sha256-Hash", sha256}, md5: md5, sha256: sha256},
		"hash by length":         {kind: bridge.KindQuarantineFile, args: []string{"--hash", sha256}, sha256: sha256},
		"hash list":              {kind: bridge.KindTerminateProcess, args: []string{"--HASH=MD5=" + md5 + ",SHA256=" + sha256}, md5: strings.ToLower(md5), sha256: sha256},
		"hash of prevent":        {kind: bridge.KindPreventExecution, args: []string{"--hash", md5}},
		"hash and its kind":      {kind: bridge.KindGetFile, args: []string{"--hash", sha256, "--sha256", sha256}, refused: "both given"},
		"hash that is none":      {kind: bridge.KindGetFile, args: []string{"--hash", "abc"}, refused: "--hash"},
		"hash of a task without": {kind: bridge.KindIsolateHost, args: []string{"--hash", md5}, refused: "no option"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &app{std: stdio{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, env: func(string) (string, bool) { return "", false }}
			cmd := a.sendCommand()
			scriptSpellings(cmd.Flags())
			err := cmd.ParseFlags(tc.args)
			if err == nil {
				err = scriptDigest(cmd, tc.kind)
			}
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("got %v, want %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := func(name string) string { return cmd.Flags().Lookup(name).Value.String() }
			if got("md5hash") != tc.md5 || got("sha256hash") != tc.sha256 || cmd.Flags().Changed("hash") != (tc.kind == bridge.KindPreventExecution) {
				t.Errorf("got md5 %s, sha256 %s, hash changed %v", got("md5hash"), got("sha256hash"), cmd.Flags().Changed("hash"))
			}
		})
	}
}
