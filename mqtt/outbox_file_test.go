package mqtt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// numbered is the n-th message, of about an event's size.
func numbered(n int) Message {
	return Message{ID: fmt.Sprint(n), Topic: "sightd/dev1/cam0/events", Payload: fmt.Appendf(nil, `{"seq":%d,"pad":%q}`, n, strings.Repeat("x", 400))}
}

func appendAll(t *testing.T, o *Outbox, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		for o.Append(numbered(i)) != nil {
			time.Sleep(time.Millisecond) // the disk is slower than this loop
		}
	}
}

// takeOut takes messages out as a session does, acknowledging them, until at least n
// have come, and gives their ids.
func takeOut(t *testing.T, o *Outbox, n int) (ids []string) {
	t.Helper()
	seq := uint64(0)
	eventually(t, fmt.Sprintf("%d messages come out", n), func() bool {
		messages := o.After(seq, window)
		for _, m := range messages {
			ids = append(ids, m.ID)
			seq = m.Seq
		}
		if len(messages) > 0 {
			o.Ack(seq)
		}
		return len(ids) >= n
	})
	return ids
}

func wantNumbers(t *testing.T, ids []string, from, to int) {
	t.Helper()
	var want []string
	for i := from; i <= to; i++ {
		want = append(want, fmt.Sprint(i))
	}
	if !slices.Equal(ids, want) {
		t.Errorf("got %v, want %d to %d", ids, from, to)
	}
}

// copyFile is what a kill at this moment would leave: what was written is in the
// system's memory, whoever wrote it lives or not.
func copyFile(t *testing.T, from string) string {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "outbox.db")
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestWhatWaitsIsThereAfterARestart(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{Always, Outage} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "outbox.db")
			o := openOutbox(t, path, Limits{}, d, nil)
			appendAll(t, o, 1, 1000)
			wantNumbers(t, takeOut(t, o, 300)[:300], 1, 300)
			gone := o.Stats().Acked
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			o = openOutbox(t, path, Limits{}, d, nil)
			s := o.Stats()
			if want := 1000 - int(gone); s.Queued != want || s.Appended != uint64(want) || s.Oldest.IsZero() || s.Bytes == 0 {
				t.Errorf("stats %+v, want %d queued", s, want)
			}
			appendAll(t, o, 1001, 1010)
			wantNumbers(t, takeOut(t, o, 1010-int(gone)), int(gone)+1, 1010)
		})
	}
}

// Whatever Always gives to be sent is in the file already, and of what was
// acknowledged, at most a window comes again.
func TestAKillCostsNoEventAndRepeatsAWindow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, path, Limits{}, Always, nil)
	random := rand.New(rand.NewPCG(1, 2))
	sent, acked, appended := uint64(0), uint64(0), 0
	for range 40 {
		n := random.IntN(150)
		appendAll(t, o, appended+1, appended+n)
		appended += n
		messages := o.After(sent, random.IntN(window)+1)
		if len(messages) > 0 {
			sent = messages[len(messages)-1].Seq
		}
		if random.IntN(3) > 0 {
			acked = sent
			o.Ack(sent)
		}
		left := openOutbox(t, copyFile(t, path), Limits{}, Always, nil)
		first, last := left.front+1, left.last
		if last < sent || first > acked+1 || acked-min(acked, first-1) > window {
			t.Fatalf("%d to %d are in the file, though %d was sent and %d acknowledged", first, last, sent, acked)
		}
	}
	if sent < 100 {
		t.Errorf("%d messages were sent in all: too few to say something", sent)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox.db")
	openOutbox(t, path, Limits{}, Always, nil)
	if _, err := OpenOutbox(path, Limits{}, Always, nil); !errors.Is(err, errInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that says it is open elsewhere", err)
	}
	if _, err := OpenOutbox(path, Limits{}, "sometimes", nil); err == nil || !strings.Contains(err.Error(), "sometimes") {
		t.Errorf("error %v, want one about the durability", err)
	}
}

func TestAnOutboxInAFileKeepsItsBounds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	noise := func(n int) Message { // doesn't compress
		b := make([]byte, 3000)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return Message{ID: fmt.Sprint(n), Topic: "t", Payload: b}
	}
	path := filepath.Join(t.TempDir(), "outbox.db")
	const bound = 4 << 20
	o := openOutbox(t, path, Limits{MaxBytes: bound}, Always, nil)
	for i := range 3000 {
		for o.Append(noise(i+1)) != nil {
			time.Sleep(time.Millisecond)
		}
	}
	eventually(t, "it is within its bounds", func() bool {
		s := o.Stats()
		return s.Bytes <= bound && s.Dropped[DropBytes] > 0 && s.Appended == uint64(s.Queued)+s.Dropped[DropBytes]+s.Dropped[DropDisk]
	})
	if s := o.Stats(); s.Queued < bound/3000*8/10 {
		t.Errorf("%d are kept, want nearly as many as fit", s.Queued)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > bound*3/2+4<<20 {
		t.Errorf("the file has %d bytes with a bound of %d", info.Size(), bound)
	}
	left := o.Stats().Queued
	wantNumbers(t, takeOut(t, o, left), 3001-left, 3000)
}

// A device that boots without knowing the time writes events of 1970. They don't
// become old by the clock's being set.
func TestSettingTheClockAgesNothing(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Date(1970, 1, 1, 0, 0, 10, 0, time.UTC)}
	o := openOutbox(t, filepath.Join(t.TempDir(), "outbox.db"), Limits{MaxAge: time.Hour}, Always, c.Now)
	appendAll(t, o, 1, 10)
	eventually(t, "they are written", func() bool { m := o.After(0, 10); return len(m) == 10 })
	c.mu.Lock()
	c.now = time.Now()
	c.mu.Unlock()
	appendAll(t, o, 11, 20)
	wantNumbers(t, takeOut(t, o, 20), 1, 20)
}

// Outage writes nothing as long as the broker acknowledges.
func TestOutageSparesTheDisk(t *testing.T) {
	t.Parallel()
	o := openOutbox(t, filepath.Join(t.TempDir(), "outbox.db"), Limits{}, Outage, nil)
	syncs := o.Stats().Syncs
	for i := range 500 {
		appendAll(t, o, i+1, i+1)
		wantNumbers(t, takeOut(t, o, 1), i+1, i+1)
	}
	if s := o.Stats(); s.Syncs != syncs {
		t.Errorf("%d writes, want none", s.Syncs-syncs)
	}
	appendAll(t, o, 501, 510)
	eventually(t, "what isn't acknowledged is written", func() bool { return o.Stats().Syncs > syncs })
	wantNumbers(t, takeOut(t, o, 10), 501, 510)
}

func TestNothingIsTakenOnceItIsClosed(t *testing.T) {
	t.Parallel()
	o := openOutbox(t, filepath.Join(t.TempDir(), "outbox.db"), Limits{}, Always, nil)
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range 200 {
				_ = o.Append(numbered(i))
			}
		}()
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	if err := o.Append(numbered(1)); err == nil {
		t.Error("taken")
	}
	again := openOutbox(t, o.store.path, Limits{}, Always, nil)
	if s, after := o.Stats(), again.Stats(); s.Queued != after.Queued {
		t.Errorf("%d were taken, %d are there", s.Queued, after.Queued)
	}
}

// Each claim about the outbox's cost is one of these.
func BenchmarkOutbox(b *testing.B) {
	payload, err := json.Marshal(event("cam0", 1))
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range []Durability{Memory, Outage, Always} {
		b.Run(string(d), func(b *testing.B) {
			o, err := OpenOutbox(filepath.Join(b.TempDir(), "outbox.db"), Limits{MaxBytes: 1 << 30}, d, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = o.Close() }()
			ready := make(chan struct{}, 1)
			o.OnReady(func() {
				select {
				case ready <- struct{}{}:
				default:
				}
			})
			b.ReportAllocs()
			go func() {
				for i := range b.N {
					for o.Append(Message{ID: fmt.Sprint(i), Topic: "sightd/dev1/cam0/events", Payload: payload}) != nil {
						time.Sleep(time.Millisecond)
					}
					if d != Always {
						select {
						case ready <- struct{}{}:
						default:
						}
					}
				}
			}()
			seq := uint64(0)
			for n := 0; n < b.N; {
				messages := o.After(seq, window)
				if len(messages) == 0 {
					<-ready
					continue
				}
				n += len(messages)
				seq = messages[len(messages)-1].Seq
				o.Ack(seq)
			}
			s := o.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(s.Written)/float64(b.N), "written-B/event")
		})
	}
}

// With memory nothing is written, and what another durability left is delivered.
func TestMemoryDeliversWhatIsInTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, path, Limits{}, Always, nil)
	appendAll(t, o, 1, 100)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o = openOutbox(t, path, Limits{}, Memory, nil)
	appendAll(t, o, 101, 110)
	wantNumbers(t, takeOut(t, o, 110), 1, 110)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty file is still there: %v", err)
	}
}

// A device without a battery begins with the time of its last stop, and jumps by weeks
// when it is told the time. What it wrote before has no time.
func TestAClockThatIsSetLate(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		s := &store{path: filepath.Join(t.TempDir(), "outbox.db")}
		if _, err := s.open(); err != nil {
			t.Fatal(err)
		}
		l := Limits{MaxAge: time.Hour, MaxBytes: 1 << 20}
		if !known {
			l.Clock = func() error { return errors.New("nobody has told it") }
		}
		weeks := time.Now().Add(-500 * time.Hour)
		m := numbered(1)
		m.Seq = 1
		if after, drops, err := s.commit(0, []queued{{Message: m, added: weeks}}, l, weeks); err != nil || after.batches != 1 || len(drops) > 0 {
			t.Fatalf("%+v %v %v", after, drops, err)
		}
		l.Clock = nil // now it is set
		after, drops, err := s.commit(0, nil, l, time.Now())
		if kept := after.batches == 1; err != nil || kept == known {
			t.Errorf("time known %v: %+v, dropped %v, error %v", known, after, drops, err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// What a bound drops is no reason for a write of its own.
func TestDroppingIsWrittenInGroups(t *testing.T) {
	t.Parallel()
	o := openOutbox(t, filepath.Join(t.TempDir(), "outbox.db"), Limits{MaxCount: 1000}, Always, nil)
	appendAll(t, o, 1, 1000)
	eventually(t, "all is written", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.queue.len() == 0 })
	before := o.Stats().Syncs
	appendAll(t, o, 1001, 1640)
	eventually(t, "all is written", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.queue.len() == 0 })
	if s := o.Stats(); s.Syncs-before > 60 || s.Dropped[DropCount] != 640 {
		t.Errorf("%d writes, stats %+v", s.Syncs-before, s)
	}
}
