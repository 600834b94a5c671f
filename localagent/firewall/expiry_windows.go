package firewall

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/windows"

	"github.com/edr-bridge/edr-bridge/localagent/files"
)

// The end of a filter must come even if the agent never runs again. The task scheduler sees to it: one task runs this program
// with expiryArguments at the nearest end, every minute from then on until nothing is due, and after each start of the machine.

const (
	expiryTask      = "edr-bridge-firewall"
	expiryArguments = "service expire"
	// systemSID is LocalSystem (learn.microsoft.com, well-known SIDs).
	systemSID = "S-1-5-18"
	// scheduleWait bounds schtasks.exe.
	scheduleWait = 20 * time.Second
	// maxTaskFile bounds what is read of a task.
	maxTaskFile = 64 << 10
	taskTime    = "2006-01-02T15:04:05Z"
)

// scheduler plans the end of filters outside of this process.
type scheduler interface {
	// set makes the task due at that time and reads it back.
	set(ctx context.Context, at time.Time) error
	// clear removes the task and looks whether it is gone.
	clear(ctx context.Context) error
}

// taskScheduler is that of Windows.
type taskScheduler struct {
	// tool is schtasks.exe, tasks the folder where the service keeps what it knows, program what the task runs.
	tool, tasks, program string
	// judge refuses a program others could replace.
	judge func(string) error
}

var _ scheduler = taskScheduler{}

func systemScheduler() (scheduler, error) {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return nil, fmt.Errorf("system folder: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	return taskScheduler{filepath.Join(system, "schtasks.exe"), filepath.Join(system, "Tasks"), program, files.CheckSystemProgram}, nil
}

// The task as the scheduler takes it (learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema).
type (
	taskXML struct {
		XMLName     xml.Name   `xml:"http://schemas.microsoft.com/windows/2004/02/mit/task Task"`
		Version     string     `xml:"version,attr"`
		Description string     `xml:"RegistrationInfo>Description"`
		Boot        *bootXML   `xml:"Triggers>BootTrigger"`
		Time        *timeXML   `xml:"Triggers>TimeTrigger"`
		Principal   principal  `xml:"Principals>Principal"`
		Settings    settingXML `xml:"Settings"`
		Actions     actionsXML `xml:"Actions"`
	}
	bootXML struct {
		Enabled bool `xml:"Enabled"`
	}
	timeXML struct {
		Every   string `xml:"Repetition>Interval"`
		Start   string `xml:"StartBoundary"`
		Enabled bool   `xml:"Enabled"`
	}
	principal struct {
		ID       string `xml:"id,attr"`
		User     string `xml:"UserId"`
		RunLevel string `xml:"RunLevel"`
	}
	settingXML struct {
		Instances   string `xml:"MultipleInstancesPolicy"`
		NoBatteries bool   `xml:"DisallowStartIfOnBatteries"`
		EndOnBatt   bool   `xml:"StopIfGoingOnBatteries"`
		Missed      bool   `xml:"StartWhenAvailable"`
		Enabled     bool   `xml:"Enabled"`
		Limit       string `xml:"ExecutionTimeLimit"`
	}
	actionsXML struct {
		Context string  `xml:"Context,attr"`
		Exec    execXML `xml:"Exec"`
	}
	execXML struct {
		Command   string `xml:"Command"`
		Arguments string `xml:"Arguments"`
	}
)

func (s taskScheduler) task(at time.Time) *taskXML {
	return &taskXML{
		Version: "1.2", Description: "Ends isolations and blocks of edr-bridge on time, also when the agent does not run.",
		Boot: &bootXML{true}, Time: &timeXML{"PT1M", at.UTC().Format(taskTime), true},
		Principal: principal{"Author", systemSID, "HighestAvailable"},
		Settings:  settingXML{Instances: "IgnoreNew", Missed: true, Enabled: true, Limit: "PT5M"},
		Actions:   actionsXML{"Author", execXML{s.program, expiryArguments}},
	}
}

func (s taskScheduler) set(ctx context.Context, at time.Time) error {
	if err := s.judge(s.program); err != nil {
		return fmt.Errorf("plan the end: SYSTEM would run this program each minute, so nobody else may be able to replace it: install it below the folder of programs: %w", err)
	}
	at = at.UTC().Truncate(time.Second)
	if due, err := s.due(); err == nil && due.Equal(at) {
		return nil
	}
	doc, err := encodeTask(s.task(at))
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("", "edr-bridge-*.xml")
	if err != nil {
		return fmt.Errorf("plan the end: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(doc)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("plan the end: %w", err)
	}
	ran := s.run(ctx, "/create", "/tn", expiryTask, "/xml", f.Name(), "/f")
	// What stands in the scheduler's folder counts, not what the tool says of itself.
	due, err := s.due()
	if err != nil || !due.Equal(at) {
		return fmt.Errorf("plan the end in the task scheduler: the task did not read back (is the service Schedule running?): %w",
			errors.Join(err, ran, s.clear(ctx)))
	}
	return nil
}

func (s taskScheduler) clear(ctx context.Context) error {
	if due, err := s.due(); err == nil && due.IsZero() {
		return nil
	}
	ran := s.run(ctx, "/delete", "/tn", expiryTask, "/f")
	if _, err := os.Lstat(filepath.Join(s.tasks, expiryTask)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the planned end from the task scheduler: it is still there: %w", errors.Join(err, ran))
	}
	return nil
}

func (s taskScheduler) run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, scheduleWait)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.tool, args...).CombinedOutput() //nolint:gosec // a fixed tool and words of ours
	if err != nil {
		return fmt.Errorf("schtasks: %w: %q", err, bytes.TrimSpace(out[:min(len(out), 200)]))
	}
	return nil
}

// due reads from the scheduler's folder when our task runs; zero = there is none. A task that is not as we make it is an error.
func (s taskScheduler) due() (time.Time, error) {
	f, err := os.Open(filepath.Join(s.tasks, expiryTask))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = f.Close() }()
	doc, err := io.ReadAll(io.LimitReader(f, maxTaskFile))
	if err != nil {
		return time.Time{}, err
	}
	got, err := decodeTask(doc)
	if err != nil {
		return time.Time{}, fmt.Errorf("the task is no task: %w", err)
	}
	if got.Time == nil || !got.Time.Enabled || !got.Settings.Enabled || got.Principal.User != systemSID || got.Actions.Exec != s.task(time.Time{}).Actions.Exec {
		return time.Time{}, errors.New("the task is another one than we make")
	}
	at, err := time.Parse(taskTime, got.Time.Start)
	if err != nil {
		return time.Time{}, fmt.Errorf("the time of the task: %w", err)
	}
	return at, nil
}

// encodeTask writes the task in UTF-16, which schtasks.exe reads whatever the code page is.
func encodeTask(t *taskXML) ([]byte, error) {
	body, err := xml.MarshalIndent(t, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("plan the end: %w", err)
	}
	units := utf16.Encode([]rune("\ufeff<?xml version=\"1.0\" encoding=\"UTF-16\"?>\r\n" + string(body)))
	out := make([]byte, 0, 2*len(units))
	for _, u := range units {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out, nil
}

func decodeTask(doc []byte) (*taskXML, error) {
	if len(doc) >= 2 && doc[0] == 0xff && doc[1] == 0xfe {
		units := make([]uint16, 0, len(doc)/2)
		for i := 2; i+1 < len(doc); i += 2 {
			units = append(units, binary.LittleEndian.Uint16(doc[i:]))
		}
		doc = []byte(string(utf16.Decode(units)))
	}
	dec := xml.NewDecoder(bytes.NewReader(doc))
	// The declaration still names the encoding the bytes had.
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var t taskXML
	if err := dec.Decode(&t); err != nil {
		return nil, err
	}
	return &t, nil
}

// expire takes away every filter whose time is over and returns the nearest end of those that stay; zero = none has one.
func expire(e engine, now time.Time) (removed int, next time.Time, err error) {
	all, err := readFilters(e)
	if err != nil {
		return 0, time.Time{}, err
	}
	var errs []error
	kept := 0
	for _, f := range blocksFirst(all) {
		left, forever := f.tag.left(now)
		if !forever && left <= 0 {
			if err := e.remove(f.ID); err != nil {
				errs = append(errs, fmt.Errorf("remove a filter whose time is over: %w", err))
				continue
			}
			removed++
			continue
		}
		kept++
		if end := now.Add(left); !forever && (next.IsZero() || end.Before(next)) {
			next = end
		}
	}
	if kept == 0 && len(errs) == 0 {
		errs = append(errs, e.tidy())
	}
	return removed, next, errors.Join(errs...)
}

// Expire takes away isolations and blocks whose time is over, plans the next end in the task scheduler, and returns how many
// filters it took away. The task scheduler runs it through `edr-bridge service expire`; it blocks for some milliseconds, and up
// to 40 s when the task scheduler does not answer or another process changes the filters. What is over goes in any case: one that hangs
// must not keep a machine isolated.
func (w *Firewall) Expire(ctx context.Context) (removed int, err error) {
	within, cancel := context.WithTimeout(ctx, finishWait)
	defer cancel()
	unlock, busy := w.lock(within)
	if busy == nil {
		defer unlock()
	}
	err = w.platform.with(func(e engine) error {
		var next time.Time
		if removed, next, err = expire(e, w.cfg.Now()); err != nil {
			return fmt.Errorf("end what is over: %w", err)
		}
		if busy != nil {
			return fmt.Errorf("the next end stays planned as it is: %w", busy)
		}
		return w.platform.plan(ctx, next)
	})
	return removed, err
}
