package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// After an illegal address, a memory error that can't be corrected or the like, every
// call of CUDA fails until the process ends: only another process is cured of it. So
// the daemon ends, to be started again by whoever supervises it. Where that happens on
// and on it ends later and later, while the CPU serves if it may; how often it
// happened stands beside the engines.

// breakdownFile is what is noted in the folder of engines.
const breakdownFile = "cuda.broken.json"

// breakdownNote is its content.
type breakdownNote struct {
	Count  int       `json:"count"` // in a row
	Reason string    `json:"reason"`
	Ends   time.Time `json:"ends"` // the process that it happened to
}

// breakdown is CUDA's in this process.
type breakdown struct {
	over chan error // capacity 1: it is time to end

	mu    sync.Mutex
	known bool
	ends  time.Time
	timer *time.Timer
}

func (b *breakdown) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
	}
}

// doom has the daemon end, since CUDA is broken in this process, and tells when. The
// first to say so counts. It is zero where the daemon goes on with the CPU, since
// it ends with its sources anyway.
func (d *Daemon) doom(cause error) time.Time {
	b := &d.breakdown
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known {
		return b.ends
	}
	b.known = true
	if d.opts.UntilEnd {
		for _, u := range d.units {
			if u.spare == nil {
				b.over <- brokenDown(cause)
				break
			}
		}
		return time.Time{}
	}
	n, wait := d.noteBreakdown(cause)
	b.ends = time.Now().Add(wait)
	d.log.Error("CUDA doesn't work any more in this process, which ends to be started again",
		"ends", b.ends.UTC().Truncate(time.Second), "times", n, "err", cause)
	b.timer = time.AfterFunc(wait, func() { b.over <- brokenDown(cause) })
	return b.ends
}

func brokenDown(cause error) error {
	return fmt.Errorf("CUDA doesn't work any more in this process, so sightd has to be started again; the kernel's log (dmesg) tells of errors of the GPU: %w", cause)
}

// noteBreakdown notes one more, and tells how many there were in a row and how long
// the process is to go on: not at all the first time.
func (d *Daemon) noteBreakdown(cause error) (n int, wait time.Duration) {
	p := d.units[0].pace
	path := filepath.Join(d.cfg.StateDir, "engines", breakdownFile)
	var note breakdownNote
	b, err := strict.ReadFile(path, maxSidecar)
	now := time.Now()
	// What lasted longer than any wait was no further one in a row. A damaged note
	// costs an early start.
	if err != nil || json.Unmarshal(b, &note) != nil || note.Count < 0 || now.Sub(note.Ends).Abs() > 2*p.most {
		note = breakdownNote{}
	}
	if note.Count > 0 {
		wait = p.after(note.Count)
	}
	note = breakdownNote{Count: min(note.Count, 1<<20) + 1, Reason: cause.Error(), Ends: now.Add(wait).UTC()}
	b, err = json.MarshalIndent(note, "", "  ")
	if err == nil {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = durable.WriteFile(path, append(b, '\n'), 0o644)
		}
	}
	if err != nil {
		d.log.Warn("it can't be noted that CUDA broke", "err", err)
		wait = max(wait, p.wait) // nobody will know how often
	}
	return note.Count, wait
}
