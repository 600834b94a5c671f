package callout

import (
	"strings"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// ScriptName is the name of the vendor's script for a task with its exact capitals: ioCScan.py carries out iocScan
// (support.kaspersky.com/help/KUMA/3.4/en-US/300229.htm).
func ScriptName(task bridge.Kind) string {
	if task == bridge.KindIOCScan {
		return "ioCScan.py"
	}
	return string(task) + ".py"
}

// ScriptFields are the event fields the rule of a task is filled from. They have to be among the inherited (propagated) fields of the
// correlation rule also when only the id travels: what is fetched is the same correlation event.
func ScriptFields(task bridge.Kind) []string {
	fields := []string{"DeviceHostName"}
	switch task {
	case bridge.KindGetFile, bridge.KindDeleteFile, bridge.KindQuarantineFile:
		fields = append(fields, "FilePath")
	case bridge.KindTerminateProcess:
		fields = append(fields, "DestinationProcessName")
	case bridge.KindPreventExecution:
		fields = append(fields, "FileHash")
	default:
	}
	return fields
}

// ScriptArguments is a line for the field "Script arguments" of a response rule. With eventID only the id of the event travels. Each template
// stands in quotes together with its option, so that a value can neither become an option nor fall apart. That KUMA keeps quoted words
// together is documented by an example only (support.kaspersky.com/help/KUMA/3.0.2/en-US/233366.htm).
func ScriptArguments(task bridge.Kind, eventID bool) string {
	words := []string{`"--event-id={{.ID}}"`, `"--timestamp={{.Timestamp}}"`}
	if !eventID {
		words = []string{`"--targetHost={{.DeviceHostName}}"`}
		switch task {
		case bridge.KindGetFile, bridge.KindDeleteFile, bridge.KindQuarantineFile:
			words = append(words, `"--path={{.FilePath}}"`)
		case bridge.KindTerminateProcess:
			words = append(words, `"--path={{.DestinationProcessName}}"`)
		case bridge.KindPreventExecution:
			words = append(words, `"--hash={{.FileHash}}"`)
		default:
		}
	}
	switch task {
	case bridge.KindIsolateHost:
		words = append(words, "--action=1", "--for=4h")
	case bridge.KindStartProcess:
		words = append(words, `"--executablePath=C:\\Tools\\collect.exe"`, `"--arguments=/all /quiet"`)
	case bridge.KindIOCScan:
		words = append(words, "--ioc=/etc/edr-bridge/ioc/indicators.zip", "--quarantineObject=true")
	case bridge.KindOnDemandScan:
		words = append(words, "--type=14,15,16")
	default:
	}
	if !eventID {
		words = append(words, `"--timestamp={{.Timestamp}}"`, `"--reason={{.Name}}"`)
	}
	return strings.Join(words, " ")
}
