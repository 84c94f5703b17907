package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/release"
)

// ErrNotRunning says that no daemon listens on the control socket.
var ErrNotRunning = errors.New("no sightd runs here")

// Control is a command's connection to a running daemon. Where the daemon refuses
// something, [release.CodeOf] finds the code in the error as if the daemon's own had
// come.
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
	return s, c.do(ctx, http.MethodGet, "/v1/status", nil, s)
}

// Releases asks the daemon for the releases it has and what became of them.
func (c *Control) Releases(ctx context.Context) (*release.Status, error) {
	s := new(release.Status)
	return s, c.do(ctx, http.MethodGet, "/v1/releases", nil, s)
}

// Release asks what is known of a release.
func (c *Control) Release(ctx context.Context, name string, id release.ID) (*ReleaseInfo, error) {
	info := new(ReleaseInfo)
	return info, c.do(ctx, http.MethodGet, releasePath(name, id), nil, info)
}

// Install sends a release, packed as .tar.zst, to be installed and, unless it is to be
// held, served when it is good. It returns when the release is in the store.
func (c *Control) Install(ctx context.Context, archive io.Reader, hold bool) (*Installed, error) {
	done := new(Installed)
	return done, c.do(ctx, http.MethodPost, "/v1/releases?hold="+strconv.FormatBool(hold), archive, done)
}

// Activate lets a held release serve when it is ready, and has a rejected or rolled
// back one tried again.
func (c *Control) Activate(ctx context.Context, name string, id release.ID) error {
	return c.do(ctx, http.MethodPost, releasePath(name, id)+"/activate", nil, nil)
}

// RollBack has the daemon leave the release, or with the zero ID whichever serves, for
// the last confirmed one.
func (c *Control) RollBack(ctx context.Context, name string, id release.ID, reason string) (*RolledBack, error) {
	done := new(RolledBack)
	return done, c.do(ctx, http.MethodPost, releasePath(name, id)+"/rollback?reason="+url.QueryEscape(reason), nil, done)
}

// Remove removes a release.
func (c *Control) Remove(ctx context.Context, name string, id release.ID) error {
	return c.do(ctx, http.MethodDelete, releasePath(name, id), nil, nil)
}

func releasePath(name string, id release.ID) string {
	text := id.String()
	if id == (release.ID{}) {
		text = servingID
	}
	return "/v1/releases/" + url.PathEscape(name) + "/" + text
}

// unreachableError is the error of a daemon that doesn't answer, as one that stops or
// starts this moment.
type unreachableError struct{ error }

// IsUnreachable is whether err says that a daemon didn't answer, rather than what it
// answered.
func IsUnreachable(err error) bool {
	var u unreachableError
	return errors.As(err, &u)
}

func (c *Control) do(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://sightd"+path, body)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return unreachableError{fmt.Errorf("ask the running sightd: %w (its control socket answers only root and its own user)", err)}
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return refused(res)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return unreachableError{fmt.Errorf("read the answer of the running sightd: %w", err)}
	}
	return nil
}

// refused is the error that an answer stands for.
func refused(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return unreachableError{fmt.Errorf("read the answer of the running sightd: %w", err)}
	}
	var why refusal
	if json.Unmarshal(b, &why) != nil || why.Reason == "" {
		why.Reason = strings.TrimSpace(string(b)) // what net/http itself says
	}
	if why.Code == "" {
		return errors.New(why.Reason)
	}
	return &release.Rejection{Code: why.Code, Err: errors.New(why.Reason)}
}
