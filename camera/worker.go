package camera

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sightd/sightd/camera/internal/source"
	"github.com/sightd/sightd/camera/internal/wire"
)

const (
	program = "sightd-camera"
	// How long a worker may take to close its capture: after that it is told by
	// a signal, and then it is killed.
	stopGrace = 1500 * time.Millisecond
	termGrace = 1500 * time.Millisecond
)

var errWorkerDied = errors.New("the worker ended")

// environment keeps the libraries quiet and bounds what they decode. FFmpeg has
// its errors on standard error as long as OPENCV_FFMPEG_LOGLEVEL isn't set.
var environment = []string{
	"OPENCV_LOG_LEVEL=WARNING",
	"GST_DEBUG=1", // errors
	"GST_DEBUG_NO_COLOR=1",
	"OPENCV_IO_MAX_IMAGE_WIDTH=16384",
	"OPENCV_IO_MAX_IMAGE_HEIGHT=16384",
	"OPENCV_IO_MAX_IMAGE_PIXELS=100000000",
}

// dropped is whether a worker doesn't get a variable: the daemon's settings, and
// what would send FFmpeg's errors elsewhere.
func dropped(variable string) bool {
	return strings.HasPrefix(variable, "SIGHTD_") || strings.HasPrefix(variable, "OPENCV_FFMPEG_LOGLEVEL=")
}

// worker is a process that captures.
type worker struct {
	cmd      *exec.Cmd
	conn     *wire.Conn
	log      *slog.Logger
	secrets  []string
	messages chan wire.Message // closed when the worker has nothing more to say
	done     chan struct{}     // closed when the process is gone
	quit     chan struct{}     // closed when nobody listens any more

	said tail
}

func startWorker(path string, log *slog.Logger, s source.Source) (*worker, error) {
	path, err := find(path)
	if err != nil {
		return nil, err
	}
	conn, theirs, err := wire.Pair()
	if err != nil {
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	defer theirs.Close()
	stderr, pipe, err := os.Pipe()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	defer pipe.Close()
	cmd := exec.Command(path)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), dropped), environment...)
	cmd.Stderr = pipe
	cmd.ExtraFiles = []*os.File{theirs}
	// A Ctrl-C at the terminal is for the daemon, which ends the worker in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		conn.Close()
		stderr.Close()
		return nil, fmt.Errorf("start the worker: %w", err)
	}
	w := &worker{
		cmd: cmd, conn: conn, log: log, secrets: s.Secrets(),
		messages: make(chan wire.Message, 16), done: make(chan struct{}), quit: make(chan struct{}),
	}
	go w.receive()
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		w.follow(stderr)
	}()
	go func() {
		_ = cmd.Wait() // what it says is in ProcessState
		// A grandchild may hold the pipe open: what has come has come.
		_ = stderr.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		<-logged
		stderr.Close()
		close(w.done)
	}()
	return w, nil
}

// find is where the worker's program is.
func find(path string) (string, error) {
	candidates := []string{path}
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find %s: %w", program, err)
		}
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dir := filepath.Dir(self)
		candidates = []string{
			filepath.Join(dir, program),
			filepath.Join(dir, "..", "libexec", "sightd", program),
		}
	}
	for _, c := range candidates {
		if info, err := os.Stat(c); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return c, nil
		}
	}
	return "", fmt.Errorf("no program %s, looked at %s: `make build` makes it", program, strings.Join(candidates, " and "))
}

// send sends a message. A worker that can't be told is dead or hangs, which
// watch finds out.
func (w *worker) send(m wire.Message, files ...*os.File) {
	if err := w.conn.Send(m, files...); err != nil {
		w.log.Debug("tell the worker", "err", err)
	}
}

func (w *worker) start(s wire.Settings) {
	f, err := wire.WriteSettings(s)
	if err != nil {
		w.log.Error("start the worker", "err", err)
		return
	}
	defer f.Close()
	w.send(wire.Message{Start: &wire.Start{}}, f)
}

func (w *worker) add(l *Lane) {
	g := l.geometry
	w.send(wire.Message{Add: &wire.Add{
		ID: l.id, Slots: len(l.slots), Width: g.Width, Height: g.Height,
		Resize: g.Resize, Filter: g.Filter, Crop: g.Crop, Pad: g.Pad, Region: g.Region,
		After: l.resume.Number, Seq: l.resume.Seq,
	}}, l.file, l.published, l.freed)
}

// receive passes the worker's messages on until it closes its end or says
// something that is none.
func (w *worker) receive() {
	defer close(w.messages)
	for reset := false; ; {
		m, files, err := w.conn.Receive()
		wire.CloseAll(files) // a worker has no files to give
		if errors.Is(err, syscall.ECONNRESET) && !reset {
			reset = true // it ended with something unread; its last words follow
			continue
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				w.log.Warn("listen to the worker", "err", err)
			}
			return
		}
		select {
		case w.messages <- m:
		case <-w.quit:
			return
		}
	}
}

// end ends the process: in order if it can, by force if it must. The worker of
// a CSI camera that doesn't close it leaves the camera unusable.
func (w *worker) end() {
	w.send(wire.Message{Stop: &wire.Stop{}})
	close(w.quit)
	w.conn.Close()
	if !w.gone(stopGrace) {
		_ = w.cmd.Process.Signal(syscall.SIGTERM)
	}
	if !w.gone(termGrace) {
		w.kill()
	}
	<-w.done
}

// gone is whether the process ends within a time.
func (w *worker) gone(within time.Duration) bool {
	select {
	case <-w.done:
		return true
	case <-time.After(within):
		return false
	}
}

// kill ends the process at once.
func (w *worker) kill() { _ = w.cmd.Process.Kill() }

// fate says how an ended worker's process ended.
func (w *worker) fate() error {
	<-w.done
	return fmt.Errorf("%w: %v%s", errWorkerDied, w.cmd.ProcessState, w.said.suffix())
}

// redact takes out what may not be shown.
func (w *worker) redact(text string) string {
	text = source.Redact(text)
	for _, s := range w.secrets {
		text = strings.ReplaceAll(text, s, "…")
	}
	return strings.ToValidUTF8(text, "�")
}
