// Package wire is what daemon and worker say to each other, over a socket pair
// of whole packets: a packet is one JSON document of at most MaxPacket bytes,
// with the file descriptors it speaks of beside it.
//
//	daemon → worker                    worker → daemon
//	add     a lane; its memory and     hello   version of this protocol, of OpenCV
//	        two eventfds: published,   opened  size and rate of the source
//	        freed                      beat    every Settings.Beat: alive, counters
//	start   what to capture; a file    error   one file or frame failed; fatal:
//	        with the settings                  the worker ends because of it
//	remove  a lane                     end     the source has ended
//	stop    close and end
//
// The lanes that are there come before start, others later. The worker also
// stops when the socket is closed, or at SIGTERM.
package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Version is the version of the protocol: both sides must have the same.
const Version = 1

// MaxPacket is how long a packet may be.
const MaxPacket = 32 << 10

const (
	maxFiles = 3
	// maxSettings bounds the file with the settings: a list of a million paths.
	maxSettings = 256 << 20
	sendTimeout = time.Second
)

// Message is a packet: exactly one of its fields is set.
type Message struct {
	Start  *Start  `json:"start,omitempty"`
	Add    *Add    `json:"add,omitempty"`
	Remove *Remove `json:"remove,omitempty"`
	Stop   *Stop   `json:"stop,omitempty"`

	Hello  *Hello  `json:"hello,omitempty"`
	Opened *Opened `json:"opened,omitempty"`
	Beat   *Beat   `json:"beat,omitempty"`
	Error  *Error  `json:"error,omitempty"`
	End    *Beat   `json:"end,omitempty"`
}

// Start begins the capture. The settings stand in the file beside it, since a
// list of files can be longer than a packet.
type Start struct{}

// Settings are what a worker captures. A source may hold credentials, so they
// go over the socket and nowhere else.
type Settings struct {
	Source  string   `json:"source,omitempty"`
	Files   []string `json:"files,omitempty"` // instead of a source
	Width   int      `json:"width,omitempty"` // asked of the device
	Height  int      `json:"height,omitempty"`
	FPS     float64  `json:"fps,omitempty"`     // the most that are published a second
	Preload int      `json:"preload,omitempty"` // prepare so many frames, publish them for ever
	Threads int      `json:"threads"`           // of OpenCV
	Beat    int64    `json:"beat_ns"`
	Open    int64    `json:"open_ns"` // how long opening and the first frame may take
	Read    int64    `json:"read_ns"` // how long the next frame may take
	From    Position `json:"from"`
	Skip    bool     `json:"skip,omitempty"` // the file at From has ended two workers
}

// Position is a place in a source: the frame to go on with.
type Position struct {
	Seq   uint64 `json:"seq"`
	File  int    `json:"file"`
	Index int    `json:"index"`
}

// Add opens a lane: three files stand beside it.
type Add struct {
	ID     uint32  `json:"id"`
	Slots  int     `json:"slots"`
	Width  int     `json:"width"`
	Height int     `json:"height"`
	Resize string  `json:"resize"`
	Filter string  `json:"filter"`
	Crop   float64 `json:"crop"`
	Pad    uint8   `json:"pad"`
	// Region is x, y, width and height of the part looked at, as shares.
	Region [4]float64 `json:"region"`
	After  uint64     `json:"after"` // number of the lane's last frame
	Seq    uint64     `json:"seq"`   // and its seq
}

// Remove ends a lane.
type Remove struct {
	ID uint32 `json:"id"`
}

// Stop asks for an orderly end.
type Stop struct{}

// Hello is the worker's first word.
type Hello struct {
	Version int    `json:"version"`
	OpenCV  string `json:"opencv"`
}

// Opened says what the source turned out to be.
type Opened struct {
	Width  int     `json:"width"`
	Height int     `json:"height"`
	FPS    float64 `json:"fps,omitempty"`
}

// Beat is a sign of life, with counters since the worker's start.
type Beat struct {
	Captured uint64 `json:"captured"`
	Skipped  uint64 `json:"skipped"` // over the rate, so not published
	Errors   uint64 `json:"errors"`  // files and frames that couldn't be read
	Seq      uint64 `json:"seq"`     // of the newest frame
	// Age is how long the source has given nothing, in ns; 0 while it isn't
	// asked, since a reader or the time for the next frame is waited for.
	Age int64 `json:"age_ns"`
}

// Error is a failure: of one file, or of the worker as a whole.
type Error struct {
	Text  string `json:"text"`
	Fatal bool   `json:"fatal,omitempty"`
}

// Conn is one end of the socket pair. Several goroutines may send, one receives.
type Conn struct {
	c   *net.UnixConn
	buf []byte
	oob []byte
}

// Pair makes a connection and the file to hand to the worker.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "worker")
	conn, err := New(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// New makes a connection of an end of a socket pair, which it closes.
func New(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use the control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("use the control socket: it is a %s socket", c.LocalAddr().Network())
	}
	return &Conn{c: u, buf: make([]byte, MaxPacket+1), oob: make([]byte, unix.CmsgSpace(4*maxFiles))}, nil
}

// Close ends the connection: Receive at both ends returns an error.
func (c *Conn) Close() error { return c.c.Close() }

// Send sends a message with files, which stay the caller's. It fails where the
// other side doesn't read for a second.
func (c *Conn) Send(m Message, files ...*os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	if len(data) > MaxPacket {
		return fmt.Errorf("send a message: it has %d bytes, at most %d fit", len(data), MaxPacket)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			conn, err := f.SyscallConn() // not Fd, which would make the file blocking
			if err != nil {
				return fmt.Errorf("send a file: %w", err)
			}
			if err := conn.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
				return fmt.Errorf("send a file: %w", err)
			}
		}
		oob = unix.UnixRights(fds...)
	}
	if err := c.c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, _, err = c.c.WriteMsgUnix(data, oob, nil)
	return err
}

// Receive waits for a message. The files with it are the caller's to close. It
// returns io.EOF when the other side has closed.
func (c *Conn) Receive() (Message, []*os.File, error) {
	n, oobn, flags, _, err := c.c.ReadMsgUnix(c.buf, c.oob)
	if err != nil {
		return Message{}, nil, err
	}
	files, err := received(c.oob[:oobn])
	if err != nil {
		return Message{}, nil, err
	}
	m, err := decode(c.buf[:n], flags)
	if err != nil {
		CloseAll(files)
		return Message{}, nil, err
	}
	return m, files, nil
}

func decode(data []byte, flags int) (Message, error) {
	if len(data) == 0 {
		return Message{}, io.EOF
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(data) > MaxPacket {
		return Message{}, fmt.Errorf("read a message: longer than %d bytes, or with more than %d files", MaxPacket, maxFiles)
	}
	var m Message
	if err := json.Unmarshal(data, &m); err != nil {
		return Message{}, fmt.Errorf("read a message: %w", err)
	}
	return m, nil
}

func received(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read files from a message: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// WriteSettings puts the settings into a file of memory, the caller's to close.
func WriteSettings(s Settings) (*os.File, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the settings: %w", err)
	}
	if len(data) > maxSettings {
		return nil, fmt.Errorf("write the settings: %d bytes of file names, at most %d go", len(data), maxSettings)
	}
	fd, err := unix.MemfdCreate("settings", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("write the settings: %w", err)
	}
	f := os.NewFile(uintptr(fd), "settings")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the settings: %w", err)
	}
	return f, nil
}

// ReadSettings reads what WriteSettings wrote.
func ReadSettings(f *os.File) (Settings, error) {
	var s Settings
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxSettings))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("read the settings: %w", err)
	}
	return s, nil
}

// Eventfd makes an eventfd whose reads wait in Go's poller.
func Eventfd() (*os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "eventfd"), nil
}
