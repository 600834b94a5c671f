package api

import (
	"os/user"
	"strconv"
	"strings"
	"unicode"
)

// maxWhy is how many bytes of a client's reason are kept.
const maxWhy = 1 << 10

// actorOf names who asks: "socket:<user>", and the reason in parentheses the client gave, if any. Nothing else of
// what the client says about itself counts.
func actorOf(uid uint32, given string) string {
	id := strconv.FormatUint(uint64(uid), 10)
	who := "socket:uid" + id
	if u, err := user.LookupId(id); err == nil && plainName(u.Username) {
		who = "socket:" + u.Username
	}
	_, why, ok := strings.Cut(given, " (")
	why, closed := strings.CutSuffix(why, ")")
	if !ok || !closed || why == "" {
		return who
	}
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + "…"
	}
	return who + " (" + why + ")"
}

// plainName reports whether the name can be told apart from what stands around it in an actor.
func plainName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '(' || r == ')' || r == ':' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsGraphic(r)
	})
}
