package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// start does what arrives until ctx ends; wait for the last with finish.
func (c *commands) start(ctx context.Context) (finish func()) {
	if len(c.all) == 0 {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.kept.open(); err != nil {
			c.log.Error("no command can be noted, so none is obeyed", "err", err)
		}
		for {
			select {
			case a := <-c.queue:
				c.answer(ctx, a)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { <-done }
}

// answer does a command, or finds out why not, and replies.
func (c *commands) answer(ctx context.Context, a asked) {
	first, known, err := c.kept.find(a.ID)
	switch {
	case err != nil:
		c.refuse(a.name, a.ID, RefusedNotKept, err)
		return
	case known && first.Command != "" && first.Command != a.name:
		c.refuse(a.name, a.ID, RefusedReused, fmt.Errorf("the id was that of a command %s: give each command its own", first.Command))
		return
	case known:
		c.mu.Lock()
		c.stats.Repeated++
		c.mu.Unlock()
		c.log.Info("command repeated, and answered as before", "command", a.name, "id", a.ID)
		c.reply(a.name, first.Reply)
		return
	}
	now := time.Now()
	if code, err := c.untimely(a, now); err != nil {
		c.refuse(a.name, a.ID, code, err)
		return
	}
	if err := c.kept.note(a.name, a.ID, now); err != nil {
		c.refuse(a.name, a.ID, RefusedNotKept, err)
		return
	}
	r := c.do(ctx, a)
	b := marshal(r)
	if len(b) > maxPayload {
		r = refusal(a.ID, RefusedFailed, fmt.Errorf("the reply has %d bytes: at most %d are published", len(b), maxPayload))
		b = marshal(r)
	}
	if r.OK {
		c.mu.Lock()
		c.stats.Done++
		c.mu.Unlock()
		c.log.Info("command done", "command", a.name, "id", a.ID)
	} else {
		c.count(r.Code)
		c.log.Warn("command not done", "command", a.name, "id", a.ID, "code", r.Code, "err", r.Error)
	}
	if err := c.kept.keep(a.ID, b); err != nil {
		c.log.Error("the reply to a command can't be kept on disk", "command", a.name, "id", a.ID, "err", err)
	}
	c.reply(a.name, b)
}

// untimely says why a command isn't to be done now.
func (c *commands) untimely(a asked, now time.Time) (code string, err error) {
	expires := a.Expires.UTC().Format(time.RFC3339)
	if err := c.clock(); err != nil {
		return RefusedClock, fmt.Errorf("whether it has expired can't be told: %w", err)
	}
	switch ahead := a.Expires.Sub(now); {
	case ahead <= 0:
		return RefusedExpired, fmt.Errorf("it expired at %s, and it is %s here", expires, now.UTC().Format(time.RFC3339))
	case ahead > maxAhead:
		return RefusedFarFuture, fmt.Errorf("it expires at %s, and it is %s here: at most %v ahead", expires, now.UTC().Format(time.RFC3339), maxAhead)
	}
	return "", nil
}

func (c *commands) do(ctx context.Context, a asked) Reply {
	doing, cancel := context.WithTimeout(ctx, maxDoing)
	defer cancel()
	result, err := a.do(doing)
	var because *CommandError
	switch {
	case err != nil && errors.As(err, &because):
		return refusal(a.ID, because.Code, err)
	case err != nil && ctx.Err() != nil:
		return refusal(a.ID, RefusedInterrupted, fmt.Errorf("sightd was stopped meanwhile: %w", err))
	case err != nil && doing.Err() != nil:
		return refusal(a.ID, RefusedFailed, fmt.Errorf("not done within %v: %w", maxDoing, err))
	case err != nil:
		return refusal(a.ID, RefusedFailed, err)
	}
	r := Reply{ID: a.ID, OK: true}
	if result != nil {
		if r.Result, err = json.Marshal(result); err != nil {
			return refusal(a.ID, RefusedFailed, fmt.Errorf("it was done, and its result can't be written: %w", err))
		}
	}
	return r
}
