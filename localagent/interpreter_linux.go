package localagent

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// interpreter is an image whose file argument is what people call the program, and how its command line is read.
type interpreter struct {
	// names are file names of the image; a version may follow, as in python3.11.
	names []string
	// code are the option letters whose presence means that the program is no file; value the letters that take the rest of their
	// argument, or else the next one; glued those that take the rest only.
	code, value, glued string
	// codeWords and valueWords are the same for long options.
	codeWords, valueWords []string
	// file are the options that name the program.
	file []string
	// dash says that a lone "-" ends the options, as "--" does; else it is standard input.
	dash bool
	// words says that long options begin with one "-", and none can be put together.
	words bool
	// inline says that the first argument is the program itself.
	inline bool
}

// interpreters follows the manual pages bash(1), dash(1), zsh(1), mksh(1), fish(1), tcsh(1), gawk(1), python3(1), perlrun(1), ruby(1),
// node(1), php(1), lua(1), tclsh(1), ld.so(8) and about_pwsh of Microsoft.
var interpreters = []interpreter{
	{
		names: []string{"bash", "sh", "dash", "ash", "zsh", "ksh", "mksh", "lksh", "pdksh", "rbash", "rksh", "yash", "posh", "busybox", "osh"},
		code:  "cs", value: "oO", valueWords: []string{"--rcfile", "--init-file", "--emulate", "+o", "+O"}, dash: true,
	},
	{
		names: []string{"fish"}, code: "c", value: "Cdofp", codeWords: []string{"--command"},
		valueWords: []string{"--init-command", "--debug", "--debug-output", "--features", "--profile", "--profile-startup"},
	},
	{names: []string{"csh", "tcsh"}, code: "cs", file: []string{"-b"}},
	{
		names: []string{"awk", "gawk", "mawk", "nawk", "original-awk"}, code: "e", value: "Fvil", codeWords: []string{"--source"},
		valueWords: []string{"--field-separator", "--assign", "--include", "--load"}, file: []string{"-f", "--file", "-E", "--exec"}, inline: true,
	},
	{names: []string{"python", "pypy"}, code: "cm", value: "WX", valueWords: []string{"--check-hash-based-pycs"}},
	{names: []string{"perl"}, code: "eE", value: "I", glued: "MmiFxCDV:"},
	{
		names: []string{"ruby"}, code: "e", value: "IrCXE", glued: "WFKTix",
		valueWords: []string{"--encoding", "--external-encoding", "--internal-encoding", "--enable", "--disable"},
	},
	{
		names: []string{"node", "nodejs"}, code: "ep", value: "rC", codeWords: []string{"--eval", "--print"},
		valueWords: []string{
			"--require", "--import", "--loader", "--experimental-loader", "--conditions", "--title", "--env-file", "--input-type", "--icu-data-dir",
			"--inspect-port", "--openssl-config", "--redirect-warnings", "--unhandled-rejections", "--disable-warning", "--dns-result-order",
			"--diagnostic-dir", "--max-http-header-size", "--tls-cipher-list", "--watch-path",
		},
	},
	{names: []string{"php"}, code: "r", value: "dc", file: []string{"-f"}},
	{names: []string{"lua", "luajit"}, value: "el"},
	{names: []string{"tclsh"}},
	{
		names:      []string{"ld-linux", "ld-musl"},
		valueWords: []string{"--library-path", "--preload", "--argv0", "--audit", "--inhibit-rpath", "--glibc-hwcaps-prepend", "--glibc-hwcaps-mask"},
	},
	{
		names: []string{"pwsh"}, file: []string{"-File", "-f"}, codeWords: []string{"-c", "-Command", "-EncodedCommand", "-e"}, words: true,
		valueWords: []string{"-ExecutionPolicy", "-ex", "-ep", "-WorkingDirectory", "-wd", "-OutputFormat", "-o", "-InputFormat", "-SettingsFile"},
	},
}

// interpreterOf returns how to read the command line of image when that is an interpreter.
func interpreterOf(image string) (interpreter, bool) {
	base := path.Base(image)
	if i := strings.IndexAny(base, "0123456789"); i > 0 {
		base = strings.TrimRight(base[:i], ".-") // a version, and what it was built for: python3.13t, perl5.36-x86_64-linux-gnu
	}
	for _, loader := range []string{"ld-linux", "ld-musl"} {
		if strings.HasPrefix(base, loader) {
			base = loader // the rest names the processor: ld-linux-x86-64.so.2
		}
	}
	for _, in := range interpreters {
		if slices.Contains(in.names, base) {
			return in, true
		}
	}
	return interpreter{}, false
}

// script returns the argument that names the program; "" when the program came from the command line itself or
// from standard input. Arguments are separated by NUL bytes.
func (in interpreter) script(line []byte) string {
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	if slices.Contains(in.names, "busybox") { // one image for shell and awk
		if path.Base(args[0]) == "busybox" && len(args) > 1 {
			args = args[1:]
		}
		if applet, ok := interpreterOf(args[0]); ok {
			in = applet
		}
	}
	for i := 1; i < len(args); i++ {
		arg := args[i]
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		if name, ok := in.named(arg, next); ok {
			return name
		}
		switch {
		case !in.inline && (arg == "--" || arg == "-" && in.dash):
			return next
		case arg == "" || arg == "-" || arg == "--" || slices.Contains(in.codeWords, arg):
			return ""
		case slices.Contains(in.valueWords, arg):
			i++
		case arg[0] != '-' && arg[0] != '+':
			if in.inline {
				return ""
			}
			return arg
		case strings.HasPrefix(arg, "--"), in.words:
		default:
			code, takesNext := in.cluster(arg[1:])
			if code {
				return ""
			}
			if takesNext {
				i++
			}
		}
	}
	return ""
}

// named returns the program an option names, in this argument or the next.
func (in interpreter) named(arg, next string) (string, bool) {
	for _, f := range in.file {
		if arg == f {
			return next, true
		}
		if name, ok := strings.CutPrefix(arg, f+"="); ok {
			return name, true
		}
		if name, ok := strings.CutPrefix(arg, f); ok && len(f) == 2 && !in.words {
			return name, true
		}
	}
	return "", false
}

// cluster reads option letters such as xe, up to the first that takes the rest as its value.
func (in interpreter) cluster(letters string) (code, takesNext bool) {
	for i := range len(letters) {
		letter := letters[i : i+1]
		switch {
		case strings.Contains(in.code, letter):
			return true, false
		case strings.Contains(in.value, letter):
			return false, i+1 == len(letters)
		case strings.Contains(in.glued, letter):
			return false, false
		}
	}
	return false, false
}
