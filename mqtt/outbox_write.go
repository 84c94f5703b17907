package mqtt

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
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
	retryLeast, retryMost = 250 * time.Millisecond, 30 * time.Second
)

// OpenOutbox opens the outbox in the file at path, which it makes where there is
// none, and finds what a former process left there. A damaged file is set aside
// as path.corrupt. Only a file that another process has open is an error: while
// the disk refuses, the outbox is one in memory, which Stats and the log say.
// [Memory] makes no file; where another durability has left one, what waits in it is
// delivered, and the file removed. Close ends it.
func OpenOutbox(path string, l Limits, d Durability, log *slog.Logger) (*Outbox, error) {
	switch d {
	case Memory:
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return newOutbox(l.or(100_000), Memory, log), nil
		}
	case Always, Outage:
	default:
		return nil, fmt.Errorf("durability %q: want %s, %s or %s", d, Always, Outage, Memory)
	}
	o := newOutbox(l.or(10_000_000), d, log)
	o.store = &store{path: path}
	o.front, o.split, o.last, o.settled = unopened, unopened, unopened, unopened
	found, err := o.store.open()
	if errors.Is(err, errDamaged) {
		o.log.Error("the outbox's file is damaged and set aside; what waited in it is lost", "file", path, "aside", o.store.aside(), "err", err)
		o.damaged = true
		found, err = o.store.startAfresh()
	}
	switch {
	case errors.Is(err, errInUse):
		return nil, err
	case err != nil:
		o.failed(err)
	default:
		o.damaged = false
		o.found(found)
	}
	go o.write()
	return o, nil
}

// found takes over what the store holds. Where it is opened for the first time,
// what was appended before comes behind it.
func (o *Outbox) found(f stored) {
	o.mu.Lock()
	f.at = o.stored.at
	o.stored = f
	waits := uint64(0)
	if o.front < unopened {
		// It was open before: what the last write brought is there or isn't.
		o.drop(f.front, DropBytes) // by a write that was done though it said that it failed
		if f.last < o.split {
			o.drop(o.split, DropDamaged) // somebody removed the file
		}
		o.split = max(o.front, f.last)
		o.queue.pop(o.split)
	} else {
		waits = f.last - f.front
		o.stats.Appended += waits
		o.queue.renumber(f.last)
		o.front, o.split, o.last = f.front, f.last, f.last+uint64(o.queue.len())
	}
	o.settled = f.front
	o.mu.Unlock()
	if waits > 0 {
		o.log.Info("events wait for the broker since before the start", "events", waits, "oldest", f.oldest)
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
		case o.durability == Memory:
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
			sooner(o.leftAt.Add(idle).Sub(now))
		}
	}
	if o.broken || o.stored.aged(o.now(), o.limits) {
		sooner(0)
	}
	if o.failing != nil {
		wait = o.retry.Sub(now)
	}
	return wait
}

// take is what a write takes at the moment.
func (o *Outbox) take(now time.Time) []queued {
	if o.durability == Memory {
		return nil
	}
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
	if o.broken || o.damaged || !o.store.isOpen() {
		o.mu.Unlock()
		o.repair()
		return
	}
	batch := append([]queued(nil), o.take(time.Now())...)
	front, written := o.front, o.stored.written
	o.mu.Unlock()

	after, drops, err := o.store.commit(front, batch, o.limits, o.now())
	if err != nil {
		o.failed(err)
		o.repair() // what it holds can still be read and sent
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
	o.stats.Written, o.stats.Syncs = o.stats.Written+after.written-written, o.stats.Syncs+1
	again := o.failing != nil
	o.failing, o.pause = nil, 0
	ready := o.ready
	o.mu.Unlock()
	if again {
		o.log.Info("the outbox writes again")
	}
	ready()
}

// failed notes that the disk refuses.
func (o *Outbox) failed(err error) {
	o.mu.Lock()
	first := o.failing == nil
	o.failing = err
	o.broken = o.broken || errors.Is(err, errDamaged)
	o.pause = min(max(2*o.pause, retryLeast), o.longest)
	o.retry = time.Now().Add(o.pause)
	ready := o.ready
	o.mu.Unlock()
	if first {
		o.log.Error("the outbox can't be written, so events are kept in memory alone; trying again", "file", o.store.path, "err", err)
	}
	ready() // what waited for the disk may be sent
}

// repair opens the file again, or, where it is damaged, a new one. What a damaged
// file held is given up at once, so that it holds up nothing.
func (o *Outbox) repair() {
	o.mu.Lock()
	lost := uint64(0)
	if o.broken {
		lost = o.split - o.front
		o.drop(o.split, DropDamaged)
		o.broken, o.damaged = false, true
	}
	damaged := o.damaged
	o.mu.Unlock()
	if damaged && lost > 0 {
		o.log.Error("the outbox's file is damaged and set aside; what waited in it is lost", "file", o.store.path, "aside", o.store.aside(), "events", lost)
	}
	var found stored
	var err error
	if damaged {
		found, err = o.store.startAfresh()
	} else {
		found, err = o.store.open()
	}
	if err != nil {
		o.failed(err)
		return
	}
	o.mu.Lock()
	o.damaged = false
	if damaged && o.front < unopened { // it is empty, and all numbers go on
		found.front, found.last = o.front, o.front
	}
	o.mu.Unlock()
	o.store.stored.front, o.store.stored.last = found.front, found.last
	o.found(found)
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
		left, owed := len(o.take(time.Now())), o.stored.holds(o.front)
		o.mu.Unlock()
		if left == 0 && !owed {
			break
		}
		if !o.store.isOpen() {
			o.repair()
		}
		o.commit()
		o.mu.Lock()
		err := o.failing
		left = o.queue.len()
		o.mu.Unlock()
		if err != nil {
			if left > 0 {
				err = fmt.Errorf("%d events in memory are lost: %w", left, err)
			}
			return errors.Join(err, o.store.close())
		}
	}
	err := o.store.close()
	if o.durability == Memory && err == nil && o.stored.batches == 0 && o.failing == nil {
		err = os.Remove(o.store.path)
	}
	return err
}
