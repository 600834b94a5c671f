package prevention

import (
	"encoding/json"
	"fmt"
	"os"
)

// maxPacket bounds one message between the agent and its listener: three texts of 4 KiB as base64, or the lists of a status.
const maxPacket = 128 << 10

// What the agent asks of its listener.
const (
	doReload = "reload" // read the stored rules
	doStatus = "status"
	doResume = "resume" // close the breaker
)

// ask is a message of the agent.
type ask struct {
	Seq uint64
	Do  string
	// Broken opens the breaker again in a listener that is started after another, with the reason.
	Broken string `json:",omitempty"`
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
	b, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if len(b) > maxPacket {
		return fmt.Errorf("a message of %d bytes, the limit is %d", len(b), maxPacket)
	}
	_, err = conn.Write(b)
	return err
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
