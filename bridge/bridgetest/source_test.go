package bridgetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// memory is a transport in memory, and memorySource a durable source on it. Its flaws are switched on one by one to
// show that the suite sees them.
type memory struct {
	mu      sync.Mutex
	docs    [][]byte // not settled
	letters [][]byte
}

type flaws struct {
	reversed, deaf, twice, reused, lossy, eager, forgetful, unclosed, anonymous, unaware bool
}

type memorySource struct {
	m      *memory
	flaws  flaws
	closed chan struct{}
	mu     sync.Mutex
	next   int
	again  [][]byte
	buffer []byte
}

func (s *memorySource) Receive(ctx context.Context) (bridge.Delivery, error) {
	for {
		if !s.flaws.deaf && ctx.Err() != nil {
			return bridge.Delivery{}, context.Cause(ctx)
		}
		select {
		case <-s.closed:
			if !s.flaws.unclosed {
				return bridge.Delivery{}, bridge.ErrClosed
			}
		default:
		}
		if d, ok := s.take(); ok {
			return d, nil
		}
		if s.flaws.deaf {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-s.closed:
			}
			continue
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (s *memorySource) take() (bridge.Delivery, bool) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var doc []byte
	switch {
	case len(s.again) > 0:
		doc, s.again = s.again[0], s.again[1:]
	case s.next < len(s.m.docs):
		i := s.next
		if s.flaws.reversed && s.next+1 < len(s.m.docs) {
			i, s.m.docs[s.next], s.m.docs[s.next+1] = s.next, s.m.docs[s.next+1], s.m.docs[s.next]
		}
		doc = s.m.docs[i]
		s.next++
	default:
		return bridge.Delivery{}, false
	}
	raw := append([]byte(nil), doc...)
	if s.flaws.reused {
		raw = append(s.buffer[:0], doc...)
		s.buffer = raw
	}
	var once sync.Once
	a := bridge.Alert{Source: "memory", Preset: "plain", Received: time.Now().UTC(), Raw: raw}
	if s.flaws.anonymous {
		a.Source = ""
	}
	return bridge.Delivery{Alert: a, Settle: func(_ context.Context, err error) error {
		answer := errors.New("settled already")
		once.Do(func() { answer = s.settle(doc, err) })
		if s.flaws.twice {
			return nil
		}
		return answer
	}}, true
}

func (s *memorySource) settle(doc []byte, err error) error {
	select {
	case <-s.closed:
		return bridge.ErrClosed
	default:
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := errors.Is(err, bridge.ErrBadAlert)
	if (bad && s.flaws.unaware) || (err != nil && !bad && !s.flaws.forgetful) || (err == nil && s.flaws.eager) {
		s.again = append(s.again, doc)
		return nil
	}
	if bad && !s.flaws.lossy {
		s.m.letters = append(s.m.letters, doc)
	}
	for i, d := range s.m.docs {
		if &d[0] == &doc[0] {
			s.m.docs = append(s.m.docs[:i:i], s.m.docs[i+1:]...)
			s.next--
			break
		}
	}
	return nil
}

func openMemory(m *memory, f flaws) SourceUnderTest {
	s := &memorySource{m: m, flaws: f, closed: make(chan struct{})}
	var once sync.Once
	return SourceUnderTest{
		Source: s, Name: "memory", Preset: "plain", Durable: true, Patience: time.Second, Quiet: 50 * time.Millisecond,
		Send: func(_ context.Context, doc []byte) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.docs = append(m.docs, append([]byte(nil), doc...))
			return nil
		},
		Close: func(context.Context) error {
			once.Do(func() { close(s.closed) })
			return nil
		},
		Reopen: func(*testing.T) SourceUnderTest { return openMemory(m, f) },
		DeadLetters: func(context.Context) ([][]byte, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return append([][]byte(nil), m.letters...), nil
		},
	}
}

func TestSourceSuiteAcceptsACorrectSource(t *testing.T) {
	t.Parallel()
	TestSource(t, func(*testing.T) SourceUnderTest { return openMemory(&memory{}, flaws{}) })
}

func TestSourceSuiteSeesFlaws(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		flaws flaws
		check string
		want  string
	}{
		{"wrong order", flaws{reversed: true}, "in order", "want"},
		{"no source name", flaws{anonymous: true}, "in order", "alert is of source"},
		{"acknowledged document comes again", flaws{eager: true}, "in order", "document 1 is"},
		{"context ignored before receiving", flaws{deaf: true}, "ended context at once", "want its cause"},
		{"context ignored while receiving", flaws{deaf: true}, "unblocks", "its context"},
		{"second settle accepted", flaws{twice: true}, "twice", "accepted"},
		{"one buffer for all", flaws{reused: true}, "its own bytes", "turned into"},
		{"bad alert comes again", flaws{unaware: true}, "bad alert", "want"},
		{"bad alert not kept", flaws{lossy: true}, "bad alert", "not among the dead letters"},
		{"goes on after the end", flaws{unclosed: true}, "after the end", "want ErrClosed"},
		{"forgets what was not taken", flaws{forgetful: true}, "settled with an error", "do not come again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got error
			for _, check := range sourceChecks() {
				if strings.Contains(check.name, c.check) {
					u := openMemory(&memory{}, c.flaws)
					got = check.run(t.Context(), &u)
					_ = u.Close(t.Context())
				}
			}
			if got == nil {
				t.Fatal("the suite did not notice")
			}
			if !strings.Contains(got.Error(), c.want) {
				t.Fatalf("the suite says %q, want %q in it", got, c.want)
			}
		})
	}
}
