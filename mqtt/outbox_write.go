package mqtt

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// group and gather say when events are written: so many, or this long after
	// the last write, whichever is first.
	group  = 64
	gather = 100 * time.Millisecond
	// together is the least that an event waits for others to be written with.
	// Cameras decide at the same moments.
	together = 5 * time.Millisecond
	// prompt is how long the broker has to acknowledge before [Outage] writes.
	prompt = time.Second
	// idle is how long acknowledgements wait for a write that they can go with.
	idle = 5 * time.Second
	// most and mostBytes are what one write takes.
	most      = 8 * group
	mostBytes = 1 << 20
	// retryLeast and retryMost bound the pause between writes that fail.
	retryLeast, retryMost = 250 * time.Millisecond, 10 * time.Second
)

// OpenOutbox opens the outbox in the file at path, which it makes where there is
// none, and finds what a former process left there. A damaged file is set aside
// as path.corrupt. Only a file that another process has open is an error: while
// the disk refuses, the outbox is one in memory, which Stats and the log say.
// [Memory] doesn't touch the file. Close ends it.
func OpenOutbox(path string, l Limits, d Durability, log *slog.Logger) (*Outbox, error) {
	switch d {
	case Memory:
		return newOutbox(l.or(100_000), Memory, log), nil
	case Always, Outage:
	default:
		return nil, fmt.Errorf("durability %q: want %s, %s or %s", d, Always, Outage, Memory)
	}
	o := newOutbox(l.or(10_000_000), d, log)
	o.store = &store{path: path}
	if err := o.begin(); err != nil {
		return nil, err
	}
	go o.write()
	return o, nil
}

// begin opens the file.
func (o *Outbox) begin() error {
	found, err := o.store.open()
	if errors.Is(err, errDamaged) {
		o.log.Error("the outbox's file is damaged and set aside", "file", o.store.path, "aside", o.store.aside(), "err", err)
		found, err = o.store.startAfresh()
	}
	if errors.Is(err, errInUse) {
		return err
	}
	if err != nil {
		o.failed(err)
		return nil
	}
	o.found(found)
	return nil
}

// found takes over what the store held when it was opened. What was appended
// before has lower numbers only if nothing was: a store is opened late where the
// disk refused it first.
func (o *Outbox) found(f stored) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stored = f
	o.front, o.split, o.last, o.settled = f.front, f.last, f.last, f.front
	o.stats.Appended += f.last - f.front
	if n := f.last - f.front; n > 0 {
		o.log.Info("events wait for the broker since before the start", "events", n, "oldest", f.oldest)
	}
}

// write is the writer's goroutine.
func (o *Outbox) write() {
	defer close(o.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := o.due(time.Now())
		if wait <= 0 {
			o.commit()
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-o.kick:
		case <-o.stop:
			return
		}
	}
}

// due is how long it is until there is something to write.
func (o *Outbox) due(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	wait := time.Minute // for ages
	sooner := func(d time.Duration) { wait = min(wait, d) }
	if items := o.queue.items(); len(items) > 0 {
		switch n := len(o.take(now)); {
		case n == 0:
			sooner(items[0].at.Add(prompt).Sub(now))
		case n >= group:
			sooner(0)
		default:
			due := o.stored.at.Add(gather)
			if least := items[0].at.Add(together); due.Before(least) {
				due = least
			}
			sooner(due.Sub(now))
		}
	}
	if o.stored.holds(o.front) {
		if o.front-o.settled >= window/2 {
			sooner(0)
		} else {
			sooner(o.ackedAt.Add(idle).Sub(now))
		}
	}
	if o.broken || o.stored.aged(o.now(), o.limits.MaxAge) {
		sooner(0)
	}
	if o.failing != nil {
		wait = max(wait, o.retry.Sub(now))
	}
	return wait
}

// take is what a write takes at the moment.
func (o *Outbox) take(now time.Time) []queued {
	items := o.queue.items()
	n, size := 0, int64(0)
	for n < min(len(items), most) && (n == 0 || size+items[n].size() <= mostBytes) {
		size += items[n].size()
		n++
	}
	if o.durability == Outage && !o.closed && o.queue.bytes < memoryBytes/2 && o.queue.len() < memoryCount/2 {
		old := 0
		for old < n && now.Sub(items[old].at) >= prompt {
			old++
		}
		n = old
	}
	return items[:n]
}

// commit writes what is due, and what left the outbox since the last time, in
// one transaction.
func (o *Outbox) commit() {
	o.mu.Lock()
	if o.broken || !o.store.isOpen() {
		o.mu.Unlock()
		o.repair()
		return
	}
	batch := append([]queued(nil), o.take(time.Now())...)
	front := o.front
	o.mu.Unlock()

	after, drops, err := o.store.commit(front, batch, o.limits, o.now())
	if err != nil {
		o.failed(err)
		return
	}
	o.mu.Lock()
	for _, d := range drops {
		o.drop(d.upTo, d.cause)
	}
	o.stored, o.settled = after, after.front
	if n := len(batch); n > 0 {
		o.split = max(o.split, batch[n-1].Seq)
		o.queue.pop(o.split)
	}
	o.stats.Written, o.stats.Syncs = after.written, o.stats.Syncs+1
	if o.failing != nil {
		o.log.Info("the outbox writes again")
	}
	o.failing, o.pause = nil, 0
	ready := o.ready
	o.mu.Unlock()
	ready()
}

// failed notes that the disk refuses.
func (o *Outbox) failed(err error) {
	o.mu.Lock()
	if errors.Is(err, errDamaged) {
		o.broken = true
		o.mu.Unlock()
		o.log.Error("the outbox's file is damaged", "file", o.store.path, "err", err)
		return
	}
	first := o.failing == nil
	o.failing = err
	o.pause = min(max(2*o.pause, retryLeast), retryMost)
	o.retry = time.Now().Add(o.pause)
	ready := o.ready
	o.mu.Unlock()
	if first {
		o.log.Error("the outbox can't be written, so events are kept in memory alone; trying again", "file", o.store.path, "err", err)
	}
	ready() // what waited for the disk may be sent
}

// repair sets a damaged file aside and opens the next.
func (o *Outbox) repair() {
	o.mu.Lock()
	broken := o.broken
	lost := o.split - o.front
	o.mu.Unlock()
	var found stored
	var err error
	if broken {
		if found, err = o.store.startAfresh(); err == nil {
			o.log.Error("the outbox's damaged file is set aside", "aside", o.store.aside(), "events_lost", lost)
		}
	} else {
		found, err = o.store.open()
		if errors.Is(err, errDamaged) {
			found, err = o.store.startAfresh()
		}
	}
	if err == nil && found.batches > 0 {
		// Its numbers are those of messages that this process has given since.
		err = fmt.Errorf("it couldn't be opened at the start and holds %d events of before: they are sent after the next start", found.last-found.front)
		_ = o.store.close()
	}
	if err != nil {
		o.failed(err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(o.split, DropDamaged)
	o.broken = false
	o.stored, o.settled = stored{}, o.front
}

// Close writes what is still in memory and closes the file. What couldn't be
// written is the error.
func (o *Outbox) Close() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	o.mu.Unlock()
	close(o.stop)
	if o.store == nil {
		return nil
	}
	<-o.ended
	for range 2 + memoryCount/most + memoryBytes/mostBytes*2 {
		o.mu.Lock()
		left, owed := o.queue.len(), o.stored.holds(o.front)
		o.mu.Unlock()
		if left == 0 && !owed {
			break
		}
		o.commit()
		o.mu.Lock()
		err := o.failing
		left = o.queue.len()
		o.mu.Unlock()
		if err != nil {
			return errors.Join(fmt.Errorf("%d events in memory are lost: %w", left, err), o.store.close())
		}
	}
	return o.store.close()
}
