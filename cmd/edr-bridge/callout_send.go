package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// scriptSpellings lets the flags of send be spelled as the options of the scripts: in any case, - and _ do not count, and md5 and sha256
// are md5hash and sha256hash.
func scriptSpellings(f *pflag.FlagSet) {
	loose := func(name string) string { return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name)) }
	names := map[string]string{"md5": "md5hash", "sha256": "sha256hash", "targethost": "targetHost"}
	for _, k := range kumaScripts() {
		for _, p := range bridge.Describe(k).Params {
			names[loose(p.Name)] = p.Name
		}
	}
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if known, ok := names[loose(name)]; ok {
			return pflag.NormalizedName(known)
		}
		return pflag.NormalizedName(name)
	})
}

// scriptDigest turns --hash of a task that knows its digests by kind into the right one, told apart as the scripts do.
func scriptDigest(cmd *cobra.Command, kind bridge.Kind) error {
	f := cmd.Flags()
	hash := f.Lookup("hash")
	if hash == nil || !hash.Changed || kind == bridge.KindPreventExecution {
		return nil
	}
	call, err := callout.ParseCall(string(kind), []string{"--targetHost=x", "--path=/x", "--hash=" + hash.Value.String()})
	if err != nil {
		return usagef("--hash: %w", err)
	}
	params, err := bridge.EncodeParams(call.Params)
	if err != nil {
		return fmt.Errorf("--hash: %w", err)
	}
	var digests struct {
		MD5    string `json:"md5hash"`
		SHA256 string `json:"sha256hash"`
	}
	if err := json.Unmarshal(params, &digests); err != nil {
		return fmt.Errorf("--hash: %w", err)
	}
	for name, value := range map[string]string{"md5hash": digests.MD5, "sha256hash": digests.SHA256} {
		if value == "" {
			continue
		}
		if f.Changed(name) {
			return usagef("--hash and --%s are both given", name)
		}
		if err := f.Set(name, value); err != nil {
			return usagef("--hash: %w", err)
		}
	}
	hash.Changed = false
	return nil
}
