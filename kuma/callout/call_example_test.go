package callout_test

import (
	"fmt"

	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

func ExampleParseCall() {
	call, err := callout.ParseCall("quarantineFile.py", []string{"--targetHost", "ws-01", "--path", `C:\\Users\\Public\\a b.exe`, "--hash", ""})
	fmt.Println(call.Task, call.Host, call.Params, err)
	fmt.Println(call.Warnings[0])

	_, err = callout.ParseCall("isolateHost.py", []string{"--targetHost", "--action", "1"})
	fmt.Println(err)
	// Output:
	// quarantineFile ws-01 {  C:\Users\Public\a b.exe} <nil>
	// --hash came empty and was left out: if a field stands there, add FileHash to the correlation rule's inherited fields
	// field for --targetHost came empty: add DeviceHostName to the correlation rule's inherited fields
}
