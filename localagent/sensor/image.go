package sensor

import (
	"path"
	"slices"
	"strings"
)

// maxCommandLine is how much of a command line is read and compared with rules; Linux allows 2 MiB and more.
const maxCommandLine = 32 << 10

// image is what a process runs. It does not change; a process that executes another program has another image.
type image struct {
	// path is the file, "" when the process had ended before it could be read; deleted says that it was removed since.
	path    string
	deleted bool
	// script is the file an interpreter runs, as the command line names it.
	script string
	// names are how rules may call it: file name, the same without a version, script, applet. Lower case.
	names []string
	// unseen says that the image could not be read in time. unreadable says that the process lived and its image could not be read
	// all the same: its path is longer than the kernel shows, or it is another user's. comm is the name the process had then, if that
	// is known.
	unseen, unreadable bool
	comm               string
}

// imageOf describes the file at path run with these arguments.
func imageOf(file string, deleted bool, args func() []string) *image {
	base := baseName(file)
	im := &image{path: file, deleted: deleted}
	im.name(base)
	plain := withoutVersion(strings.ToLower(base))
	im.name(plain)
	switch {
	case isMulticall(plain):
		// Which program this file is depends on the name it was called by.
		a := args()
		if len(a) > 1 && isMulticall(strings.ToLower(baseName(a[0]))) {
			a = a[1:]
		}
		if len(a) > 0 {
			im.name(baseName(a[0]))
			im.script = interpreterScript(strings.ToLower(baseName(a[0])), a)
		}
	default:
		if _, ok := interpreterNamed(plain); ok {
			im.script = interpreterScript(plain, args())
		}
	}
	if im.script != "" {
		im.name(baseName(im.script))
	}
	return im
}

func (im *image) name(n string) {
	n = strings.ToLower(n)
	if n != "" && !slices.Contains(im.names, n) {
		im.names = append(im.names, n)
	}
}

// named says that names are known.
func (im *image) named() bool { return !im.unseen && !im.unreadable }

// shown is the name for people: that of the script, else that of the file.
func (im *image) shown() string {
	switch {
	case im == nil:
		return ""
	case im.script != "":
		return baseName(im.script)
	case im.path != "":
		return baseName(im.path)
	default:
		return im.comm
	}
}

// key is what frequencies are counted by: the script an interpreter runs, else the file.
func (im *image) key() string {
	if im == nil {
		return ""
	}
	switch {
	case path.IsAbs(im.script):
		return im.script
	case im.unreadable:
		return "unreadable: " + im.comm
	}
	return im.path
}

// baseName takes both separators: programs of Windows may run under Linux, by wine or by name.
func baseName(p string) string {
	if i := strings.LastIndexAny(p, `/\`); i >= 0 {
		return p[i+1:]
	}
	return p
}

// withoutVersion turns python3.11 into python and php-fpm8.2 into php-fpm.
func withoutVersion(name string) string {
	short := strings.TrimRight(name, "0123456789.-")
	if short == "" {
		return name
	}
	return short
}

// arguments splits what the kernel keeps of a command line.
func arguments(line []byte) []string {
	if len(line) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
}

func isMulticall(name string) bool {
	return name == "busybox" || name == "toybox" || name == "coreutils"
}

// interpreter is how a program that runs scripts reads its command line.
type interpreter struct {
	// code are option letters after which the program is no file; value those that take the next argument.
	code, value string
	// file is the option whose argument is the program.
	file string
	// codeWords and valueWords are the same for long options.
	codeWords, valueWords []string
}

// interpreterNamed follows bash(1), dash(1), python3(1), perlrun(1), ruby(1), node(1), php(1), lua(1), tclsh(1), and about_pwsh at
// https://learn.microsoft.com/powershell/module/microsoft.powershell.core/about/about_pwsh.
func interpreterNamed(name string) (interpreter, bool) {
	switch name {
	case "bash", "sh", "dash", "ash", "zsh", "ksh", "mksh", "fish":
		return interpreter{code: "cs", value: "oO", valueWords: []string{"--rcfile", "--init-file", "+o", "+O"}}, true
	case "python", "pypy":
		return interpreter{code: "cm", value: "WX", valueWords: []string{"--check-hash-based-pycs"}}, true
	case "perl", "ruby":
		return interpreter{code: "eE", value: "Ir"}, true
	case "node", "nodejs":
		return interpreter{
			code: "ep", value: "rC", codeWords: []string{"--eval", "--print"},
			valueWords: []string{"--require", "--import", "--loader", "--conditions"},
		}, true
	case "php":
		return interpreter{code: "r", value: "dc", file: "-f"}, true
	case "lua", "luajit":
		return interpreter{value: "el"}, true
	case "tclsh", "wish", "expect":
		return interpreter{}, true
	case "pwsh":
		return interpreter{
			file: "-File", codeWords: []string{"-c", "-Command", "-e", "-EncodedCommand"},
			valueWords: []string{"-ExecutionPolicy", "-ex", "-ep", "-WorkingDirectory", "-wd", "-ConfigurationName", "-OutputFormat", "-o"},
		}, true
	default:
		return interpreter{}, false
	}
}

// interpreterScript returns the argument that names the program; "" when it came by another way or name is no interpreter.
func interpreterScript(name string, args []string) string {
	in, ok := interpreterNamed(name)
	if !ok {
		return ""
	}
	for i := 1; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--" || in.file != "" && arg == in.file:
			if i+1 < len(args) {
				return args[i+1]
			}
			return ""
		case arg == "" || arg == "-" || slices.Contains(in.codeWords, arg):
			return ""
		case slices.Contains(in.valueWords, arg):
			i++
		case arg[0] != '-' && arg[0] != '+':
			return arg
		case strings.HasPrefix(arg, "--"), in.file == "-File":
		default:
			letters := arg[1:]
			end := strings.IndexAny(letters, in.value)
			if end >= 0 {
				letters = letters[:end]
			}
			if strings.ContainsAny(letters, in.code) {
				return ""
			}
			if end >= 0 && end == len(arg)-2 { // the value is the next argument, not the rest of this one
				i++
			}
		}
	}
	return ""
}
