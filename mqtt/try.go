package mqtt

import (
	"context"
	"errors"
	"time"
)

// A Trial is what came of a session with one broker.
type Trial struct {
	Broker   string // as SCHEME://HOST:PORT
	ClientID string
	Error    string // why there is none, in words; empty: there was one
}

// tryFor is how long a broker may take in a trial.
const tryFor = 5 * time.Second

// Try has a session with each of the brokers, one after the other, in which
// nothing is published and no will is left. The client id is one of its own, so
// the sessions of the device's daemon go on. What is wrong with options or files
// is the error.
func Try(ctx context.Context, o Options) (all []Trial, err error) {
	o.Outbox, o.Commands, o.Log = nil, nil, nil
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	c.id, c.trial = c.id+":doctor", true
	c.timing.connect = tryFor
	for _, t := range c.targets {
		trial := Trial{Broker: t.String(), ClientID: c.id}
		s, failed := c.connect(ctx, t)
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case failed != nil:
			trial.Error = explain(t, c.id, failed).words
		}
		if s != nil {
			s.client.Disconnect(uint(c.timing.stop.Milliseconds()))
		}
		all = append(all, trial)
	}
	return all, errors.Join(err, c.outbox.Close())
}
