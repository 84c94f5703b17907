package mqtt

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
)

var (
	soakSeed = flag.Uint64("soak.seed", 0, "seed of what goes wrong; 0: a new one")
	soakCuts = flag.Int("soak.cuts", 0, "how many power cuts are tried; 0: as many as SIGHTD_CUTS says, or 250")
)

func soakCount(t *testing.T, given int, variable, usual string) int {
	t.Helper()
	if given > 0 {
		return given
	}
	n, err := strconv.Atoi(cmp.Or(os.Getenv(variable), usual))
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

func soakSeeded(t *testing.T) uint64 {
	t.Helper()
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: -soak.seed=%d", seed)
	return seed
}

// bbolt writes by itself, and reads through a memory map, so the power is cut below
// it: a process opens the outbox on a [disk] that this one serves, appends, takes,
// acknowledges, closes and opens it again. It notes what it was given on that disk
// too, so that all is in one order. Then that order is cut at random moments, and
// what each may leave is opened.
//
// Promised is an event that After gave with [Always]: so nothing is ever sent that
// a power cut takes back. It is in what is left, unless it was acknowledged before,
// with the right content and in order; what comes again is a window at most; and no
// power cut leaves a file that counts as damaged.
func TestAPowerCutAtAnyMomentCostsNothingPromised(t *testing.T) {
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	if !testenv.Apart(t, fmt.Sprint("-soak.seed=", seed), fmt.Sprint("-soak.cuts=", soakCount(t, *soakCuts, "SIGHTD_CUTS", "250"))) {
		return
	}
	left := soakCount(t, *soakCuts, "SIGHTD_CUTS", "250")
	for round := uint64(0); left > 0 && !t.Failed(); round++ {
		n := min(left, 2000)
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) { cutPower(t, seed, round, n) })
		left -= n
	}
}

func cutPower(t *testing.T, seed, round uint64, cuts int) {
	t.Logf("seed: -soak.seed=%d", seed)
	d, dir := &disk{}, t.TempDir()
	d.mount(t, dir)
	c := process(t, "writer", "WRITER_DIR="+dir, fmt.Sprint("WRITER_SEED=", seed+round))
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	changes := d.changes()
	random := rand.New(rand.NewPCG(seed, round+1))

	// What is noted is no part of the disk. Moments with something to lose are cut
	// most, and all of those in which the file is made.
	var moments []int
	p := newPlatter()
	for i, c := range changes {
		if c.file == notes {
			continue
		}
		if p.apply(c); p.pending() > 0 {
			moments = append(moments, i)
		}
	}
	chosen := map[int]int{}
	for _, i := range moments[:10] {
		chosen[i] += 1 + cuts/100
		cuts -= 1 + cuts/100
	}
	for range cuts {
		if random.IntN(10) == 0 {
			chosen[random.IntN(len(changes))]++
		} else {
			chosen[moments[random.IntN(len(moments))]]++
		}
	}

	var w witness
	p = newPlatter()
	tried, seen := 0, 0
	for i, c := range changes {
		if c.kind == written && c.file == notes {
			w.hear(t, string(c.data))
		} else if c.file != notes {
			seen += len(c.data)
			p.apply(c)
		}
		for n := range chosen[i] {
			image := p.cut(rand.New(rand.NewPCG(seed+round, uint64(i)<<32+uint64(n))))
			if w.examine(t, image); t.Failed() {
				t.Fatalf("after change %d of %d, cut %d, promised to %d, acknowledged to %d", i, len(changes), n, w.given, w.acked)
			}
			tried++
		}
	}
	t.Logf("%d changes of the disk, %d bytes (the outbox says %d), %d events, %d power cuts", len(changes), seen, w.written, w.given, tried)
	// What it says that it writes is what it writes, but for opening.
	if opening := 256 << 10; w.written > seen || w.written < seen-opening {
		t.Errorf("%d bytes were written, the outbox says %d", seen, w.written)
	}
	if w.given < 500 {
		t.Errorf("%d events only: too few to say something", w.given)
	}
}

// notes is the file of what the process was given: the first that it makes.
const notes = 0

// A witness is what was promised and acknowledged before a moment.
type witness struct {
	given, acked uint64
	written      int // bytes, as the outbox says
}

func (w *witness) hear(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var kind string
		var seq uint64
		if _, err := fmt.Sscan(line, &kind, &seq); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch kind {
		case "given":
			w.given = max(w.given, seq)
		case "acked":
			w.acked = seq
		case "written":
			w.written += int(seq)
		}
	}
}

// examine opens what a power cut left.
func (w *witness) examine(t *testing.T, image map[string][]byte) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cut")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, data := range image {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log testenv.Buffer
	o, err := OpenOutbox(filepath.Join(dir, "outbox.db"), Limits{}, Always, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if log.String() != "" {
			t.Errorf("it says: %s", log.String())
		}
	}()
	front, last := o.front, o.last
	if last < w.given || front > w.acked || w.given > front && w.given-front > window {
		t.Errorf("%d to %d are left", front+1, last)
	}
	for seq := front; seq < last; {
		messages, _, err := o.store.read(seq, 1000)
		if err != nil || len(messages) == 0 {
			t.Errorf("%d messages behind %d, error %v", len(messages), seq, err)
			return
		}
		for _, m := range messages {
			seq++
			if want := lasting(seq); m.Seq != seq || m.ID != want.ID || !bytes.Equal(m.Payload, want.Payload) {
				t.Errorf("message %d is %d, id %s, %d bytes, want %d bytes", seq, m.Seq, m.ID, len(m.Payload), len(want.Payload))
				return
			}
		}
	}
}

// lasting is the message with a number, the same in every process. Few compress, so
// that the file is of many pages.
func lasting(seq uint64) Message {
	random := rand.New(rand.NewPCG(5, seq))
	size := random.IntN(300)
	if random.IntN(20) == 0 {
		size = random.IntN(40_000)
	}
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(random.Uint32())
	}
	return Message{ID: fmt.Sprint(seq), Topic: "t", Payload: payload}
}

// beWriter is the process whose power is cut.
func beWriter() error {
	dir := os.Getenv("WRITER_DIR")
	seed, err := strconv.ParseUint(os.Getenv("WRITER_SEED"), 10, 64)
	if err != nil {
		return err
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		return err
	}
	defer said.Close()
	random := rand.New(rand.NewPCG(seed, 0))
	sent := uint64(0)
	for range 6 {
		o, err := OpenOutbox(filepath.Join(dir, "outbox.db"), Limits{}, Always, slog.New(slog.NewTextHandler(os.Stdout, nil)))
		if err != nil {
			return err
		}
		sent = o.front
		for range 30 {
			for range random.IntN(40) {
				if err := o.Append(lasting(o.last + 1)); err != nil {
					return err
				}
			}
			if sent, err = takeSome(o, random, sent, said); err != nil {
				return err
			}
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		}
		if s := o.Stats(); s.Error != "" {
			return errors.New(s.Error)
		}
		if err := o.Close(); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(said, "written", o.Stats().Written); err != nil {
			return err
		}
	}
	return nil
}

// takeSome takes what there is, notes it, and may acknowledge it. What it takes it
// notes afterwards, what it acknowledges before: so the note never says too much of
// what must be there.
func takeSome(o *Outbox, random *rand.Rand, sent uint64, said *os.File) (uint64, error) {
	messages := o.After(sent, 1+random.IntN(window))
	if len(messages) > 0 {
		sent = messages[len(messages)-1].Seq
		if _, err := fmt.Fprintln(said, "given", sent); err != nil {
			return sent, err
		}
	}
	if random.IntN(3) > 0 {
		if _, err := fmt.Fprintln(said, "acked", sent); err != nil {
			return sent, err
		}
		o.Ack(sent)
	}
	return sent, nil
}
