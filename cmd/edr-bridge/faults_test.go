package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fault is one row of docs/faults.md. Tests whose names begin with its id are found by themselves; also names those that do
// not carry it, and scripts of testdata/script by their file name.
type fault struct {
	id, what, promise string
	also              []string
}

// faults is what can go wrong around the bridge (F), come in broken (I) or be done to it (A). A row stands here only if a test
// shows its promise.
func faults() []fault {
	return []fault{
		{"F1", "Redis is down at the start", "the bridge starts, and tries again with pauses from 0.1 s to 5 s", nil},
		{"F2", "connection to Redis is reset", "a stream loses nothing; Pub/Sub notes the gap", nil},
		{"F3", "connection to Redis is dead without a sign", "found within 5 s for Pub/Sub; a silent but healthy connection is kept", nil},
		{"F4", "more alerts than the bridge can take, over Pub/Sub", "only what the full queue drops is lost, and it is counted", nil},
		{"F5", "Redis ends a subscriber that is too slow", "it comes back, and the log says why", nil},
		{"F6", "Redis restarts, loads, or is a read-only replica", "tried again until it is ready", nil},
		{"F7", "the consumer group is gone", "made anew where it stood, nothing is skipped", nil},
		{"F8", "somebody trims the stream below the group", "the loss is noted, and what is gone is never carried out", nil},
		{"F9", "the answer to an added entry is lost", "one entry, not two", nil},
		{"F10", "the answer to a read is lost", "the entries are found again among the pending ones", nil},
		{"F11", "an acknowledgement is lost", "acknowledged later, and not carried out again", nil},
		{"F12", "a replica dies or freezes with alerts in hand", "another one takes them over, once", nil},
		{"F13", "a replica is stopped, and comes back after another took over", "it does not deliver what was taken from it", []string{
			"TestF12AFrozenReplicaDoesNotDeliverWhatWasTakenFromIt",
		}},
		{"F14", "two replicas take over at once", "each alert is delivered once", []string{"TestF12EntriesOfADeadReplicaAreClaimedAndDeliveredOnce"}},
		{"F15", "several alerts about one host, or a release while isolations wait", "orders begin in the order of their alerts; the newest intent wins", []string{
			"TestOrdersOfOneHostRunInTheOrderTheirAlertsCame", "TestReleaseOvertakesAnIsolationThatWaitsForKSC",
			"TestIsolationCommittedAfterItsReleaseIsNotSent", "run-hold.txtar",
		}},
		{"F16", "KSC is down or its name unknown", "nothing is sent, orders wait and go out in order, or expire", []string{
			"send-failures.txtar", "run-ksc.txtar", "tasks-act.txtar",
		}},
		{"F17", "KSC is too slow", "the outcome is open: a search comes before anything else is sent", nil},
		{"F18", "the answer is cut, at any byte", "never taken for success, never doubled", nil},
		{"F19", "KSC answers nonsense", "the outcome stays open", nil},
		{"F20", "KSC refuses the incident", "the order failed for certain, and is not repeated", nil},
		{"F21", "the session ends, or the login is refused", "one new login and one repeat; after two refusals no login any more", []string{"credentials.txtar"}},
		{"F22", "KSC asks for a long pause", "never longer than a minute, and it can be interrupted", nil},
		{"F23", "KSC redirects elsewhere", "refused, the password stays here", nil},
		{"F24", "the certificate of KSC changed or expired", "refused before the password is sent, with the new fingerprint", nil},
		{"F25", "old TLS, or a reset in the handshake", "a clean error", nil},
		{"F26", "the search for an incident fails or lags", "nothing is sent again; in the end the order is unknown", nil},
		{"F27", "the bridge is killed at any moment", "what was found in sending is looked for first; nothing acknowledged is lost", []string{"TestKilledWriterLosesNothingAcknowledged", "run.txtar"}},
		{"F28", "the log of the database is torn", "it opens to its last whole commit", nil},
		{"F29", "a byte of the database flips", "found by doctor, verify or whoever meets it; nothing is carried out, and the file can be set aside", []string{
			"audit-export.txtar",
		}},
		{"F30", "the disk is full, or the state directory not writable", "nothing is acknowledged nor carried out, health is red, and it goes on when there is room", []string{
			"TestStoreRecoversWhenItsFolderBecomesWritableAgain", "TestNothingIsSettledWhenTheStoreFails", "disk.txtar",
		}},
		{"F31", "the clock jumps", "budgets, leases, windows and deadlines that are open move along, once", nil},
		{"F32", "more callers than the bridge has room for", "the others wait or are told to; the hold always finds room", []string{
			"TestListenerWaitsWhenItsSlotsAreTaken", "TestSendsLeaveRoomForTheHold",
		}},
		{"F33", "a backlog larger than the memory", "it stays in Redis and on disk, and is taken up in pages", []string{
			"TestStreamStopsReadingWhenTooMuchIsUnsettled", "TestPendingIsWalkedInPagesWhileOrdersMove", "TestLettersPageEndsBeforeItGetsHeavy",
		}},
		{"F34", "SIGTERM with work in hand", "it waits up to 10 s for effects, the rest stays queued or pending", nil},
		{"F35", "broken rules or settings at SIGHUP", "refused with their place, the old rules stay", []string{"run-reload.txtar"}},
		{"F36", "two bridges on one state directory", "the second one is refused", []string{"run.txtar"}},
		{"F37", "the keyring hangs or has no bus", "an error after 5 s, never another back-end", []string{
			"TestStartNeitherWaitsForABusNorStartsOne", "TestFileBackEndSurvivesRotationWhileRead",
		}},
		{"F38", "wrong passphrase or damaged secret", "an error that names the back-end and shows no secret", []string{"secrets.txtar"}},
		{"F39", "a block or an isolation does not read back from the kernel", "taken back", []string{"TestBlockAddressMendsATableSomebodyDamaged", "agent-isolate.txtar"}},
		{"F40", "the agent dies or restarts while the machine is isolated", "the kernel lets go in time; a restarted agent arms for the time that is left", nil},
		{"F41", "the process is gone, or its pid was used again", "nothing else is ever signalled", []string{
			"TestTerminateSaysAlreadyGone", "TestTerminateRefusesAProcessThatRunsAnotherImageByNow",
		}},
		{"F42", "the process ignores SIGTERM, is stopped or frozen", "it is killed, or reported as not seen to exit", []string{
			"TestTerminateEndsAStoppedProcess",
		}},
		{"F43", "a file is locked, immutable, on a read-only mount, vanishes or changes meanwhile", "it is taken as it was seen, or untouched and said so", nil},
		{"F44", "the quarantine is full, or on another filesystem", "copied, or the file is untouched", nil},
		{"F45", "a scan meets a huge tree, loops, pipes, /proc or a dead server", "one filesystem, no links, budgets; cancelling works; what was not looked at is never clean", nil},
		{"F46", "the dead-letter stream is not writable", "the alert is not acknowledged", nil},
		{"I1", "a document that is not one JSON object", "dead letter, byte for byte", nil},
		{"I2", "repeated keys, other spelling or wrong types", "refused with the place", nil},
		{"I3", "a pid that is no process", "refused", nil},
		{"I4", "broken UTF-8, control characters, deep nesting", "refused within 10 ms, or never part of a target", nil},
		{"I5", "digests of wrong length, or of the empty file", "refused", nil},
		{"I6", "paths that do not name one place", "refused, alike on Linux and Windows", nil},
		{"I7", "hosts that are wildcards, loopback names or filters", "refused", []string{"send-hosts.txtar"}},
		{"I8", "isolateHost with anything but 0 or 1", "refused", nil},
		{"I9", "onDemandScan that is no list, or an unknown type", "refused", nil},
		{"I10", "IOC archives that are none, bombs, or lead elsewhere", "refused, in bounded memory", nil},
		{"I11", "no time, or a time that does not tell", "the time is unknown, and orders about a pid are refused", nil},
		{"I12", "the same alert 10 000 times", "one order", []string{"TestSameAlertUnderManyNamesIsOneOrder"}},
		{"I13", "a pid from an alert without a host", "a target only if its source is set to be about this machine", nil},
		{"A1", "requests without, with a forged, an old or a repeated signature", "401, before anything of the body is parsed; the log is bounded", []string{"kuma-road.txtar"}},
		{"A2", "slow and idle connections, huge headers, thousands of connections", "closed by limits and timeouts; good requests do not wait", nil},
		{"A3", "compressed bodies nobody declared, bombs, endless or truncated bodies", "415, 413 or 400", nil},
		{"A4", "a source floods the bridge with alerts to isolate a thousand hosts", "the budget is isolated, the rest is held, the hold is latched", []string{
			"TestOneBatchKeepsToTheBudget", "TestTwoStoresOfOneFolderShareABudget", "TestStormIsNoSuccessBeyondItsBounds", "limits.txtar", "live.txtar",
		}},
		{"A5", "an alert against a never-touch host, process or path", "refused on every way: by rules, from the command line, and tried again", []string{
			"TestNothingGetsPastThePolicy", "TestProtectedProcessesAreRefused", "TestProtectedPathsAreRefused", "send-refused.txtar", "run-ksc.txtar",
			"tasks-act.txtar",
		}},
		{"A6", "quotes, shell words and templates in an alert", "they arrive as one parameter, or the order is refused", []string{"TestTerminateTakesShellWordsInPathsLiterally"}},
		{"A7", "control characters that a terminal would obey", "one line a record, escapes visible", []string{"FuzzPrintableIsOneSafeLine", "hostile.txtar", "approvals.txtar", "dlq.txtar"}},
		{"A8", "a file is swapped for another, or for a link, while it is deleted or quarantined", "nothing but the file that was checked is ever touched", []string{"agent-files.txtar"}},
		{"A9", "a Redis server open to everybody, or huge entries", "refused unless allowed; set aside", []string{"TestOpenServerIsRefusedUnlessAllowed", "TestStreamSetsAsideWhatIsTooLarge"}},
		{"A10", "secrets in output, logs, errors or files", "none in any of them", []string{"canary.txtar", "TestNoSecretReachesErrorsOrLogs"}},
		{"A11", "the audit chain is edited, cut, reordered or written anew", "verify names the first bad record; a cut tail needs an anchor, a chain written anew an anchor or a key", []string{
			"TestVerifyFindsARecordWithItsHashMadeAnew", "TestVerifyFindsAChainWrittenAnew", "TestVerifyFindsAForgedArchiveHead",
			"TestVerifyExportNamesTheFirstBadLine", "TestKeyedChain", "audit.txtar", "audit-export.txtar", "anchors.txtar",
		}},
		{"A12", "KSC answers endlessly or too deep", "bounded in bytes and time", nil},
		{"A13", "a local user talks to the agent's socket, or plants settings, rules or a program", "refused: the kernel names the caller, and what others can change is not believed", []string{"agent-trust.txtar", "agent-separate.txtar"}},
		{"A13", "another user of the machine talks to the control socket", "only its owner and group may, and the kernel says who asks", []string{
			"TestSocketIsForOwnerAndGroupWhateverTheUmask", "TestKernelSaysWhoAsksNotTheClient", "TestClosedSocketSaysWhoMayUseIt", "socket.txtar",
		}},
	}
}

var (
	testFunction   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(\w+ \*testing\.[TF]\)`)
	numberedTest   = regexp.MustCompile(`^Test([FIA]\d+)[A-Z]`)
	scriptsOfTests = filepath.Join("testdata", "script")
)

// testNames finds every test and fuzz target of the module, and every script, with the package it is in.
func testNames(t *testing.T) map[string][]string {
	t.Helper()
	names := map[string][]string{}
	goFiles(t, func(dir, path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(data), -1) {
			names[m[1]] = append(names[m[1]], dir)
		}
	})
	scripts, err := fs.Glob(os.DirFS(scriptsOfTests), "*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		names[s] = []string{"cmd/edr-bridge"}
	}
	return names
}

// faultsTable joins the rows with the tests there are. A test without a row, a row without a test and a name nobody has are failures.
func faultsTable(t *testing.T) string {
	t.Helper()
	names := testNames(t)
	byID := map[string][]string{}
	for name, dirs := range names {
		if m := numberedTest.FindStringSubmatch(name); m != nil {
			for _, dir := range dirs {
				byID[m[1]] = append(byID[m[1]], testCell(name, dir))
			}
		}
	}
	var rows [][]string
	for _, f := range faults() {
		tests := byID[f.id]
		delete(byID, f.id)
		slices.Sort(tests)
		for _, name := range f.also {
			if len(names[name]) == 0 {
				t.Errorf("%s: there is no test %s", f.id, name)
				continue
			}
			tests = append(tests, testCell(name, names[name][0]))
		}
		if len(tests) == 0 {
			t.Errorf("%s has no test: take the row out", f.id)
		}
		rows = append(rows, []string{f.id, f.what, f.promise, strings.Join(tests, "<br>")})
	}
	for id, tests := range byID {
		t.Errorf("%s has no row in faults(): %v", id, tests)
	}
	sorted := slices.IsSortedFunc(rows, func(a, b []string) int { return cmp.Compare(faultRank(t, a[0]), faultRank(t, b[0])) })
	if !sorted {
		t.Error("the rows of faults() are not in order")
	}
	return markdown([]string{"#", "what goes wrong", "promise", "shown by"}, rows)
}

func testCell(name, dir string) string { return code(name) + " (" + dir + ")" }

// faultRank orders F1, F2, F10, I1, A1.
func faultRank(t *testing.T, id string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(id[1:], &n); err != nil {
		t.Fatal(err)
	}
	return strings.Index("FIA", id[:1])*1000 + n
}
