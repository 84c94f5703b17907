package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager is the service manager's end of the socket.
type manager struct {
	*net.UnixConn
	t *testing.T
}

// newManager listens as the service manager does. Tests that use it can't be
// parallel, since the environment names it.
func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return manager{conn, t}
}

// next is the next message that the daemon sends.
func (m manager) next() string {
	m.t.Helper()
	if err := m.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	message := make([]byte, 4096)
	n, err := m.Read(message)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(message[:n])
}

func (m manager) want(message string) {
	m.t.Helper()
	if got := m.next(); got != message {
		m.t.Errorf("told %q, want %q", got, message)
	}
}

func TestTellsItsState(t *testing.T) {
	m, n := newManager(t), NewNotifier()
	for _, err := range []error{
		n.Ready(),
		n.Status("2 cameras,\n READY=1 of\tthem stalled"),
		n.Status("2 cameras, READY=1 of them stalled"), // the same
		n.Status("2 cameras"),
		n.Stopping(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	m.want("READY=1")
	m.want("STATUS=2 cameras, READY=1 of them stalled")
	m.want("STATUS=2 cameras")
	m.want("STOPPING=1")
}

func TestTellsNobodyWithoutAManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	n := NewNotifier()
	for _, err := range []error{n.Ready(), n.Status("well"), n.Stopping()} {
		if err != nil {
			t.Error(err)
		}
	}
	asked := func() bool { t.Error("asked for progress without a watchdog"); return true }
	if err := n.Watch(context.Background(), asked); err != nil {
		t.Error(err)
	}
}

func TestSaysThatTheManagerIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	n := NewNotifier()
	for _, err := range []error{n.Ready(), n.Status("well")} {
		if err == nil || !strings.Contains(err.Error(), "notify the service manager") {
			t.Errorf("error %v, want one about the service manager", err)
		}
	}
}

// watch starts Watch with a watchdog of the given time.
func watch(t *testing.T, within time.Duration, progress func() bool) (stop func()) {
	t.Helper()
	t.Setenv("WATCHDOG_USEC", fmt.Sprint(within.Microseconds()))
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewNotifier().Watch(ctx, progress) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestFeedsTheWatchdogWhileThereIsProgress(t *testing.T) {
	m := newManager(t)
	asked := make(chan struct{}, 100)
	stop := watch(t, 4*time.Millisecond, func() bool {
		select {
		case asked <- struct{}{}:
		default:
		}
		return true
	})
	defer stop()
	for range 3 {
		m.want("WATCHDOG=1")
	}
	if len(asked) < 3 {
		t.Errorf("fed three times, asked for progress %d times", len(asked))
	}
}

func TestStarvesTheWatchdogWithoutProgress(t *testing.T) {
	m, n := newManager(t), NewNotifier()
	asked := make(chan struct{})
	stop := watch(t, 4*time.Millisecond, func() bool {
		asked <- struct{}{}
		return false
	})
	for range 5 {
		<-asked
	}
	go func() { // until stop has had its way
		for range asked {
		}
	}()
	stop()
	close(asked)
	n.Status("the end")
	m.want("STATUS=the end")
}

func TestWatchRefusesATimeThatIsNone(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "soon")
	err := NewNotifier().Watch(context.Background(), func() bool { return true })
	if err == nil || !strings.Contains(err.Error(), "WATCHDOG_USEC") {
		t.Errorf("error %v, want one about WATCHDOG_USEC", err)
	}
}

func TestAnotherProcessesWatchdogIsNotFed(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", "1")
	asked := func() bool { t.Error("asked for progress"); return true }
	if err := NewNotifier().Watch(context.Background(), asked); err != nil {
		t.Error(err)
	}
}
