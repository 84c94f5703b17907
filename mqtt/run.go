package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Run keeps a session with the broker until ctx ends, then says `offline` and
// leaves within about two seconds. It returns an error only when it is called
// while it runs.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("mqtt client: Run is running already")
	}
	c.running = true
	c.status.Since = time.Now()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		c.mu.Unlock()
	}()

	defer c.commands.start(ctx)()

	news := reporter{log: c.log.With("broker", c.target.String()), repeat: c.timing.repeat}
	sessions := 0
	for attempt := 0; ; attempt++ {
		var up time.Time
		err := c.session(ctx, func() {
			up = time.Now()
			sessions++
			c.setStatus(func(s *Status) {
				s.Connected, s.Since, s.Error = true, up, ""
				s.Reconnects = uint64(sessions - 1)
			})
			news.connected(up)
		})
		now := time.Now()
		if ctx.Err() != nil {
			c.setStatus(func(s *Status) { s.Connected, s.Since, s.Error = false, now, "stopped" })
			return nil
		}
		if !up.IsZero() && now.Sub(up) >= c.timing.stable {
			attempt = 0
		}
		why := explain(c.target, c.id, err)
		c.setStatus(func(s *Status) {
			if s.Connected {
				s.Connected, s.Since = false, now
			}
			s.Error = why.words
			s.Failures++
		})
		news.failed(now, why)
		pause := time.NewTimer(backoff(attempt, c.timing.least, c.timing.most, rand.Float64()))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

// setStatus changes the status and tells the hook, if it says something new.
func (c *Client) setStatus(change func(*Status)) {
	c.mu.Lock()
	before := c.status
	change(&c.status)
	after := c.status
	c.mu.Unlock()
	if c.opts.OnStatus != nil && (before.Connected != after.Connected || before.Error != after.Error) {
		c.opts.OnStatus(after)
	}
}

// A reporter logs what changes, not every attempt.
type reporter struct {
	log    *slog.Logger
	repeat time.Duration

	kind     string    // of the last failure logged since there was a connection
	last     time.Time // when it was logged
	since    time.Time // of the first failure
	failures int       // since there was a connection
}

func (r *reporter) connected(now time.Time) {
	if r.failures == 0 {
		r.log.Info("connected to the broker")
	} else {
		r.log.Info("connected to the broker again", "failures", r.failures, "away", now.Sub(r.since).Round(time.Millisecond))
	}
	r.kind, r.failures = "", 0
}

func (r *reporter) failed(now time.Time, why reason) {
	if r.failures == 0 {
		r.since = now
	}
	r.failures++
	if why.kind == r.kind && now.Sub(r.last) < r.repeat {
		return
	}
	r.kind, r.last = why.kind, now
	r.log.Warn("no connection to the broker; events are kept, trying again", "err", why.words, "failures", r.failures)
}
