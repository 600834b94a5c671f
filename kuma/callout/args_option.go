package callout

import (
	"slices"
	"strings"
	"unicode"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// The options by the names they are printed with.
const (
	optHost      = "targetHost"
	optPath      = "path"
	optMD5       = "md5hash"
	optSHA256    = "sha256hash"
	optHash      = "hash"
	optSubfolder = "searchInSubfolders"
	optIOC       = "ioc"
	optIOCText   = "ioc-base64"
	optIsolate   = "isolateHost"
	optCritical  = "scanCriticalAreas"
	optQuarant   = "quarantineObject"
	optExec      = "executablePath"
	optArguments = "arguments"
	optFolder    = "workingFolder"
	optCase      = "caseSensitive"
	optAction    = "action"
	optRecursive = "recursive"
	optType      = "type"
	optEnabled   = "enabled"
	optAddress   = "address"
	optEventID   = "event-id"
	optTimestamp = "timestamp"
	optFields    = "fields"
	optValues    = "values"
	optFor       = "for"
	optReason    = "reason"
)

// argsTakes says how many words belong to an option.
type argsTakes int

const (
	takesOne  argsTakes = iota // one word, and no other behind it
	takesFlag                  // none or one
	takesMany                  // one or more, each a value of its own
	takesText                  // one or more that belong together: text for people
)

// argsOption is one option of the nine scripts or of ours.
type argsOption struct {
	name    string
	aliases []string // besides name
	takes   argsTakes
	// tasks have it; nil = all.
	tasks []bridge.Kind
	// fields are the event fields it is usually filled from: the first is the advice.
	fields []string
}

// argsOptions lists every option. The vendor publishes the parameters of the tasks and targetHost, not the table of arguments
// (support.kaspersky.com/help/KUMA/3.4/en-US/300739.htm): the long names are the parameters' names, the others are ours.
func argsOptions(task bridge.Kind) []argsOption {
	files := []bridge.Kind{bridge.KindGetFile, bridge.KindDeleteFile, bridge.KindQuarantineFile}
	hashed := append(slices.Clone(files), bridge.KindTerminateProcess, bridge.KindPreventExecution)
	image := []bridge.Kind{bridge.KindTerminateProcess, bridge.KindPreventExecution}
	scan := []bridge.Kind{bridge.KindOnDemandScan}
	pathFields, pathTakes := []string{"FilePath"}, takesOne
	switch task {
	case bridge.KindTerminateProcess:
		pathFields = []string{"DestinationProcessName", "SourceProcessName", "FilePath"}
	case bridge.KindOnDemandScan:
		pathTakes = takesMany
	default:
	}
	ioc := []bridge.Kind{bridge.KindIOCScan}
	start := []bridge.Kind{bridge.KindStartProcess}
	return []argsOption{
		{optHost, []string{"host"}, takesOne, nil, []string{"DeviceHostName", "DestinationHostName", "SourceHostName"}},
		{optPath, nil, pathTakes, append(slices.Clone(hashed), bridge.KindOnDemandScan), pathFields},
		{optMD5, []string{"md5"}, takesOne, hashed, []string{"FileHash"}},
		{optSHA256, []string{"sha256"}, takesOne, hashed, []string{"FileHash"}},
		{optHash, nil, takesOne, hashed, []string{"FileHash"}},
		{optSubfolder, nil, takesFlag, []bridge.Kind{bridge.KindDeleteFile}, nil},
		{optIOC, nil, takesOne, ioc, nil},
		{optIOCText, nil, takesOne, ioc, nil},
		{optIsolate, nil, takesFlag, ioc, nil},
		{optCritical, nil, takesFlag, ioc, nil},
		{optQuarant, nil, takesFlag, ioc, nil},
		{optExec, nil, takesOne, start, nil},
		{optArguments, nil, takesOne, start, nil},
		{optFolder, nil, takesOne, start, nil},
		{optCase, nil, takesFlag, image, nil},
		{optAction, nil, takesOne, []bridge.Kind{bridge.KindIsolateHost}, nil},
		{optRecursive, nil, takesFlag, scan, nil},
		{optType, nil, takesOne, scan, nil},
		{optEnabled, nil, takesFlag, scan, nil},
		{optAddress, nil, takesOne, []bridge.Kind{bridge.KindBlockAddress}, []string{"SourceAddress", "DestinationAddress"}},
		{optEventID, nil, takesOne, nil, []string{"ID"}},
		{optTimestamp, nil, takesOne, nil, []string{"Timestamp"}},
		{optFields, nil, takesOne, nil, nil},
		{optValues, nil, takesOne, nil, nil},
		{optFor, nil, takesOne, []bridge.Kind{bridge.KindIsolateHost, bridge.KindBlockAddress}, nil},
		{optReason, []string{"message", "comment", "rule-name"}, takesText, nil, []string{"Name"}},
	}
}

// argsConnection are the variables of the vendor's scripts for their own connection to KSC
// (support.kaspersky.com/help/KUMA/3.4/en-US/300739.htm).
func argsConnection() []string {
	return []string{"kscHost", "kscPort", "kscCert", "kscUser", "kscPassword"}
}

func (o argsOption) of(task bridge.Kind) bool {
	return o.tasks == nil || slices.Contains(o.tasks, task)
}

// argsFind returns the option a word names, without its dashes and its value.
func argsFind(options []argsOption, word string) (argsOption, bool) {
	if strings.HasPrefix(word, "-") {
		return argsOption{}, false
	}
	loose := argsLoose(word)
	for _, o := range options {
		if loose == argsLoose(o.name) || slices.ContainsFunc(o.aliases, func(a string) bool { return loose == argsLoose(a) }) {
			return o, true
		}
	}
	return argsOption{}, false
}

// argsLoose is a name without what does not count: case, - and _.
func argsLoose(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// argsNames are the names of the options a task has, for "did you mean".
func argsNames(options []argsOption, task bridge.Kind) []string {
	var names []string
	for _, o := range options {
		if o.of(task) {
			names = append(names, o.name)
			names = append(names, o.aliases...)
		}
	}
	return names
}

// argsAdvice is "add DeviceHostName to the correlation rule's inherited fields" behind the given beginning, or "" for an
// option that no field fills.
func argsAdvice(begin, option string, task bridge.Kind) string {
	o, _ := argsFind(argsOptions(task), option)
	if len(o.fields) == 0 {
		return ""
	}
	return begin + o.fields[0] + " to the correlation rule's inherited fields"
}
