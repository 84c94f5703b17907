package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/release"
)

// The control socket speaks HTTP over a Unix socket, to root and to the user
// that the daemon runs as and to nobody else.

// ErrNotRunning says that no daemon listens on the control socket.
var ErrNotRunning = errors.New("no sightd runs here")

// maxSocketPath is the room for a path in sockaddr_un, less its end.
const maxSocketPath = 107

// maxRelease is the most bytes that a release on the control socket may have.
const maxRelease = 2 << 30

// listenControl makes the socket at path. One that a dead daemon left is
// replaced.
func listenControl(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control_socket %s: %d bytes, the kernel takes %d: set control_socket to a shorter path", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control_socket: %w", err)
	}
	if err := removeDead(path); err != nil {
		return nil, fmt.Errorf("control_socket %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control_socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("control_socket: %w", err)
	}
	return peerChecked{l}, nil
}

// removeDead removes a socket that nobody listens on.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("something else is there: name another path")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return errors.New("another sightd is listening: name another path")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// peerChecked is a listener on a Unix socket that hangs up on other users.
type peerChecked struct{ net.Listener }

func (l peerChecked) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUser(c); err == nil && (uid == 0 || uid == uint32(os.Getuid())) {
			return c, nil
		}
		c.Close()
	}
}

func peerUser(c net.Conn) (uint32, error) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}

// controlHandler is what commands can ask of the running daemon.
func (d *Daemon) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, d.Status()) })
	mux.HandleFunc("GET /v1/releases", d.serveReleases)
	mux.HandleFunc("POST /v1/releases", func(w http.ResponseWriter, r *http.Request) {
		err := d.install(http.MaxBytesReader(w, r.Body, maxRelease))
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// Control is a command's connection to a running daemon.
type Control struct {
	http http.Client
}

// DialControl connects to the daemon that listens at path, or reports
// ErrNotRunning.
func DialControl(path string) (*Control, error) {
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	}
	c.Close()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Control{http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

// Status asks the daemon for its status.
func (c *Control) Status(ctx context.Context) (*Status, error) {
	s := new(Status)
	return s, c.get(ctx, "/v1/status", s)
}

// Releases asks the daemon for the releases it has and what became of them.
func (c *Control) Releases(ctx context.Context) (*release.Status, error) {
	s := new(release.Status)
	return s, c.get(ctx, "/v1/releases", s)
}

// Install sends a release, packed as .tar.zst, to be installed and, when it is
// good, served. It returns when the release is in the store.
func (c *Control) Install(ctx context.Context, archive io.Reader) error {
	return c.do(ctx, http.MethodPost, "/v1/releases", archive, nil)
}

func (c *Control) get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, nil, into)
}

func (c *Control) do(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://sightd"+path, body)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the running sightd: %w (its control socket answers only root and its own user)", err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
		return errors.New(strings.TrimSpace(string(b)))
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}
