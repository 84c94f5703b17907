// Package systemd tells the service manager how the daemon is, and holds the
// unit that it runs as. Where no service manager started the process, telling
// does nothing.
package systemd

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells the service manager. Its methods are safe for concurrent use.
type Notifier struct {
	mu     sync.Mutex
	status string // as last told
}

// NewNotifier makes a notifier for the manager that the environment's
// NOTIFY_SOCKET names, if any.
func NewNotifier() *Notifier { return &Notifier{} }

// Ready says that the control plane is up: the unit counts as started.
func (n *Notifier) Ready() error { return tell(daemon.SdNotifyReady) }

// Stopping says that the daemon has begun to shut down.
func (n *Notifier) Stopping() error { return tell(daemon.SdNotifyStopping) }

// Status gives the line that `systemctl status` shows. The same line again is
// not told again.
func (n *Notifier) Status(text string) error {
	text = strings.Join(strings.Fields(text), " ") // a line end would start another assignment
	n.mu.Lock()
	defer n.mu.Unlock()
	if text == n.status {
		return nil
	}
	if err := tell("STATUS=" + text); err != nil {
		return err
	}
	n.status = text
	return nil
}

// Watch feeds the manager's watchdog until ctx is done, as long as progress
// says that the daemon's work goes on; when it stops saying so, the manager
// restarts the service. Progress is asked four times in the unit's
// WatchdogSec=, so that one look at a bad moment is no end. Without a watchdog
// Watch returns at once.
func (n *Notifier) Watch(ctx context.Context, progress func() bool) error {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if within == 0 {
		return nil
	}
	tick := time.NewTicker(max(within/4, time.Microsecond))
	defer tick.Stop()
	for {
		if progress() {
			// One that doesn't get through is made up for by the next.
			_ = tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func tell(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
