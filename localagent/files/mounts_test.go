package files

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const sampleMounts = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
28 27 254:0 /home /mnt/a\040b rw,relatime shared:3 master:2 - ext4 /dev/vda rw
30 27 0:30 / /mnt/nfs rw - nfs4 host:/x\134y rw
31 27 0:31 / /mnt/u rw - fuse.sshfs u@h: rw
32 27 0:32 net:[4026531840] /run/n rw - nsfs  rw
`

func TestMountsAreReadWithAllTheirFields(t *testing.T) {
	t.Parallel()
	all, err := ParseMounts(strings.NewReader(sampleMounts))
	if err != nil || len(all) != 6 {
		t.Fatalf("%v, %v", all, err)
	}
	want := Mount{28, 27, "254:0", "/home", "/mnt/a b", "rw,relatime", "rw", "ext4", "/dev/vda"}
	if all[2] != want || all[3].Source != `host:/x\y` || all[1].SuperOptions != "rw,discard" {
		t.Errorf("got %+v, %+v and %+v", all[1], all[2], all[3])
	}
	// A file system made of nothing has an empty source, not that of the next field.
	if m := all[5]; m.Source != "" || m.SuperOptions != "rw" || m.Root != "net:[4026531840]" {
		t.Errorf("got %+v", m)
	}
}

func TestWhatIsNoMountIsLeftOutAndTold(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"nonsense", "", "x 27 0:31 / /mnt/u rw - tmpfs none rw", "1 x 0:31 / /mnt/u rw - tmpfs none rw", "1 1 0 / /mnt/u rw - tmpfs none rw",
		"1 1 0:../x / /mnt/u rw - tmpfs none rw", "1 1 0:31 / mnt/u rw - tmpfs none rw", "1 1 0:31 / /mnt/u - tmpfs none rw",
		"1 1 0:31 / /mnt/u rw - tmpfs", "1 1 0:31 / /mnt/u rw -  none rw", "1 1 0:31 / /mnt/u rw tmpfs none rw",
	} {
		all, err := ParseMounts(strings.NewReader(sampleMounts + bad + "\n" + sampleMounts))
		if !errors.Is(err, ErrMountsPartial) || !strings.Contains(err.Error(), "line 7 ") || len(all) != 12 {
			t.Errorf("%q: %d mounts, %v", bad, len(all), err)
		}
	}
	// A list that breaks off is no list with parts left out.
	for name, r := range map[string]io.Reader{
		"long line": strings.NewReader("bad\n" + sampleMounts + strings.Repeat("x", maxMountLine+1)),
		"fault":     io.MultiReader(strings.NewReader("bad\n"+sampleMounts), iotest.ErrReader(io.ErrUnexpectedEOF)),
	} {
		if all, err := ParseMounts(r); err == nil || errors.Is(err, ErrMountsPartial) || all != nil {
			t.Errorf("%s: %d mounts, %v", name, len(all), err)
		}
	}
	line := "1 1 0:31 / /mnt/" + strings.Repeat("u", 1<<19) + " rw - tmpfs none rw\n"
	all, err := ParseMounts(strings.NewReader(strings.Repeat(line, maxMountInfo/len(line)+1)))
	if !errors.Is(err, ErrMountsPartial) || len(all) < maxMountInfo/len(line) {
		t.Errorf("more than the bound: %d mounts, %v", len(all), err)
	}
}

func TestMountPointsAreUnescaped(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`/a\040b\011c\012d\134e\134040`: "/a b\tc\nd\\e\\040", `/a\043b`: "/a#b", `/a\`: `/a\`, `/a\04`: `/a\04`, `/a\999`: `/a\999`, "/a\u00a0\rb": "/a\u00a0\rb",
	} {
		if got := unescapeMount(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	// Names may have white space the kernel does not escape.
	all, err := ParseMounts(strings.NewReader("1 1 8:1 / /a\u00a0b\rc rw - ext4 /dev/sda1 rw\n"))
	if err != nil || len(all) != 1 || all[0].Point != "/a\u00a0b\rc" || all[0].Type != "ext4" {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestALaterMountHidesAnEarlierAtTheSamePlace(t *testing.T) {
	t.Parallel()
	all := []Mount{{ID: 1, Point: "/a"}, {ID: 2, Point: "/b"}, {ID: 3, Point: "/a"}, {ID: 4, Point: "/a/c"}, {ID: 5, Point: "/a"}}
	if got, want := fmt.Sprint(TopMounts(all)), fmt.Sprint([]Mount{all[1], all[3], all[4]}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzMounts(f *testing.F) {
	f.Add(sampleMounts)
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\nnonsense\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ParseMounts(strings.NewReader(text))
		if len(all) > strings.Count(text, " - ") || err != nil && !errors.Is(err, ErrMountsPartial) && all != nil {
			t.Fatalf("%d mounts, %v", len(all), err)
		}
		for _, m := range all {
			if !strings.HasPrefix(m.Point, "/") || m.Type == "" || !isDevice(m.Device) || strings.ContainsAny(m.Device, "/.\\ ") {
				t.Errorf("got %+v", m)
			}
		}
		top := TopMounts(all)
		for i, m := range top {
			if slices.ContainsFunc(top[i+1:], func(o Mount) bool { return o.Point == m.Point }) {
				t.Errorf("%q is there twice", m.Point)
			}
		}
	})
}
