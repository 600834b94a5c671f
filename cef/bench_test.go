package cef

import "testing"

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, line string }{
		{"short", `CEF:0|Acme|Shield|7.2.0.15|KLX_TaskState|Completed|1|rt=1700000000000 cs9=branch office cs9Label=GroupName dhost=WS0017 dst=10.20.30.40 ` +
			`cs2=KES cs2Label=ProductName cs3=12.9.0.0 cs3Label=ProductVersion cs10=Uninstall cs10Label=TaskName cs4=885 cs4Label=TaskId cn2=4 cn2Label=New cn1=0 cn1Label=Old`},
		{"escaped", `CEF:0|Acme|Shield \| Pro|7.2|MAL-1|Malware found|8| rt=1700000000000 dhost=ws-017.corp.example dst=10.20.1.44 duser=CORP\\nina ` +
			`filePath=C:\\Users\\nina\\Downloads\\invoice 2026.pdf.exe fileHash=44d88612fea8a8f36de82e1278abb02f sproc=C:\\Windows\\explorer.exe ` +
			`dproc=C:\\Users\\nina\\Downloads\\invoice 2026.pdf.exe request=http://198.51.100.7/a?x\=1 cs1=R-1007 cs1Label=rule cs4=a9993e364706816aba3e25717850c26c9cd0d89d ` +
			`cs4Label=processSha1 msg=File was blocked\nand moved to quarantine externalId=8812 suser= act=blocked`},
	} {
		b.Run(c.name, func(b *testing.B) {
			line := []byte(c.line)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	r, err := Parse([]byte(head + `dhost=ws-017.corp.example filePath=C:\\Users\\nina\\a b.exe msg=one\ntwo cs1=R-1007 cs1Label=rule`))
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], r)
	}
	b.SetBytes(int64(len(dst)))
}
