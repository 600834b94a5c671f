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
	// code are the option letters whose presence means that the program is no file; value the letters that take
	// the next argument when they end an option; file the option that names the program.
	code, value, file string
	// codeWords and valueWords are the same for long options.
	codeWords, valueWords []string
}

// interpreters follows the manual pages bash(1), dash(1), python3(1), perlrun(1), ruby(1), node(1), php(1), lua(1),
// tclsh(1) and about_pwsh of Microsoft.
var interpreters = []interpreter{
	{
		names: []string{"bash", "sh", "dash", "ash", "zsh", "ksh", "fish", "busybox", "osh"},
		code:  "cs", value: "oO", valueWords: []string{"--rcfile", "--init-file", "+o", "+O"},
	},
	{names: []string{"python", "pypy"}, code: "cm", value: "WX", valueWords: []string{"--check-hash-based-pycs"}},
	{names: []string{"perl", "ruby"}, code: "eE", value: "Ir"},
	{
		names: []string{"node", "nodejs"}, code: "ep", value: "rC",
		codeWords: []string{"--eval", "--print"}, valueWords: []string{"--require", "--import", "--loader", "--conditions"},
	},
	{names: []string{"php"}, code: "r", value: "dc", file: "-f"},
	{names: []string{"lua", "luajit"}, value: "el"},
	{names: []string{"tclsh"}},
	{names: []string{"pwsh"}, file: "-File", codeWords: []string{"-c", "-Command", "-EncodedCommand", "-e"}},
}

// interpreterOf returns how to read the command line of image when that is an interpreter.
func interpreterOf(image string) (interpreter, bool) {
	base := strings.TrimRight(path.Base(image), "0123456789.-")
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
	if path.Base(args[0]) == "busybox" {
		args = args[1:]
	}
	for i := 1; i < len(args); i++ {
		arg := args[i]
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		switch {
		case arg == "--", in.file != "" && arg == in.file:
			return next
		case arg == "" || arg == "-" || slices.Contains(in.codeWords, arg):
			return ""
		case slices.Contains(in.valueWords, arg):
			i++
		case arg[0] != '-' && arg[0] != '+':
			return arg
		case strings.HasPrefix(arg, "--"), in.file == "-File":
		case strings.ContainsAny(in.letters(arg), in.code):
			return ""
		case strings.ContainsAny(arg[len(arg)-1:], in.value):
			i++
		}
	}
	return ""
}

// letters returns the option letters of a cluster such as -xe, up to the first that takes the rest as its value.
func (in interpreter) letters(arg string) string {
	cluster := arg[1:]
	if i := strings.IndexAny(cluster, in.value); i >= 0 {
		return cluster[:i]
	}
	return cluster
}
