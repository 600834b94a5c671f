package scan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edr-bridge/edr-bridge/localagent/verdict"
)

const (
	// maxName bounds the name of a signature; ClamAV's own are below 100 bytes.
	maxName = 256
	// limitName begins what clamd "finds" when it gave up on a file because of its limits (AlertExceedsMax, clamd.conf(5)).
	limitName = "Heuristics.Limits.Exceeded"
)

// errReply says that what answers does not speak as clamd does.
var errReply = errors.New("clamd's answer makes no sense")

// parseReply reads the answer to request n of a session, without its final NUL (clamd(8)):
//
//	7: fd[12]: OK
//	7: stream: Eicar-Test-Signature FOUND
//	7: fd[12]: Not a regular file ERROR
func parseReply(reply string, n uint64) (Verdict, error) {
	number, rest, ok := strings.Cut(reply, ": ")
	if got, err := strconv.ParseUint(number, 10, 64); !ok || err != nil || got != n {
		if isLimit(reply) {
			return skipped("clamd: larger than its StreamMaxLength"), nil
		}
		return Verdict{}, fmt.Errorf("%w: %s to request %d", errReply, shownReply(reply), n)
	}
	if isLimit(rest) {
		return skipped("clamd: larger than its StreamMaxLength"), nil
	}
	target, text, ok := strings.Cut(rest, ": ")
	if !ok || !isTarget(target) {
		return Verdict{}, fmt.Errorf("%w: %s", errReply, shownReply(reply))
	}
	if text == "OK" {
		return clean(), nil
	}
	if name, ok := strings.CutSuffix(text, " FOUND"); ok && name != "" && len(name) <= maxName {
		if what, ok := strings.CutPrefix(name, limitName); ok {
			return skipped("clamd: a limit was exceeded: " + verdict.Shown(strings.TrimPrefix(what, "."))), nil
		}
		return Verdict{State: Infected, Signature: verdict.Shown(name)}, nil
	}
	if what, ok := strings.CutSuffix(text, " ERROR"); ok {
		return Verdict{}, fmt.Errorf("clamd: %s", shownReply(what))
	}
	return Verdict{}, fmt.Errorf("%w: %s", errReply, shownReply(reply))
}

// isLimit knows the answer to a stream that is too long, which names no target.
func isLimit(text string) bool { return text == "INSTREAM size limit exceeded. ERROR" }

// isTarget takes "stream" and "fd[12]", what clamd calls the things it was handed.
func isTarget(s string) bool {
	if s == "stream" {
		return true
	}
	digits, ok := strings.CutPrefix(s, "fd[")
	digits, closed := strings.CutSuffix(digits, "]")
	_, err := strconv.ParseUint(digits, 10, 31)
	return ok && closed && err == nil
}

// parseVersion reads "ClamAV 1.4.6/27500/Thu Jan  2 10:00:00 2026"; a hand-made database has no number and no date.
func parseVersion(reply string) (EngineInfo, error) {
	product, rest, _ := strings.Cut(reply, "/")
	version, ok := strings.CutPrefix(product, "ClamAV ")
	if !ok || version == "" || len(reply) > maxName {
		return EngineInfo{}, fmt.Errorf("%w: %s to VERSION", errReply, shownReply(reply))
	}
	info := EngineInfo{Name: "clamd", Version: verdict.Shown(version), Signatures: "hand-made"}
	if number, date, _ := strings.Cut(rest, "/"); number != "" {
		info.Signatures = "daily " + verdict.Shown(number)
		if t, err := time.ParseInLocation(time.ANSIC, date, time.Local); err == nil {
			info.Date = t
		}
	}
	return info, nil
}

// shownReply makes an answer fit for an error.
func shownReply(s string) string {
	if len(s) > maxName {
		s = s[:maxName]
	}
	return verdict.Shown(s)
}
