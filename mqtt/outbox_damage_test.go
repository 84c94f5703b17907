package mqtt

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file that can't be read is set aside, and the outbox works.
func TestADamagedFileIsSetAside(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, good, Limits{}, Always, nil)
	appendAll(t, o, 1, 2000)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(change func([]byte) []byte) []byte { return change(bytes.Clone(content)) }
	for name, b := range map[string][]byte{
		"something else":   []byte("what is this?\n"),
		"a page of zeros":  make([]byte, 4096),
		"zeros":            make([]byte, len(content)),
		"the first half":   damaged(func(b []byte) []byte { return b[:len(b)/2] }),
		"two pages":        damaged(func(b []byte) []byte { return b[:2*os.Getpagesize()] }),
		"no meta pages":    damaged(func(b []byte) []byte { clear(b[:2*os.Getpagesize()]); return b }),
		"zeros in the end": damaged(func(b []byte) []byte { clear(b[2*os.Getpagesize():]); return b }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "outbox.db")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			o := openOutbox(t, path, Limits{}, Always, nil)
			appendAll(t, o, 5001, 5010)
			eventually(t, "what is appended comes out", func() bool {
				seq := uint64(0)
				for {
					m := o.After(seq, window)
					if len(m) == 0 {
						return false
					}
					if m[len(m)-1].ID == "5010" {
						return true
					}
					seq = m[len(m)-1].Seq
					o.Ack(seq)
				}
			})
			if _, err := os.Stat(path + ".corrupt"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whichever bytes of the file are wrong: it opens, and what it gives is what was
// put in, in order, or counted as lost.
func TestAnyDamageEndsInOrder(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, good, Limits{}, Always, nil)
	appendAll(t, o, 1, 600)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for i := range 150 {
		random := rand.New(rand.NewPCG(2, uint64(i)))
		b := bytes.Clone(content)
		switch at, n := random.IntN(len(b)), 1+random.IntN(64); i % 3 {
		case 0:
			b[at] ^= 1 << random.IntN(8)
		case 1:
			for j := range b[at:min(at+n, len(b))] {
				b[at+j] = byte(random.Uint32())
			}
		default:
			page := os.Getpagesize()
			copy(b[at/page*page:], b[random.IntN(len(b)/page)*page:][:page]) // a page is another's
		}
		path := filepath.Join(t.TempDir(), "outbox.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := OpenOutbox(path, Limits{}, Always, nil)
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		before, seq, got := 0, uint64(0), 0
		eventually(t, "it is empty", func() bool {
			m := o.After(seq, window)
			for _, m := range m {
				var n int
				if _, err := fmt.Sscan(m.ID, &n); err != nil || n <= before || !bytes.Equal(m.Payload, numbered(n).Payload) {
					t.Fatalf("damage %d: after %d comes %v", i, before, m)
				}
				before, seq = n, m.Seq
				got++
			}
			o.Ack(seq)
			return o.Stats().Queued == 0
		})
		s := o.Stats()
		if s.Appended != s.Acked+s.Dropped[DropDamaged] || int(s.Acked) != got {
			t.Errorf("damage %d: %d came out, stats %+v", i, got, s)
		}
		if got == 600 {
			whole++
		}
		if err := o.Close(); err != nil {
			t.Errorf("damage %d: close: %v", i, err)
		}
	}
	t.Logf("of 150 damaged files %d gave everything", whole)
}

// A file that is cut while it is open ends reads with SIGBUS, which must not be
// the end of the process.
func TestAFileThatIsCutWhileItIsOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, path, Limits{}, Always, nil)
	appendAll(t, o, 1, 500)
	eventually(t, "all is written", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.queue.len() == 0 })
	if err := os.Truncate(path, int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	_ = o.After(0, 10)
	appendAll(t, o, 501, 510)
	wantNumbers(t, takeOut(t, o, 10), 501, 510)
	if s := o.Stats(); s.Dropped[DropDamaged] != 500 || s.Queued != 0 {
		t.Errorf("stats %+v, want 500 given up as damaged", s)
	}
}

// While the disk refuses, events go out from memory; what memory doesn't hold is
// refused and counted; then it writes again.
func TestADiskThatRefuses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "missing")
	o := openOutbox(t, filepath.Join(dir, "outbox.db"), Limits{}, Always, nil)
	if s := o.Stats(); s.Durability != Memory || s.Error == "" {
		t.Errorf("stats %+v, want it in memory and the reason", s)
	}
	appendAll(t, o, 1, 20)
	wantNumbers(t, takeOut(t, o, 20), 1, 20)
	refused := 0
	for i := range 2 * memoryCount {
		if o.Append(numbered(i)) != nil {
			refused++
		}
	}
	if s := o.Stats(); refused == 0 || s.Dropped[DropDisk] != uint64(refused) || s.Queued > memoryCount {
		t.Errorf("%d refused; stats %+v", refused, s)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it writes again", func() bool { s := o.Stats(); return s.Durability == Always && s.Error == "" })
	n := o.Stats().Queued
	if got := takeOut(t, o, n); len(got) != n {
		t.Errorf("%d came out, want %d", len(got), n)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	var messages []queued
	for i := range 3 {
		m := numbered(i)
		m.Seq = uint64(i + 5)
		messages = append(messages, queued{Message: m, added: time.UnixMilli(1)})
	}
	f.Add(encodeBatch(messages, true), uint64(7))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, last uint64) {
		got, err := decodeBatch(b, last)
		if err == nil && (len(got) == 0 || got[len(got)-1].Seq != last) {
			t.Errorf("%d messages without an error", len(got))
		}
	})
}

// Where even setting a damaged file aside fails, the events in it are given up and all
// others go on.
func TestADamagedFileThatCannotBeSetAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, path, Limits{}, Always, nil)
	appendAll(t, o, 1, 100)
	eventually(t, "all is written", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.queue.len() == 0 })
	if err := os.MkdirAll(filepath.Join(path+".corrupt", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	_ = o.After(0, 10)
	appendAll(t, o, 101, 110)
	wantNumbers(t, takeOut(t, o, 10), 101, 110)
	if s := o.Stats(); s.Dropped[DropDamaged] != 100 || s.Durability != Memory || s.Error == "" {
		t.Errorf("stats %+v, want 100 given up as damaged, in memory", s)
	}
	if err := os.RemoveAll(path + ".corrupt"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it writes again", func() bool { s := o.Stats(); return s.Durability == Always && s.Error == "" })
}

// What a former process left is sent before what was decided while the disk refused.
func TestAFileThatIsOpenedLate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "outbox.db")
	o := openOutbox(t, path, Limits{}, Always, nil)
	appendAll(t, o, 1, 100)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	o = openOutbox(t, path, Limits{}, Always, nil)
	appendAll(t, o, 101, 130)
	sent := o.After(0, 20)
	o.Ack(sent[9].Seq)
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is opened", func() bool { return o.Stats().Durability == Always })
	o.Ack(sent[19].Seq) // of the time before: it says nothing
	if s := o.Stats(); s.Queued != 120 || s.Appended != 130 || s.Acked != 10 {
		t.Errorf("stats %+v, want 100 of before and 20 of now", s)
	}
	messages := o.After(sent[19].Seq, window)
	if len(messages) != window || messages[0].ID != "1" {
		t.Errorf("a session goes on with %v, want it to begin with the oldest", messages)
	}
	got := takeOut(t, o, 120)
	wantNumbers(t, got[:100], 1, 100)
	wantNumbers(t, got[100:], 111, 130)
}
