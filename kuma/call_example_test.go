package kuma_test

import (
	"fmt"

	"github.com/edr-bridge/edr-bridge/kuma"
)

func ExampleParseCall() {
	call, err := kuma.ParseCall("quarantineFile.py", []string{"--targetHost", "ws-01", "--path", `C:\\Users\\Public\\a b.exe`, "--hash", ""})
	fmt.Println(call.Task, call.Host, call.Params, err)
	fmt.Println(call.Warnings[0])

	_, err = kuma.ParseCall("isolateHost.py", []string{"--targetHost", "--action", "1"})
	fmt.Println(err)
	// Output:
	// quarantineFile ws-01 {  C:\Users\Public\a b.exe} <nil>
	// --hash came empty and was left out: if a field stands there, add FileHash to the correlation rule's inherited fields
	// field for --targetHost came empty: add DeviceHostName to the correlation rule's inherited fields
}
