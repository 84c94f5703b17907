package mqtt

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		attempt int
		r       float64
		want    time.Duration
	}{
		{0, 0, 50 * time.Millisecond},
		{0, 1, 500 * time.Millisecond},
		{1, 0.5, 550 * time.Millisecond},
		{5, 1, 16 * time.Second},
		{6, 1, 30 * time.Second},
		{6, 0, 3 * time.Second},
		{31, 1, 30 * time.Second},
		{1 << 40, 1, 30 * time.Second},
	} {
		if got := backoff(tc.attempt, 500*time.Millisecond, 30*time.Second, tc.r); got != tc.want {
			t.Errorf("pause %d with %v by chance is %v, want %v", tc.attempt, tc.r, got, tc.want)
		}
	}
}

func TestLogSaysWhatChanges(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := reporter{log: slog.New(slog.NewTextHandler(&out, nil)), repeat: 10 * time.Minute}
	now, b := time.Now(), target{"mqtt", "b", 1883, ""}
	lines := func(want int, what string) {
		t.Helper()
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("%s: %d lines, want %d:\n%s", what, got, want, &out)
		}
		out.Reset()
	}
	refused, unknown := reason{"refused", "connection refused"}, reason{"unknown", "unknown host"}
	r.connected(now, b, b.host)
	lines(1, "connected")
	for range 100 {
		r.failed(now, b, refused)
		now = now.Add(time.Second)
	}
	lines(1, "a hundred times the same")
	r.failed(now, b, unknown)
	lines(1, "another reason")
	now = now.Add(11 * time.Minute)
	r.failed(now, b, unknown)
	if !strings.Contains(out.String(), "failures=102") {
		t.Errorf("the count is missing: %s", &out)
	}
	lines(1, "the same ten minutes later")
	r.connected(now, b, b.host)
	if !strings.Contains(out.String(), "away=12m40s") {
		t.Errorf("the time is missing: %s", &out)
	}
	lines(1, "connected again")
	r.failed(now, b, unknown)
	lines(1, "lost again")
}

func TestRunIsForOneAtATime(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: broker(t).URL()}, quick())
	stop := run(t, c)
	eventually(t, "a connection", func() bool { return c.Status().Connected })
	if err := c.Run(context.Background()); err == nil {
		t.Error("a second Run is let in")
	}
	stop()
	run(t, c) // a later one is
	eventually(t, "a connection", func() bool { return c.Status().Connected })
}

func TestDrainSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{URL: "mqtt://localhost"}, quick())
	ctx, cancel := context.WithCancel(context.Background())
	if err := c.Drain(ctx); err != nil {
		t.Errorf("with nothing to deliver: %v", err)
	}
	if err := c.Publish(event("cam0", 1)); err != nil {
		t.Fatal(err)
	}
	c.SetState(TopicHealth, []byte("{}"))
	cancel()
	if err := c.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 events and 1 states not delivered") {
		t.Errorf("error is %v", err)
	}
}

// Without a connection, events cost what the outbox keeps, and a bounded number
// of allocations each.
func TestPublishWithoutConnection(t *testing.T) {
	c := newClient(t, Options{URL: "mqtt://localhost", Outbox: NewOutbox(Limits{MaxCount: 100})}, quick())
	e := event("cam0", 1)
	allocs := testing.AllocsPerRun(1000, func() {
		if err := c.Publish(e); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 25 {
		t.Errorf("%v allocations an event, want at most 25", allocs)
	}
	if s := c.Stats(); s.Queued != 100 || s.Published != 1001 || s.Dropped[DropCount] != 901 {
		t.Errorf("stats are %+v, want 100 queued and 901 dropped", s)
	}
}

func BenchmarkPublish(b *testing.B) {
	c, err := New(Options{URL: "mqtt://localhost", Device: "dev1", Outbox: NewOutbox(Limits{MaxCount: 100})})
	if err != nil {
		b.Fatal(err)
	}
	e := event("cam0", 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Publish(e); err != nil {
			b.Fatal(err)
		}
	}
}
