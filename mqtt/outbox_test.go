package mqtt

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{Memory, Outage, Always} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			testOutbox(t, func(t *testing.T, l Limits, now func() time.Time) *Outbox {
				return openOutbox(t, filepath.Join(t.TempDir(), "outbox.db"), l, d, now)
			})
		})
	}
}

// openOutbox opens one, with a clock of the test's where now isn't nil, and
// closes it at the test's end.
func openOutbox(t *testing.T, path string, l Limits, d Durability, now func() time.Time) *Outbox {
	t.Helper()
	o, err := OpenOutbox(path, l, d, slog.New(slog.NewTextHandler(logWriter{t}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if now != nil {
		o.mu.Lock()
		o.now = now
		o.mu.Unlock()
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// testOutbox is what an outbox does, whatever its durability.
func testOutbox(t *testing.T, open func(*testing.T, Limits, func() time.Time) *Outbox) {
	message := func(i int) Message {
		return Message{ID: fmt.Sprint(i), Topic: "t", Payload: []byte("payload")}
	}
	fill := func(t *testing.T, o *Outbox, from, to int) {
		t.Helper()
		for i := from; i <= to; i++ {
			if err := o.Append(message(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// wantIDs waits for it: with a file, what is written may be given later.
	wantIDs := func(t *testing.T, what string, o *Outbox, after uint64, n int, want string) {
		t.Helper()
		var got string
		eventually(t, what+" is "+want, func() bool {
			messages := o.After(after, n)
			var all []string
			for i, m := range messages {
				if i > 0 && m.Seq <= messages[i-1].Seq {
					t.Errorf("Seq %d comes behind %d", m.Seq, messages[i-1].Seq)
				}
				all = append(all, m.ID)
			}
			got = strings.Join(all, " ")
			return got == want
		})
	}
	// check also holds the sum that OutboxStats promises.
	check := func(t *testing.T, o *Outbox, queued int, acked uint64, cause string, dropped uint64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d queued, %d acked, %d dropped by %s", queued, acked, dropped, cause), func() bool {
			s := o.Stats()
			var all uint64
			for _, n := range s.Dropped {
				all += n
			}
			if s.Appended != uint64(s.Queued)+s.Acked+all {
				t.Fatalf("stats don't add up: %+v", s)
			}
			if (s.Bytes == 0) != (s.Queued == 0) || s.Oldest.IsZero() != (s.Queued == 0) {
				t.Fatalf("%d queued, yet %d bytes, the oldest from %v", s.Queued, s.Bytes, s.Oldest)
			}
			return s.Queued == queued && s.Acked == acked && s.Dropped[cause] == dropped && all == dropped
		})
	}
	start := time.Now()

	t.Run("keeps order and empties from the front", func(t *testing.T) {
		t.Parallel()
		o := open(t, Limits{}, func() time.Time { return start })
		wantIDs(t, "empty", o, 0, 10, "")
		fill(t, o, 1, 5)
		wantIDs(t, "all", o, 0, 10, "1 2 3 4 5")
		wantIDs(t, "two", o, 0, 2, "1 2")
		messages := o.After(0, 3)
		wantIDs(t, "behind the third", o, messages[2].Seq, 10, "4 5")
		o.Ack(messages[1].Seq)
		wantIDs(t, "after an ack", o, 0, 10, "3 4 5")
		wantIDs(t, "behind what is gone", o, messages[0].Seq, 10, "3 4 5")
		check(t, o, 3, 2, DropCount, 0)
		o.Ack(messages[2].Seq + 2)
		check(t, o, 0, 5, DropCount, 0)
		fill(t, o, 6, 6)
		wantIDs(t, "behind the last", o, messages[2].Seq+2, 10, "6")
		wantIDs(t, "behind the future", o, 1<<60, 10, "")
	})
	t.Run("drops the oldest above its count", func(t *testing.T) {
		t.Parallel()
		o := open(t, Limits{MaxCount: 3}, func() time.Time { return start })
		fill(t, o, 1, 1000)
		wantIDs(t, "kept", o, 0, 10, "998 999 1000")
		check(t, o, 3, 0, DropCount, 997)
	})
	t.Run("refuses what is larger than all of it", func(t *testing.T) {
		t.Parallel()
		o := open(t, Limits{MaxBytes: 1 << 20}, func() time.Time { return start })
		fill(t, o, 1, 1)
		big := message(2)
		big.Payload = make([]byte, 1<<20)
		if err := o.Append(big); err == nil {
			t.Error("taken")
		}
		wantIDs(t, "kept", o, 0, 10, "1")
		check(t, o, 1, 0, DropSize, 1)
	})
	t.Run("drops what is older than its age", func(t *testing.T) {
		t.Parallel()
		c := &clock{now: start}
		o := open(t, Limits{MaxAge: time.Hour}, c.Now)
		fill(t, o, 1, 2)
		c.advance(time.Hour)
		fill(t, o, 3, 3)
		check(t, o, 3, 0, DropAge, 0)
		c.advance(time.Second)
		check(t, o, 1, 0, DropAge, 2)
		wantIDs(t, "kept", o, 0, 10, "3")
		c.advance(2 * time.Hour)
		wantIDs(t, "nothing", o, 0, 10, "")
		check(t, o, 0, 0, DropAge, 3)
	})
	t.Run("takes an ack for what it has dropped", func(t *testing.T) {
		t.Parallel()
		o := open(t, Limits{MaxCount: 2}, func() time.Time { return start })
		fill(t, o, 1, 2)
		wantIDs(t, "to be sent", o, 0, 2, "1 2")
		sent := o.After(0, 2)
		fill(t, o, 3, 4)
		o.Ack(sent[1].Seq)
		wantIDs(t, "kept", o, 0, 10, "3 4")
		check(t, o, 2, 0, DropCount, 2)
	})
	t.Run("is safe to use from several goroutines", func(t *testing.T) {
		t.Parallel()
		o := open(t, Limits{MaxCount: 50}, time.Now)
		var all sync.WaitGroup
		for range 4 {
			all.Add(2)
			go func() {
				defer all.Done()
				for i := range 500 {
					_ = o.Append(message(i))
				}
			}()
			go func() {
				defer all.Done()
				for range 100 {
					if m := o.After(0, 5); len(m) > 0 {
						o.Ack(m[len(m)-1].Seq)
					}
				}
			}()
		}
		all.Wait()
		s := o.Stats()
		if s.Appended != 2000 || s.Appended != uint64(s.Queued)+s.Acked+s.Dropped[DropCount] {
			t.Errorf("stats don't add up: %+v", s)
		}
	})
}

// Whatever goes through, the memory that a full outbox holds stays that of its
// bounds.
func TestMemoryOutboxForgetsWhatIsGone(t *testing.T) {
	t.Parallel()
	o := NewOutbox(Limits{MaxCount: 100})
	for i := range 100_000 {
		if err := o.Append(Message{Payload: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if cap(o.queue.all) > 1000 {
		t.Errorf("the queue has room for %d messages, want about 200", cap(o.queue.all))
	}
	for i, m := range o.queue.all[:o.queue.head] {
		if m.Payload != nil {
			t.Fatalf("message %d is still held", i)
		}
	}
}

func TestMemoryOutboxDropsTheOldestAboveItsSize(t *testing.T) {
	t.Parallel()
	big := Message{ID: "big", Payload: make([]byte, 2000)}
	o := NewOutbox(Limits{MaxBytes: big.size() + 10})
	for _, m := range []Message{{}, {}, {}, {}, {}, big} {
		if err := o.Append(m); err != nil {
			t.Fatal(err)
		}
	}
	s := o.Stats()
	if m := o.After(0, 10); len(m) != 1 || m[0].ID != "big" || s.Dropped[DropBytes] != 5 {
		t.Errorf("kept %v, stats %+v: want the last alone", m, s)
	}
}
