package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
)

// A disk that is full or broken now and then, also at the very last sync of a write,
// costs no event and no order as long as the process lives, and not the process.
func TestAFailingDiskCostsNoEvent(t *testing.T) {
	t.Parallel()
	if !testenv.Apart(t) {
		return
	}
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(11, seed))
		asked, ill := 0, 0
		d, dir := &disk{}, t.TempDir()
		d.ill = func() syscall.Errno {
			d.mu.Lock()
			defer d.mu.Unlock()
			switch asked++; {
			case asked > 800:
				return 0
			case ill > 0:
				ill--
			case random.IntN(20) == 0 || seed%2 == 1 && asked == 1:
				ill = random.IntN(8)
			default:
				return 0
			}
			return []syscall.Errno{syscall.EIO, syscall.ENOSPC}[random.IntN(2)]
		}
		d.mount(t, dir)
		c := process(t, "sufferer", "WRITER_DIR="+dir, fmt.Sprint("WRITER_SEED=", seed))
		var said bytes.Buffer
		c.Stdout, c.Stderr = &said, &said
		if err := c.Run(); err != nil {
			t.Errorf("seed %d: %v\n%s", seed, err, said.String())
		}
		d.mu.Lock()
		n := asked
		d.mu.Unlock()
		if n < 100 {
			t.Errorf("seed %d: the disk was asked %d times only", seed, n)
		}
	}
}

// beSufferer is the process with that disk.
func beSufferer() error {
	seed, err := strconv.ParseUint(os.Getenv("WRITER_SEED"), 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 1))
	o, err := OpenOutbox(filepath.Join(os.Getenv("WRITER_DIR"), "outbox.db"), Limits{}, Always, slog.New(slog.NewTextHandler(os.Stdout, nil)))
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.longest, o.retry = 5*time.Millisecond, time.Time{}
	o.mu.Unlock()
	o.look()
	const all = 5000
	appended, got, last, sent := 0, 0, 0, uint64(0)
	for end := time.Now().Add(patience); got < all || o.Len() > 0 || o.Stats().Error != ""; {
		if time.Now().After(end) {
			return fmt.Errorf("%d appended, %d came out: %+v", appended, got, o.Stats())
		}
		for range min(random.IntN(30), all-appended) {
			appended++
			if err := o.Append(numbered(appended)); err != nil {
				return err
			}
		}
		if random.IntN(30) == 0 {
			sent, last = 0, 0 // a new session
		}
		for _, m := range o.After(sent, 1+random.IntN(window)) {
			n, err := strconv.Atoi(m.ID)
			if m.Seq <= sent {
				last = 0 // the file was opened, and all numbers are new
			}
			if err != nil || n > got+1 || last > 0 && n != last+1 {
				return fmt.Errorf("after %d, the newest of %d, comes %s", last, got, m.ID)
			}
			got, sent, last = max(got, n), m.Seq, n
		}
		if random.IntN(8) == 0 {
			o.Ack(sent)
		}
		time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
		if got == all {
			o.Ack(sent)
		}
	}
	s := o.Stats()
	for cause, n := range s.Dropped {
		if n > 0 {
			err = errors.Join(err, fmt.Errorf("%d were dropped by %s", n, cause))
		}
	}
	_ = o.Close() // the disk may fail still
	return err
}
