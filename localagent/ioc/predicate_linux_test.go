package ioc

import (
	"strings"
	"testing"
)

func TestTermsMatchAsTheirConditionsSay(t *testing.T) {
	t.Parallel()
	file := []string{
		"FileItem/FileName=Evil.Bin", "FileItem/FullPath=/tmp/dir/Evil.Bin", "FileItem/FilePath=/tmp/dir", "FileItem/FileExtension=Bin",
		"FileItem/SizeInBytes=100", "FileItem/Modified=2026-03-04T10:20:30.5Z", "FileItem/Md5sum=1e50210a0202497fb79bc38b6ade6c34",
		"FileItem/Sha1sum=a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
		"FileItem/Sha256sum=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	}
	process := []string{"ProcessItem/name=sh", "ProcessItem/name=comm", "ProcessItem/userTime=1m5.25s", "ProcessItem/pid=42", "ProcessItem/arguments=sh -c  id "}
	port := []string{"PortItem/localIP=10.1.2.3", "PortItem/remoteIP=2001:db8::7", "PortItem/localPort=50000", "PortItem/state=LISTEN"}
	arp := []string{"ArpEntryItem/PhysicalAddress=00:1a:2b:3c:4d:5e", "ArpEntryItem/PhysicalAddress=00-1a-2b-3c-4d-5e", "ArpEntryItem/IsRouter=false"}
	for _, tt := range []struct {
		of   []string
		term string
		v10  bool
		want bool
	}{
		// texts
		{file, "FileItem/FileName is evil.bin", true, true},
		{file, "FileItem/FileName is evil.bi", true, false},
		{file, "fileitem/filename is EVIL.BIN", true, true},
		{file, "FileItem/FileName isnot evil.bin", true, false},
		{file, "FileItem/FileName isnot other", true, true},
		{file, "FileItem/FullPath contains /DIR/", true, true},
		{file, "FileItem/FullPath containsnot /dir/", true, false},
		{file, "FileItem/FullPath containsnot /usr/", true, true},
		{file, "FileItem/FileName is+preserve-case evil.bin", false, false},
		{file, "FileItem/FileName is+preserve-case Evil.Bin", false, true},
		{file, "FileItem/FileName is+negate evil.bin", false, false},
		{file, "FileItem/FileName is+negate+preserve-case evil.bin", false, true},
		{file, "FileItem/FullPath starts-with /TMP", false, true},
		{file, "FileItem/FullPath starts-with tmp", false, false},
		{file, "FileItem/FullPath starts-with+preserve-case /TMP", false, false},
		{file, "FileItem/FullPath ends-with .BIN", false, true},
		{file, "FileItem/FullPath ends-with+negate .BIN", false, false},
		{file, `FileItem/FullPath matches ^/tmp/[a-z]+/EVIL\.`, false, true},
		{file, `FileItem/FullPath matches+preserve-case ^/tmp/[a-z]+/EVIL\.`, false, false},
		{file, `FileItem/FullPath matches+negate evil`, false, false},
		{file, `FileItem/FullPath matches x|/dir/E`, false, true},
		{file, "FileItem/FilePath is /tmp/dir/", true, true},
		{file, "FileItem/FilePath is /tmp/dir", true, true},
		{file, "FileItem/FilePath is /tmp", true, false},
		{file, "FileItem/FileExtension is .bin", true, true},
		{file, "FileItem/FileExtension is bin", true, true},
		{file, "FileItem/Username isnot root", true, false}, // not known: no match
		{process, "ProcessItem/name is comm", true, true},
		{process, "ProcessItem/name isnot comm", true, false},
		{process, "ProcessItem/name isnot other", true, true},
		{process, "ProcessItem/arguments contains -c  id ", true, true},
		{process, "ProcessItem/arguments contains -c id", true, false},
		{arp, "ArpEntryItem/PhysicalAddress is 001A.2B3C.4D5E", true, true},
		{arp, "ArpEntryItem/PhysicalAddress is 00-1A-2B-3C-4D-5F", true, false},
		{arp, "ArpEntryItem/PhysicalAddress starts-with 00-1A-2B", false, true},
		{arp, "ArpEntryItem/PhysicalAddress starts-with 00:1A:2B", false, true},
		{arp, "ArpEntryItem/IsRouter is FALSE", true, true},
		// digests
		{file, "FileItem/Md5sum is 1E50210A0202497FB79BC38B6ADE6C34", true, true},
		{file, "FileItem/Md5sum isnot 1E50210A0202497FB79BC38B6ADE6C34", true, false},
		{file, "FileItem/Md5sum is 1E50210A0202497FB79BC38B6ADE6C35", true, false},
		{file, "FileItem/Sha1sum is a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", true, true},
		{file, "FileItem/Sha256sum starts-with 9F86D0", false, true},
		{file, "FileItem/Sha256sum is+preserve-case 9F86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", false, true},
		// numbers
		{file, "FileItem/SizeInBytes is 100", true, true},
		{file, "FileItem/SizeInBytes isnot 100", true, false},
		{file, "FileItem/SizeInBytes is 99 TO 100", true, true},
		{file, "FileItem/SizeInBytes is [100 TO 100]", true, true},
		{file, "FileItem/SizeInBytes is [101 TO 200]", true, false},
		{file, "FileItem/SizeInBytes isnot [101 TO 200]", true, true},
		{file, "FileItem/SizeInBytes greater-than 99", false, true},
		{file, "FileItem/SizeInBytes greater-than 100", false, false},
		{file, "FileItem/SizeInBytes less-than 101", false, true},
		{file, "FileItem/SizeInBytes less-than 100", false, false},
		{file, "FileItem/SizeInBytes less-than+negate 100", false, true},
		{process, "ProcessItem/pid is 42", true, true},
		// times
		{file, "FileItem/Modified is 2026-03-04T10:20:30Z", true, true},
		{file, "FileItem/Modified is 2026-03-04T10:20:30", true, true},
		{file, "FileItem/Modified is 2026-03-04T10:20", true, true},
		{file, "FileItem/Modified is 2026-03-04", true, true},
		{file, "FileItem/Modified is 2026-03-05", true, false},
		{file, "FileItem/Modified is 2026-03-04T10:20:30.5Z", true, true},
		{file, "FileItem/Modified is 2026-03-04T10:20:30.50Z", true, true},
		{file, "FileItem/Modified is 2026-03-04T10:20:30.4Z", true, false},
		{file, "FileItem/Modified is 2026-03-04T12:20:30+02:00", true, true},
		{file, "FileItem/Modified is 2026-03-04T10:00:00Z TO 2026-03-04T16:00:00Z", true, true},
		{file, "FileItem/Modified is [2026-03-01 TO 2026-03-04]", true, true},
		{file, "FileItem/Modified is [2026-03-01 TO 2026-03-03]", true, false},
		{file, "FileItem/Modified greater-than 2026-03-03", false, true},
		{file, "FileItem/Modified greater-than 2026-03-04", false, false},
		{file, "FileItem/Modified less-than 2026-03-05", false, true},
		{file, "FileItem/Modified less-than 2026-03-04", false, false},
		// durations
		{process, "ProcessItem/userTime is 65", true, true},
		{process, "ProcessItem/userTime is PT1M5S", true, true},
		{process, "ProcessItem/userTime greater-than 64", false, true},
		{process, "ProcessItem/userTime greater-than PT1M5S", false, false},
		{process, "ProcessItem/userTime less-than P1DT1H", false, true},
		{process, "ProcessItem/userTime is PT1M TO PT2M", true, true},
		// addresses
		{port, "PortItem/localIP is 10.1.2.3", true, true},
		{port, "PortItem/localIP is ::ffff:10.1.2.3", true, true},
		{port, "PortItem/localIP isnot 10.1.2.3", true, false},
		{port, "PortItem/localIP is 10.1.2.0/24", true, true},
		{port, "PortItem/localIP is 10.1.3.0/24", true, false},
		{port, "PortItem/localIP is [10.1.2.1 TO 10.1.2.3]", true, true},
		{port, "PortItem/localIP is 10.1.2.4 TO 10.1.2.9", true, false},
		{port, "PortItem/localIP contains 10.1.", true, true},
		{port, "PortItem/remoteIP is 2001:0DB8:0:0::7", true, true},
		{port, "PortItem/remoteIP is 2001:db8::/32", true, true},
		{port, "PortItem/remoteIP is 10.0.0.0/8", true, false},
		{port, "PortItem/localPort is 49600 TO 50700", true, true},
	} {
		t.Run(tt.term, func(t *testing.T) {
			t.Parallel()
			doc := v11("d", either(item(tt.term)))
			if tt.v10 {
				doc = v10("d", either(item(tt.term)))
			}
			q, report := query(t, doc)
			if report.UnsupportedTotal != 0 {
				t.Fatalf("unsupported: %+v", report.Unsupported)
			}
			if got := len(evaluate(q, thing(t, tt.of...)).Matches) == 1; got != tt.want {
				t.Errorf("match %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTermsNobodyUnderstandsMatchNothingAndAreReported(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		term string
		v10  bool
		why  string
	}{
		{`RegistryItem/Path is HKLM\x`, true, "not collected"},
		{"EventLogItem/EID is 4688", true, "not collected"},
		{"FileItem is x", true, "not known on this system"},
		{"FileItem/PEInfo/DetectedAnomalies/string is checksum", true, "not known on this system"},
		{"VolumeItem/DriveLetter is C:", true, "not known on this system"},
		{"FileItem/FileName like x", true, "no such condition"},
		{"FileItem/FileName isnot x", false, "no such condition"},
		{"FileItem/FileName starts-with x", true, "no such condition"},
		{"FileItem/FileName is+negate x", true, "negate: it belongs to OpenIOC 1.1"},
		{"FileItem/FileName is+preserve-case x", true, "preserve-case: it belongs to OpenIOC 1.1"},
		{"FileItem/FileName contains ", true, "its value is empty"},
		{"FileItem/FileName greater-than x", false, "compares sizes"},
		{"FileItem/SizeInBytes contains 1", true, "compares text"},
		{"FileItem/SizeInBytes matches 1", false, "compares text"},
		{"FileItem/SizeInBytes is many", true, "no integer"},
		{"FileItem/SizeInBytes is 1e3", true, "no integer"},
		{"FileItem/SizeInBytes is [1 TO 2", true, "brackets"},
		{"FileItem/SizeInBytes is 2 TO 1", true, "ends before it begins"},
		{"FileItem/SizeInBytes is {1 TO 2}", true, "no integer"},
		{"FileItem/SizeInBytes is 1 2", true, "neither one value nor a range"},
		{"FileItem/SizeInBytes greater-than 9223372036854775807", false, "nothing lies beyond"},
		{"FileItem/Modified is yesterday", true, "no ISO 8601 time"},
		{"FileItem/Modified is 0001-01-01T00:00:00", true, "year is out of range"},
		{"ProcessItem/userTime is P1Y", true, "neither seconds nor"},
		{"ProcessItem/userTime is P", true, "neither seconds nor"},
		{"ProcessItem/userTime is PT", true, "neither seconds nor"},
		{"ProcessItem/userTime is PT-1S", true, "neither seconds nor"},
		{"PortItem/remoteIP is evil.example", true, "no IP address"},
		{"PortItem/remoteIP is 10.0.0.9 TO 10.0.0.1", true, "ends before it begins"},
		{"PortItem/remoteIP is 10.0.0.9 TO ::1", true, "ends before it begins"},
		{"FileItem/Md5sum is 1e50210a", true, "not 32 hex digits"},
		{"FileItem/Sha256sum is 1e50210a0202497fb79bc38b6ade6c34", true, "not 64 hex digits"},
		{"FileItem/Md5sum is xe50210a0202497fb79bc38b6ade6c34", true, "not 32 hex digits"},
		{"FileItem/Md5sum is D41D8CD98F00B204E9800998ECF8427E", true, "digest of the empty file"},
		{"FileItem/Sha1sum is da39a3ee5e6b4b0d3255bfef95601890afd80709", true, "digest of the empty file"},
		{"FileItem/Sha256sum is e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", true, "digest of the empty file"},
		{"FileItem/FileName matches (?=x)", false, "look-around"},
		{"FileItem/FileName matches (?<!x)y", false, "look-around"},
		{"FileItem/FileName matches (", false, "not of RE2 syntax"},
		{`FileItem/FileName matches (a)\1`, false, "not of RE2 syntax"},
		{"FileItem/FileName matches " + strings.Repeat("(a{30}){30}", 20), false, "too large when"},
		{"FileItem/FileName matches " + strings.Repeat("a", 2000), false, "longer than"},
	} {
		t.Run(tt.term[:min(60, len(tt.term))], func(t *testing.T) {
			t.Parallel()
			// Neither alone, nor negated by what stands around it, nor in a group.
			doc, group := v11("d", either(item(tt.term))), v11("g", all(items("FileItem/FileName is x", tt.term)))
			other := v11("o", either(items("FileItem/FileName is x", tt.term)))
			if tt.v10 {
				doc, group = v10("d", either(item(tt.term))), v10("g", all(items("FileItem/FileName is x", tt.term)))
				other = v10("o", either(items("FileItem/FileName is x", tt.term)))
			}
			q, report := query(t, doc, group, other)
			if report.UnsupportedTotal != 3 || len(report.Unsupported) != 3 {
				t.Fatalf("%d unsupported, want 3: %+v", report.UnsupportedTotal, report.Unsupported)
			}
			for _, u := range report.Unsupported {
				if !strings.Contains(u.Why, tt.why) {
					t.Errorf("why %q, want %q", u.Why, tt.why)
				}
			}
			if len(report.Hopeless) != 2 {
				t.Errorf("hopeless %v, want d and g", report.Hopeless)
			}
			if got := ids(evaluate(q, thing(t, "FileItem/FileName=x"))); len(got) != 1 || got[0] != "o" {
				t.Errorf("matches %v, want o", got)
			}
		})
	}
}

func TestPatternsOfOneTaskAreBoundedTogether(t *testing.T) {
	t.Parallel()
	var docs []string
	for i := range 20 {
		docs = append(docs, v11("d"+string(rune('a'+i)), either(item("FileItem/FileName matches "+string(rune('a'+i))+strings.Repeat("(b{90}){10}", 3)))))
	}
	_, report := query(t, docs...)
	if report.UnsupportedTotal < 8 || report.UnsupportedTotal == 20 {
		t.Errorf("%d of 20 refused, want about half", report.UnsupportedTotal)
	}
}
