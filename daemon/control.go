package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The control socket speaks HTTP over a Unix socket, to root and to the user
// that the daemon runs as and to nobody else.

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

// controlHandler is what commands can ask of the running daemon. What is refused
// is answered with a JSON object of code and reason.
func (d *Daemon) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, d.Status()) })
	mux.HandleFunc("GET /v1/releases", d.serveReleases)
	mux.HandleFunc("POST /v1/releases", d.controlInstall)
	mux.HandleFunc("GET /v1/releases/{name}/{id}", d.controlRelease)
	mux.HandleFunc("DELETE /v1/releases/{name}/{id}", d.controlRemove)
	mux.HandleFunc("POST /v1/releases/{name}/{id}/activate", d.controlActivate)
	mux.HandleFunc("POST /v1/releases/{name}/{id}/rollback", d.controlRollBack)
	return mux
}
