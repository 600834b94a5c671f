package cef_test

import (
	"fmt"

	"github.com/edr-bridge/edr-bridge/cef"
)

func ExampleParse() {
	r, err := cef.Parse([]byte(`CEF:0|Acme|Shield|7.2|MAL-1|Malware \| found|8|dhost=ws-017 filePath=C:\\Users\\Public\\a b.exe duser= msg=blocked`))
	if err != nil {
		fmt.Println(err)
		return
	}
	path, _ := r.Get("filePath")
	fmt.Println(r.Name, r.Severity)
	fmt.Println(path)
	// Output:
	// Malware | found 8
	// C:\Users\Public\a b.exe
}

func ExampleRecord_Labelled() {
	r, err := cef.Parse([]byte(`CEF:0|Acme|Shield|7.2|MAL-1|Malware found|8|cs4Label=processSha1 cs4=a9993e364706816aba3e25717850c26c9cd0d89d`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Labelled("processsha1"))
	// Output:
	// a9993e364706816aba3e25717850c26c9cd0d89d true
}

func ExampleAppend() {
	line := cef.Append(nil, cef.Record{
		Vendor: "Acme", Product: "Shield", Name: "a|b", Severity: "5",
		Extension: []cef.Pair{{Key: "filePath", Value: `C:\x=y`}, {Key: "msg", Value: "one\ntwo"}},
	})
	fmt.Printf("%s\n", line)
	// Output:
	// CEF:0|Acme|Shield|||a\|b|5|filePath=C:\\x\=y msg=one\ntwo
}
