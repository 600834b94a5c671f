package bridge_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/edr-bridge/edr-bridge/bridge"
)

func TestI6PathsThatNameNoCertainPlaceAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ path, want string }{
		"empty":                      {"", "is empty"},
		"relative":                   {`a.exe`, "is not absolute"},
		"relative with folder":       {`Users\a.exe`, "is not absolute"},
		"dot relative":               {`./a`, "is not absolute"},
		"home":                       {"~/a", "starts with ~"},
		"URL":                        {"file:///C:/a.exe", "is a URL"},
		"eaten backslashes":          {`C:UsersPublica.exe`, "backslashes were lost on the way"},
		"drive only":                 {`C:`, "backslashes were lost on the way"},
		"no drive":                   {`\Windows\a.exe`, "has no drive letter"},
		"dot dot":                    {`C:\Users\..\Windows\a.exe`, `holds ".."`},
		"dot dot with slashes":       {`C:/Users/../a.exe`, `holds ".."`},
		"POSIX dot dot":              {"/tmp/../etc/passwd", `holds ".."`},
		"UNC":                        {`\\server\share\a.exe`, "network share"},
		"UNC with slashes":           {`//server/share/a.exe`, "network share"},
		"long path prefix":           {`\\?\C:\a.exe`, "device path"},
		"long path prefix, slashes":  {`//?/C:/a.exe`, "device path"},
		"device prefix":              {`\\.\PhysicalDrive0`, "device path"},
		"NT prefix":                  {`\??\C:\a.exe`, "device path"},
		"stream":                     {`C:\a.exe:stream`, "alternate data stream"},
		"default stream":             {`C:\a.exe::$DATA`, "alternate data stream"},
		"stream of a folder":         {`C:\a:b\c`, "alternate data stream"},
		"device":                     {`C:\NUL`, "names the device"},
		"device with ending":         {`C:\Users\com1.txt`, "names the device"},
		"device with two endings":    {`C:\Users\aux.tar.gz`, "names the device"},
		"device with space":          {`C:\Users\con .txt`, "names the device"},
		"device in the middle":       {`C:\lpt9\a.exe`, "names the device"},
		"superscript device":         {`C:\COM²`, "names the device"},
		"console":                    {`C:\conout$`, "names the device"},
		"trailing dot":               {`C:\a.exe.`, "with a dot or space"},
		"trailing space":             {`C:\a.exe `, "with a dot or space"},
		"trailing dot of a folder":   {`C:\a.\b`, "with a dot or space"},
		"single dot":                 {`C:\.\a`, "with a dot or space"},
		"percent variable":           {`C:\%TEMP%\a.exe`, "holds a variable"},
		"percent variable (x86)":     {`C:\%ProgramFiles(x86)%\a.exe`, "holds a variable"},
		"leading percent variable":   {`%TEMP%\a.exe`, "starts with a variable"},
		"PowerShell variable":        {`$env:TEMP\a.exe`, "holds a variable"},
		"PowerShell variable inside": {`C:\$Env:TEMP\a.exe`, "holds a variable"},
		"shell variable":             {`$HOME/a`, "starts with a variable"},
		"shell variable inside":      {`/home/$USER/a`, "holds a variable"},
		"braced variable":            {`/home/${USER}/a`, "holds a variable"},
		"star":                       {`C:\Users\*.exe`, "wildcard"},
		"question mark":              {`C:\a?.exe`, "wildcard"},
		"POSIX star":                 {`/tmp/*`, "wildcard"},
		"kernel wildcard":            {`C:\Users\a<.exe`, "wildcard"},
		"quote":                      {`C:\"a.exe"`, "wildcard or quote"},
		"pipe":                       {`C:\a|b`, "no Windows file name"},
		"mixed separators":           {`/tmp\a`, "mixes / and"},
		"NUL":                        {"/tmp/a\x00.txt", "holds a NUL at byte 6"},
		"control":                    {"C:\\a\tb", "control character U+0009"},
		"delete character":           {"C:\\a\x7fb", "control character U+007F"},
		"bidi":                       {"/tmp/\u202egpj.exe", "invisible character U+202E"},
		"byte order mark":            {"\ufeffC:\\a", "invisible character U+FEFF"},
		"invalid UTF-8":              {"/tmp/\xff", "not valid UTF-8"},
		"32 k":                       {`C:\` + strings.Repeat(`a\`, 16_400) + "a", "UTF-16 units long, allowed are 32767"},
		"32 k of wide characters":    {`C:\` + strings.Repeat(`ж\`, 16_400) + "a", "UTF-16 units long"},
		"4 k on POSIX":               {strings.Repeat("/a", 2_100), "4200 bytes long, allowed are 4095"},
		"1 MiB":                      {"/" + strings.Repeat("a", 1<<20), "longer than any system takes"},
		"long name":                  {`C:\` + strings.Repeat("a", 256), "name of 256 UTF-16 units"},
		"long POSIX name":            {"/" + strings.Repeat("ж", 128), "name of 256 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, bridge.CheckPath(c.path), c.want)
			if c.path == "" {
				return
			}
			err := bridge.QuarantineFile{Path: c.path}.Validate()
			wantError(t, err, "params.path: ")
			wantError(t, err, c.want)
		})
	}
}

func TestI6PathsThatNameOnePlaceAreTaken(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"Windows":                 `C:\Users\Public\a.exe`,
		"Windows with slashes":    `C:/Users/Public/a.exe`,
		"Windows with both":       `c:\Users/Public\\a.exe`,
		"Windows root":            `D:\`,
		"folder":                  `C:\Program Files (x86)\`,
		"no ending":               `C:\Users\a`,
		"leading dot":             `C:\Users\.ssh\id`,
		"leading space":           `C:\Users\ a.exe`,
		"recycle bin":             `C:\$Recycle.Bin\S-1-5-21\$RABC.exe`,
		"URL-encoded":             `C:\Users\a\Downloads\My%20File%20v2.exe`,
		"one percent sign":        `C:\100%.txt`,
		"almost a device":         `C:\console\nul1\com10.txt`,
		"8.3":                     `C:\Users\JOHNDO~1\AppData\Local\Temp\a.exe`,
		"other letters":           `C:\Users\Жанна\счёт №1.pdf`,
		"zero-width non-joiner":   "C:\\Users\\می\u200cخواهم.txt",
		"255 units":               `C:\` + strings.Repeat("ж", 255),
		"POSIX":                   "/tmp/a",
		"POSIX root":              "/",
		"POSIX colon and dot":     "/tmp/a:b/c.",
		"POSIX spaces":            "/srv/my docs/a ",
		"POSIX device name":       "/tmp/con/nul.txt",
		"POSIX percent":           "/tmp/%20%",
		"POSIX dollar":            "/tmp/a$b",
		"POSIX double separators": "/tmp//a/./b",
	} {
		if err := bridge.CheckPath(path); err != nil {
			t.Errorf("%s: %s: %v", name, path, err)
		}
	}
}

func TestFileTasksRefusePathsOfFolders(t *testing.T) {
	t.Parallel()
	for _, path := range []string{`C:\`, `C:\Users\`, "C:/Users/", "/", "/tmp/", "/tmp/."} {
		wantError(t, bridge.DeleteFile{Path: path}.Validate(), "params.path: names a folder")
	}
}

func TestNormalPathMakesSpellingsOfOnePathEqual(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ path, want string }{
		"case":                {`C:\Users\PUBLIC\A.exe`, `c:\users\public\a.exe`},
		"slashes":             {`c:/users//public/a.exe`, `c:\users\public\a.exe`},
		"trailing":            {`C:\Users\`, `c:\users`},
		"root":                {`C:\`, `c:\`},
		"dots":                {`C:\Users\.\x\..\a`, `c:\users\a`},
		"dots above the root": {`C:\..\..\a`, `c:\a`},
		"long path prefix":    {`\\?\C:\Users\a`, `c:\users\a`},
		"NT prefix":           {`\??\C:\Users\a`, `c:\users\a`},
		"prefixed share":      {`\\?\UNC\Server\Share\a`, `\\server\share\a`},
		"share":               {`\\Server\Share\\a`, `\\server\share\a`},
		"Greek":               {`C:\ΣΊΣΥΦΟΣ`, `c:\σίσυφοσ`},
		"final sigma":         {`C:\σίσυφος`, `c:\σίσυφοσ`},
		"drive-relative":      {`C:Users`, `c:users`},
		"POSIX":               {"/tmp//a/./b/", "/tmp/a/b"},
		"POSIX case":          {"/tmp/A", "/tmp/A"},
		"POSIX dots":          {"/tmp/../etc/passwd", "/etc/passwd"},
		"POSIX root":          {"//", "/"},
		"name":                {"a.exe", "a.exe"},
		"empty":               {"", ""},
	} {
		if got := bridge.NormalPath(c.path); got != c.want {
			t.Errorf("%s: NormalPath(%q) = %q, want %q", name, c.path, got, c.want)
		}
	}
}

func TestBaseNameUnderstandsBothSystems(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		`C:\Users\a.exe`: "a.exe", `C:/Users/a.exe`: "a.exe", `C:\Users\`: "Users", `C:\`: "", `C:`: "", `C:a.exe`: "a.exe",
		`\\server\share\a`: "a", "/tmp/a": "a", `/tmp/a\b`: `a\b`, "/tmp/": "tmp", "/": "", "a.exe": "a.exe", "": "", `x\a/b`: "b",
	} {
		if got := bridge.BaseName(path); got != want {
			t.Errorf("BaseName(%q) = %q, want %q", path, got, want)
		}
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, path := range []string{`C:\Users\a.exe`, "/tmp/a", `\\?\C:\a`, `C:\a.exe:stream`, `C:\NUL.txt`, "/tmp/../a", `C:\PROGRA~1\a`, `\a\..\??\c:\x`} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		normal := bridge.NormalPath(path)
		if again := bridge.NormalPath(normal); again != normal {
			t.Fatalf("NormalPath(%q) = %q, and again %q", path, normal, again)
		}
		base := bridge.BaseName(path)
		err := bridge.CheckPath(path)
		if err != nil {
			if !utf8.ValidString(err.Error()) || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x202e }) {
				t.Fatalf("the error passes hostile text on: %q", err)
			}
			return
		}
		windows := len(path) > 1 && path[1] == ':' && path[0] != '/'
		switch {
		case !windows && path[0] != '/':
			t.Fatalf("%q is taken, but not absolute", path)
		case strings.ContainsAny(path, "\x00*?"):
			t.Fatalf("%q is taken with a NUL or wildcard", path)
		case strings.Contains(base, "/"), windows && strings.ContainsAny(base, `\:`):
			t.Fatalf("BaseName(%q) = %q holds a separator", path, base)
		case bridge.CheckPath(normal) != nil:
			t.Fatalf("%q is taken, its normal form %q is not: %v", path, normal, bridge.CheckPath(normal))
		}
		for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
			if segment == ".." {
				t.Fatalf("%q is taken with ..", path)
			}
		}
		if !windows {
			return
		}
		for _, other := range []string{strings.ReplaceAll(path, `\`, "/"), strings.ReplaceAll(path, "/", `\`), strings.ToUpper(path[:1]) + path[1:]} {
			if err := bridge.CheckPath(other); err != nil || bridge.NormalPath(other) != normal {
				t.Fatalf("%q is taken, but %q gives %v and %q", path, other, err, bridge.NormalPath(other))
			}
		}
	})
}
