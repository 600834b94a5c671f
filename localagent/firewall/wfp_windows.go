package firewall

import (
	"errors"
	"fmt"

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"
)

// The Windows Filtering Platform keeps what was put into it persistently until somebody takes it away: over the end of this
// program, over a restart of its own service, and over a reboot (learn.microsoft.com/windows/win32/fwp/object-lifetimes). It
// knows no time, so every filter carries its end with it (tag), and whoever runs first after that end takes it away.

const (
	engineName = "edr-bridge"
	// sublayerWeight puts our sublayers before all others; a block in any of them is final
	// (learn.microsoft.com/windows/win32/fwp/filter-arbitration).
	isolationWeight, blockWeight = 0xffff, 0xfffe
)

// Answers of the filtering platform (fwpmtypes.h, winerror.h).
const (
	fwpFilterNotFound   = windows.Errno(0x80320003)
	fwpProviderNotFound = windows.Errno(0x80320005)
	fwpSublayerNotFound = windows.Errno(0x80320007)
	fwpAlreadyExists    = windows.Errno(0x80320009)
	fwpInUse            = windows.Errno(0x8032000a)
	epNotRegistered     = windows.Errno(0x6d9) // EPT_S_NOT_REGISTERED: the service BFE does not run
)

// The keys of our objects. They never change: what an older version left behind is found by them.
func ourProvider() wf.ProviderID {
	return wf.ProviderID{Data1: 0x5e1d0b6a, Data2: 0x8f3c, Data3: 0x4b7e, Data4: [8]byte{0x9a, 0x41, 0x65, 0x64, 0x72, 0x62, 0x72, 0x01}}
}

func isolationSublayer() wf.SublayerID {
	return wf.SublayerID{Data1: 0x5e1d0b6a, Data2: 0x8f3c, Data3: 0x4b7e, Data4: [8]byte{0x9a, 0x41, 0x65, 0x64, 0x72, 0x62, 0x72, 0x02}}
}

func blockSublayer() wf.SublayerID {
	return wf.SublayerID{Data1: 0x5e1d0b6a, Data2: 0x8f3c, Data3: 0x4b7e, Data4: [8]byte{0x9a, 0x41, 0x65, 0x64, 0x72, 0x62, 0x72, 0x03}}
}

// engine is the filtering platform as far as this package needs it. It sees only filters of our provider.
type engine interface {
	// prepare makes provider and sublayers unless they are there.
	prepare() error
	// filters returns all filters of our provider, disabled ones marked.
	filters() ([]*wf.Rule, error)
	add(f *wf.Rule) error
	// remove takes a filter away; one that is gone already is no error.
	remove(id wf.RuleID) error
	// tidy removes sublayers and provider when no filter uses them any more. The platform itself refuses while one does.
	tidy() error
	close()
}

// platformEngine is the real one: tailscale/wf changes, filterReader reads.
type platformEngine struct {
	session *wf.Session
	reader  *filterReader
}

var _ engine = (*platformEngine)(nil)

// openEngine connects to the filtering platform. It needs an administrator and the service BFE.
func openEngine() (engine, error) {
	// A DLL or function that is not there would end the program inside of wf.
	if err := windows.NewLazySystemDLL("fwpuclnt.dll").NewProc("FwpmEngineOpen0").Find(); err != nil {
		return nil, engineProblem("open the packet filter", err)
	}
	s, err := wf.New(&wf.Options{Name: engineName})
	if err != nil {
		return nil, engineProblem("open the packet filter", err)
	}
	r, err := openFilterReader()
	if err != nil {
		return nil, errors.Join(engineProblem("open the packet filter", err), s.Close())
	}
	return &platformEngine{s, r}, nil
}

func (e *platformEngine) close() {
	e.reader.close()
	_ = e.session.Close()
}

func (e *platformEngine) prepare() error {
	err := e.session.AddProvider(&wf.Provider{ID: ourProvider(), Name: engineName, Description: "response tasks of edr-bridge", Persistent: true})
	if err != nil && !errors.Is(err, fwpAlreadyExists) {
		return fmt.Errorf("add the provider: %w", err)
	}
	for _, l := range []*wf.Sublayer{
		{ID: isolationSublayer(), Name: "edr-bridge isolation", Persistent: true, Provider: ourProvider(), Weight: isolationWeight},
		{ID: blockSublayer(), Name: "edr-bridge blocks", Persistent: true, Provider: ourProvider(), Weight: blockWeight},
	} {
		if err := e.session.AddSublayer(l); err != nil && !errors.Is(err, fwpAlreadyExists) {
			return fmt.Errorf("add the sublayer %s: %w", l.Name, err)
		}
	}
	return nil
}

func (e *platformEngine) filters() ([]*wf.Rule, error) {
	return e.reader.filters(windows.GUID(ourProvider()))
}

func (e *platformEngine) add(f *wf.Rule) error { return e.session.AddRule(f) }

func (e *platformEngine) remove(id wf.RuleID) error {
	if err := e.session.DeleteRule(id); err != nil && !errors.Is(err, fwpFilterNotFound) {
		return err
	}
	return nil
}

func (e *platformEngine) tidy() error {
	for _, id := range []wf.SublayerID{isolationSublayer(), blockSublayer()} {
		if err := e.session.DeleteSublayer(id); err != nil && !errors.Is(err, fwpSublayerNotFound) {
			return fmt.Errorf("remove a sublayer: %w", err)
		}
	}
	if err := e.session.DeleteProvider(ourProvider()); err != nil && !errors.Is(err, fwpProviderNotFound) {
		return fmt.Errorf("remove the provider: %w", err)
	}
	return nil
}

// engineProblem says what is missing when the packet filter cannot be used. The errors wrap errors.ErrUnsupported where this
// system has none.
func engineProblem(doing string, err error) error {
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return fmt.Errorf("%s: %w: the agent needs to run as SYSTEM or administrator", doing, err)
	case errors.Is(err, epNotRegistered), errors.Is(err, windows.RPC_S_SERVER_UNAVAILABLE):
		return fmt.Errorf("%s: %w: the service BFE (Base Filtering Engine) does not run; without it Windows has no firewall at all", doing, err)
	case errors.Is(err, windows.ERROR_NOT_SUPPORTED), errors.Is(err, windows.ERROR_PROC_NOT_FOUND), errors.Is(err, windows.ERROR_MOD_NOT_FOUND),
		errors.Is(err, windows.ERROR_CALL_NOT_IMPLEMENTED), errors.Is(err, windows.RPC_S_CANNOT_SUPPORT):
		return fmt.Errorf("%s: %w: this Windows has no filtering platform: send the order through KSC: %w", doing, err, errors.ErrUnsupported)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}
