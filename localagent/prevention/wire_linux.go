package prevention

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// maxPacket bounds one message between the agent and its listener: three texts of 4 KiB as base64, or the lists of a status.
const maxPacket = 128 << 10

// What the agent asks of its listener.
const (
	doReload = "reload" // read the stored rules
	doStatus = "status"
	doResume = "resume" // let rules deny again that the breaker stopped
)

// errTooLong says that a message was not sent.
var errTooLong = errors.New("the message is too long")

// beginning is the first message of the agent: how it guards. The settings may have been edited since it read them, and the listener
// reads them whenever it is started.
type beginning struct {
	State, Disable   string
	Mode             Mode
	Deadline, Stall  time.Duration
	Workers, Breaker int
}

func beginningOf(cfg *Config) beginning {
	return beginning{cfg.State, cfg.Disable, cfg.mode(), cfg.Deadline, cfg.Stall, cfg.Workers, cfg.Breaker}
}

// adopt replaces what cfg says by what the agent does.
func (b beginning) adopt(cfg Config) Config {
	cfg.State, cfg.Disable, cfg.Mode, cfg.DryRun = b.State, b.Disable, b.Mode, false
	cfg.Deadline, cfg.Stall, cfg.Workers, cfg.Breaker = b.Deadline, b.Stall, b.Workers, b.Breaker
	return cfg
}

// ask is a message of the agent.
type ask struct {
	Seq uint64
	Do  string
	// Rule is the id of the rule that came with a reload: somebody waits to know whether it is in effect.
	Rule string `json:",omitempty"`
}

// say is a message of the listener: an answer (Seq is that of the ask), the first words of all (Seq 0, Status set, or Err), or a denial.
type say struct {
	Seq    uint64
	Err    string      `json:",omitempty"`
	Status *Status     `json:",omitempty"`
	Denial *wireDenial `json:",omitempty"`
}

// wireDenial carries the texts of a Denial as bytes: the system does not promise that they are UTF-8.
type wireDenial struct {
	Denial

	PathBytes, ExeBytes, CmdlineBytes []byte
}

func packDenial(d Denial) *wireDenial {
	w := &wireDenial{d, []byte(d.Path), []byte(d.Caller.Exe), []byte(d.Caller.Cmdline)}
	w.Path, w.Caller.Exe, w.Caller.Cmdline = "", "", ""
	return w
}

func (w *wireDenial) unpack() Denial {
	d := w.Denial
	d.Path, d.Caller.Exe, d.Caller.Cmdline = string(w.PathBytes), string(w.ExeBytes), string(w.CmdlineBytes)
	return d
}

// send writes one packet; conn is a socket that keeps their bounds (SOCK_SEQPACKET).
func send(conn *os.File, message any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(message); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if b.Len() > maxPacket {
		return fmt.Errorf("%w: %d bytes, the limit is %d", errTooLong, b.Len(), maxPacket)
	}
	_, err := conn.Write(b.Bytes())
	return err
}

// sendStatus sends an answer, without the lists of its status when they make it too long: they must not end the guard.
func sendStatus(conn *os.File, message say) error {
	err := send(conn, message)
	if !errors.Is(err, errTooLong) || message.Status == nil {
		return err
	}
	short := *message.Status
	short.Filesystems, short.Skipped = nil, []string{"the list of file systems is too long to be told"}
	message.Status = &short
	return send(conn, message)
}

// receive reads one packet into message; buf has maxPacket bytes. The end of the other side is io.EOF.
func receive(conn *os.File, buf []byte, message any) error {
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(buf[:n], message); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}
