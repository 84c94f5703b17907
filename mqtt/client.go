package mqtt

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

// maxPayload bounds what is published in one message: brokers have limits of
// their own, and end the connection of who exceeds them.
const maxPayload = 128 << 10

// Options say where the broker is and who this device is.
type Options struct {
	// URL is mqtt://HOST, mqtts://, ws:// or wss://, with port or the usual one
	// (1883, 8883, 80, 443).
	URL string
	// Others are brokers, written likewise, that are tried in turn with URL where
	// there is no session with it. They have to share what they are told: to
	// each, this device is one client with one set of topics.
	Others       []string
	Username     string
	PasswordFile string
	CAFile       string // PEM; only these authorities are trusted. Empty: the system's
	CertFile     string // PEM; with KeyFile, the client's certificate
	KeyFile      string

	Prefix string // of all topics; may have several levels. Empty: defaultPrefix
	Device string

	// Commands are those that are obeyed, by name; nil: none. They are noted in
	// CommandDir, which is made, before they are done. Clock says whether the
	// clock is set, and if not, why: what expires can't be told without.
	Commands   map[string]Command
	CommandDir string
	Clock      func() error

	Outbox   *Outbox      // closed by its owner. nil: one in memory with default limits
	OnStatus func(Status) // called by Run at every change; must return soon. nil: none
	Log      *slog.Logger // nil: none
}

// Status says whether there is a connection.
type Status struct {
	Connected  bool
	Broker     string    // the present or last one tried, as SCHEME://HOST:PORT
	Address    string    // the one of its addresses that has the session; empty if none
	Since      time.Time // of the present state; zero before Run
	Error      string    // the last failure in words; empty while connected
	Reconnects uint64    // sessions after the first
	Failures   uint64    // attempts that failed, and sessions that were lost
	Warnings   []string  // what needs somebody's hand, connected or not; the caller's own copy
}

// Stats counts since New.
type Stats struct {
	Status
	Published     uint64            // events that Publish was given
	Acked         uint64            // events that the broker has
	Dropped       map[string]uint64 // events given up, by cause: Drop…
	Queued        int               // events that wait
	QueuedBytes   int64             // their size
	Oldest        time.Time         // since when the oldest waits; zero if none
	Durability    Durability        // of the outbox, at the moment
	OutboxError   string            // why its disk refuses; empty: it doesn't
	Written       int64             // bytes that it gave to the disk
	States        int               // topics that hold a state
	StatesPending int               // those that the broker has still to be told
	StatesRefused uint64            // states that could not be taken, or that the broker refused
	Commands      CommandStats
}

// A Client brings events and states to a broker. Its methods may be called at
// the same time.
type Client struct {
	opts    Options
	targets []target // at least one
	id      string
	trial   bool // it says nothing, at its end neither
	log     *slog.Logger
	timing  timing
	dialer  dialer

	// Of Run's goroutine alone.
	suspicion suspicion
	kicks     kicks

	outbox   *Outbox
	states   *states
	commands *commands
	ids      *ids
	wake     chan struct{} // holds one: there is something new to send

	mu       sync.Mutex
	running  bool
	status   Status
	warnings map[string]string // by what they are about
	counted  Stats             // Published, StatesRefused and Dropped only
	progress chan struct{}     // closed and replaced when something was delivered
}

// New checks the options and reads the files that they name. It connects
// nothing.
func New(o Options) (*Client, error) {
	targets, err := o.check()
	if err != nil {
		return nil, err
	}
	o.Prefix = o.prefix()
	if o.Outbox == nil {
		o.Outbox = NewOutbox(Limits{})
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		opts:     o,
		targets:  targets,
		id:       clientID(o.Prefix, o.Device),
		log:      o.Log,
		timing:   defaultTiming,
		dialer:   dialer{resolve: net.DefaultResolver.LookupHost},
		outbox:   o.Outbox,
		states:   newStates(),
		ids:      newIDs(),
		wake:     make(chan struct{}, 1),
		progress: make(chan struct{}),
		warnings: map[string]string{},
		status:   Status{Broker: targets[0].String()},
		counted:  Stats{Dropped: map[string]uint64{DropInvalid: 0, DropSize: 0}},
	}
	c.outbox.OnReady(c.stir)
	if c.commands, err = newCommands(o, c.stir); err != nil {
		return nil, err
	}
	return c, nil
}

func (o *Options) prefix() string { return cmp.Or(o.Prefix, defaultPrefix) }

// clientID has no slash: mosquitto refuses those where its access list speaks
// of client ids.
func clientID(prefix, device string) string {
	return strings.ReplaceAll(prefix, "/", ":") + ":" + device
}

// Topic is the whole topic of one without PREFIX/DEVICE/.
func (c *Client) Topic(suffix string) string {
	if whole, ok := strings.CutPrefix(suffix, rooted); ok {
		return whole
	}
	return c.opts.Prefix + "/" + c.opts.Device + "/" + suffix
}

// Publish puts an event into the outbox, after filling in what Event says. An
// event that can't be taken is counted; the error says why.
func (c *Client) Publish(e Event) error {
	m, cause, err := c.message(e)
	c.mu.Lock()
	c.counted.Published++
	if err != nil {
		c.counted.Dropped[cause]++
	}
	c.mu.Unlock()
	if err == nil {
		err = c.outbox.Append(m)
	}
	if err != nil {
		return fmt.Errorf("event of camera %q: %w", e.Data.Camera, err)
	}
	c.stir()
	return nil
}

// message writes an event down; if it can't be, the cause to count.
func (c *Client) message(e Event) (Message, string, error) {
	if err := e.Data.check(); err != nil {
		return Message{}, DropInvalid, err
	}
	if e.Time.IsZero() {
		e.Time.Time = time.Now()
	}
	id, err := c.ids.next(e.Time.Time)
	if err != nil {
		return Message{}, DropInvalid, fmt.Errorf("make an id: %w", err)
	}
	e.SpecVersion, e.ID, e.Type, e.DataContentType = "1.0", id, EventType, "application/json"
	e.Source = source(c.opts.Prefix, c.opts.Device, e.Data.Camera)
	payload, err := json.Marshal(&e)
	if err != nil {
		return Message{}, DropInvalid, err
	}
	if len(payload) > maxPayload {
		return Message{}, DropSize, fmt.Errorf("%d bytes: at most %d", len(payload), maxPayload)
	}
	return Message{ID: id, Topic: c.Topic(TopicEvents(e.Data.Camera)), Payload: payload}, "", nil
}

// SetState makes payload what the retained topic PREFIX/DEVICE/topic says;
// empty clears the topic. It never waits; states that follow each other faster
// than the broker takes them replace each other, and all are told again after a
// reconnect. What can't be a state is counted, and logged once.
func (c *Client) SetState(topic string, payload []byte) {
	changed, err := c.states.set(topic, payload)
	if err != nil {
		c.mu.Lock()
		c.counted.StatesRefused++
		first := c.counted.StatesRefused == 1
		c.mu.Unlock()
		if first {
			c.log.Error("a state can't be published; more of them are only counted", "err", err)
		}
		return
	}
	if changed {
		c.stir()
	}
}

// stir lets the session look for something new.
func (c *Client) stir() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Drain waits until the broker has every event and every state that it was to
// get when nothing more is added meanwhile. Run must be running. If ctx ends
// before, the error says what is left and why.
func (c *Client) Drain(ctx context.Context) error {
	aged := time.NewTicker(time.Second) // events also leave by age
	defer aged.Stop()
	for {
		c.mu.Lock()
		progress := c.progress
		c.mu.Unlock()
		s := c.Stats()
		if s.Queued == 0 && s.StatesPending == 0 {
			return nil
		}
		select {
		case <-progress:
		case <-aged.C:
		case <-ctx.Done():
			why := s.Error
			if why == "" {
				why = "the broker is slow"
			}
			return fmt.Errorf("%d events and %d states not delivered (%s): %w", s.Queued, s.StatesPending, why, ctx.Err())
		}
	}
}

// Stats gives the present figures.
func (c *Client) Stats() Stats {
	box := c.outbox.Stats()
	c.mu.Lock()
	s := c.counted
	s.Status = c.present()
	dropped := make(map[string]uint64, len(box.Dropped)+len(s.Dropped))
	for cause, n := range s.Dropped {
		dropped[cause] += n
	}
	c.mu.Unlock()
	for cause, n := range box.Dropped {
		dropped[cause] += n
	}
	s.Dropped = dropped
	s.Acked, s.Queued, s.QueuedBytes, s.Oldest = box.Acked, box.Queued, box.Bytes, box.Oldest
	s.Durability, s.OutboxError, s.Written = box.Durability, box.Error, box.Written
	s.States, s.StatesPending = c.states.count()
	s.Commands = c.commands.counted()
	return s
}

// Status gives the present state of the connection.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.present()
}

// delivered tells Drain that something was.
func (c *Client) delivered() {
	c.mu.Lock()
	close(c.progress)
	c.progress = make(chan struct{})
	c.mu.Unlock()
}
