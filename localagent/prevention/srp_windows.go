package prevention

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// Software Restriction Policies live below safer (learn.microsoft.com/windows-server/identity/software-restriction-policies). Level 0 is
// "disallowed". Rules by hash have the MD5 and the size in their key and the SHA-256 in a subkey.

const (
	safer      = `SOFTWARE\Policies\Microsoft\Windows\Safer\CodeIdentifiers`
	saferPaths = safer + `\0\Paths`
	saferHash  = safer + `\0\Hashes`
	// srpGroup holds the number of AppLocker rules: while it is not 0 Windows leaves Software Restriction Policies aside. Windows
	// 11 22H2 and later count some of their own (schneegans.de/computer/safer).
	srpGroup  = `SYSTEM\CurrentControlSet\Control\Srp\Gp`
	ruleCount = "RuleCount"
	// build22H2 is Windows 11 22H2.
	build22H2 = 22621

	levelUnrestricted = 0x40000
	algMD5            = 0x8003 // CALG_MD5 (wincrypt.h)
	algSHA256         = 0x800c // CALG_SHA_256

	valueLevel, valueOn, valueScope = "DefaultLevel", "TransparentEnabled", "PolicyScope"
	// ownPolicy marks that the values above are ours to take away.
	ownPolicy      = "EDRBridgePolicy"
	ownDescription = "edr-bridge rule "
	valueText      = "Description"
	valueItem      = "ItemData"
	valueAlg       = "HashAlg"
	valueSize      = "ItemSize"
	valueFlags     = "SaferFlags"
	valueChanged   = "LastModified"
)

// enforced reports whether this Windows looks at Software Restriction Policies at all, and whether those that stand are switched on.
func enforced() bool {
	k, ok, err := machineKey(srpGroup, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	n, counted := uint64(0), false
	if ok {
		v, _, err := k.GetIntegerValue(ruleCount)
		n, counted = v, err == nil
		_ = k.Close()
	}
	if n > 0 || !counted && windows.RtlGetVersion().BuildNumber >= build22H2 {
		return false
	}
	policy, ok, err := machineKey(safer, registry.QUERY_VALUE)
	if err != nil || !ok {
		return err == nil
	}
	defer func() { _ = policy.Close() }()
	// A policy that stands switched off is somebody's decision: ours must not switch it on.
	on, _, err := policy.GetIntegerValue(valueOn)
	return err != nil || on > 0
}

// scopeText says whom the policy that stands does not bind.
func scopeText() string {
	k, ok, err := machineKey(safer, registry.QUERY_VALUE)
	if err != nil || !ok {
		return ""
	}
	defer func() { _ = k.Close() }()
	if scope, _, err := k.GetIntegerValue(valueScope); err == nil && scope == 1 {
		return "local administrators: the software restriction policy of this machine leaves them out"
	}
	return ""
}

// guidOf derives the key of an entry from its rule, so that nothing has to be remembered.
func guidOf(e entry) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "edr-bridge safer %d %s", e.kind, e.rule))
	h := hex.EncodeToString(sum[:16])
	return fmt.Sprintf("{%s-%s-%s-%s-%s}", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

func policyKey(e entry) string {
	if e.kind == byHash {
		return saferHash + `\` + guidOf(e)
	}
	return saferPaths + `\` + guidOf(e)
}

func addPolicy(e entry) error {
	name := policyKey(e)
	k, err := makeKey(name)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	err = errors.Join(
		k.SetStringValue(valueText, ownDescription+e.rule), k.SetDWordValue(valueFlags, 0), k.SetQWordValue(valueChanged, 0),
	)
	if e.kind == byPath {
		err = errors.Join(err, k.SetStringValue(valueItem, e.path))
	} else {
		err = errors.Join(err, addHash(k, name, e))
	}
	if err != nil {
		return fmt.Errorf("write HKLM\\%s: %w", name, err)
	}
	return nil
}

func addHash(k registry.Key, name string, e entry) error {
	md5, err1 := hex.DecodeString(e.md5)
	sha, err2 := hex.DecodeString(e.sha256)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	sub, err := makeKey(name + `\SHA256`)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	return errors.Join(
		k.SetBinaryValue(valueItem, md5), k.SetDWordValue(valueAlg, algMD5), k.SetQWordValue(valueSize, uint64(e.size)), //nolint:gosec // sizes are positive
		sub.SetBinaryValue(valueItem, sha), sub.SetDWordValue(valueAlg, algSHA256),
	)
}

func removePolicy(e entry) error {
	name := policyKey(e)
	return errors.Join(deleteKey(name+`\SHA256`), deleteKey(name))
}

// settlePolicy makes rules below safer count, or takes away what only ours needed.
func settlePolicy(needed bool) error {
	if needed {
		k, err := makeKey(safer)
		if err != nil {
			return err
		}
		defer func() { _ = k.Close() }()
		if _, _, err := k.GetIntegerValue(valueOn); err == nil {
			return nil
		}
		err = errors.Join(
			k.SetDWordValue(ownPolicy, 1), k.SetDWordValue(valueLevel, levelUnrestricted), k.SetDWordValue(valueScope, 0), k.SetDWordValue(valueOn, 1),
		)
		if err != nil {
			return fmt.Errorf("switch software restriction policies on: %w", err)
		}
		return nil
	}
	k, ok, err := machineKey(safer, registry.ALL_ACCESS)
	if err != nil || !ok {
		return err
	}
	if _, _, err := k.GetIntegerValue(ownPolicy); err == nil {
		for _, v := range []string{valueLevel, valueScope, valueOn, ownPolicy} {
			if err := k.DeleteValue(v); err != nil && !errors.Is(err, registry.ErrNotExist) {
				_ = k.Close()
				return fmt.Errorf("take the software restriction policy away: %w", err)
			}
		}
	}
	_ = k.Close()
	for _, name := range []string{saferPaths, saferHash, safer + `\0`, safer} {
		if none, err := empty(name); err != nil || !none {
			if err != nil {
				return err
			}
			continue
		}
		if err := deleteKey(name); err != nil {
			return err
		}
	}
	return nil
}

// policies finds our rules. One with other values than we write equals none that is wanted, and is written anew.
func policies() ([]entry, error) {
	var out []entry
	for _, place := range []struct {
		key  string
		kind kind
	}{{saferPaths, byPath}, {saferHash, byHash}} {
		names, err := subkeys(place.key)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			e, ours, err := policy(place.key+`\`+name, place.kind)
			if err != nil {
				return nil, err
			}
			if ours && strings.EqualFold(guidOf(e), name) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// policy reads one rule; ours is false when somebody else made it.
func policy(name string, kind kind) (e entry, ours bool, err error) {
	e.kind = kind
	k, ok, err := machineKey(name, registry.QUERY_VALUE)
	if err != nil || !ok {
		return e, false, err
	}
	defer func() { _ = k.Close() }()
	text, _, err := k.GetStringValue(valueText)
	if err != nil {
		return e, false, nil // a rule without a description is not ours
	}
	if e.rule, ours = strings.CutPrefix(text, ownDescription); !ours {
		return e, false, nil
	}
	if kind == byPath {
		e.path, _, _ = k.GetStringValue(valueItem)
		return e, true, nil
	}
	e.readHash(k, name)
	return e, true, nil
}

// readHash fills in the content; what is damaged stays empty.
func (e *entry) readHash(k registry.Key, name string) {
	md5, _, err1 := k.GetBinaryValue(valueItem)
	size, _, err2 := k.GetIntegerValue(valueSize)
	alg, _, err3 := k.GetIntegerValue(valueAlg)
	sub, ok, err4 := machineKey(name+`\SHA256`, registry.QUERY_VALUE)
	if errors.Join(err1, err2, err3, err4) != nil || !ok || alg != algMD5 {
		return
	}
	defer func() { _ = sub.Close() }()
	sha, _, err := sub.GetBinaryValue(valueItem)
	if alg, _, aerr := sub.GetIntegerValue(valueAlg); err != nil || aerr != nil || alg != algSHA256 {
		return
	}
	e.md5, e.sha256, e.size = hex.EncodeToString(md5), hex.EncodeToString(sha), int64(size) //nolint:gosec // what we wrote
}

// keptHash returns the entry by content a rule has already: the file it was made from may be gone. Nil = it has none.
func keptHash(r *Rule) (*entry, error) {
	if r.digest() == "" {
		return nil, nil //nolint:nilnil // no entry is an answer, not an error
	}
	want := entry{kind: byHash, rule: r.ID}
	e, ours, err := policy(policyKey(want), byHash)
	if err != nil || !ours || e.rule != r.ID || e.md5 != r.MD5 && e.sha256 != r.SHA256 {
		return nil, err
	}
	return &e, nil
}
