package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sightd/sightd/internal/strict"
)

// Bounds of commands, so that who may send them can neither fill memory or disk
// nor keep the device from its work.
const (
	maxCommand  = 8 << 10          // bytes of a payload
	maxID       = 128              // bytes of an id
	maxAhead    = 24 * time.Hour   // that `expires` may lie in the future
	maxDoing    = 15 * time.Second // that a command may take
	maxWaiting  = 8                // commands that wait for the one before
	maxReplies  = 16               // replies that wait for the broker
	maxFault    = 1000             // bytes of an error in a reply
	commandRate = 5 * time.Second  // between two commands in the long run …
	burst       = 10               // … and how many may come at once
)

// What a command is refused for: Reply.Code, and the causes in CommandStats.
// Commands add codes of their own.
const (
	RefusedRetained    = "retained"     // ignored, without a reply: it would come again with each session
	RefusedEmpty       = "empty"        // not answered: a retained command was cleared
	RefusedRate        = "rate-limited" // not answered either
	RefusedBusy        = "busy"         // too many wait already
	RefusedSize        = "too-large"
	RefusedInvalid     = "invalid" // no JSON, or not as the command wants it
	RefusedUnknown     = "unknown" // a broker sends what was not subscribed to
	RefusedClock       = "clock-not-set"
	RefusedExpired     = "expired"
	RefusedFarFuture   = "expires-too-late"
	RefusedReused      = "id-reused" // by another command
	RefusedNotKept     = "not-kept"  // the disk takes no note of it
	RefusedInterrupted = "interrupted"
	RefusedFailed      = "failed" // begun, and failed
	ReplyGone          = "reply-gone"
)

// A Request is what every command carries. A command's arguments are a struct
// that embeds it, with json tags.
type Request struct {
	ID      string `json:"id"`      // of the sender's making; a repeated one gets its first reply
	Expires Time   `json:"expires"` // RFC 3339; from then on it isn't obeyed
}

func (r *Request) request() *Request { return r }

// UnmarshalText reads RFC 3339.
func (t *Time) UnmarshalText(b []byte) error {
	if t.Time.UnmarshalText(b) != nil {
		return errors.New("a time such as 2026-11-22T23:30:00Z")
	}
	return nil
}

// A Command reads a payload into its arguments, and gives what does it.
type Command func(*strict.Document) (*Request, func(context.Context) (any, error))

// NewCommand makes a command of what does it. do runs in a goroutine of its own,
// one command at a time, for at most 15 s, and gives what stands in the reply as
// result. Its error is a *CommandError where programs are to know the reason.
func NewCommand[T any, P interface {
	*T
	request() *Request
}](do func(context.Context, T) (any, error)) Command {
	return func(doc *strict.Document) (*Request, func(context.Context) (any, error)) {
		var args T
		doc.Decode(&args)
		return P(&args).request(), func(ctx context.Context) (any, error) { return do(ctx, args) }
	}
}

// A CommandError is why a command isn't done, with a code for programs.
type CommandError struct {
	Code string
	Err  error
}

func (e *CommandError) Error() string { return e.Err.Error() }
func (e *CommandError) Unwrap() error { return e.Err }

// A Reply answers a command. It is QoS 1 and not retained.
type Reply struct {
	ID     string          `json:"id"` // empty where none could be read
	OK     bool            `json:"ok"`
	Code   string          `json:"code,omitempty"`   // why not, for programs
	Error  string          `json:"error,omitempty"`  // the same for people
	Result json.RawMessage `json:"result,omitempty"` // what the command gives
}

// CommandStats counts commands since New.
type CommandStats struct {
	Listening   bool              `json:"listening"`       // the broker has taken the subscription, in this session
	Error       string            `json:"error,omitempty"` // why it hasn't; empty: nothing is wrong
	Received    uint64            `json:"received"`        // messages, whatever they held
	Done        uint64            `json:"done"`            // without an error
	Repeated    uint64            `json:"repeated"`        // answered once more
	Refused     map[string]uint64 `json:"refused"`         // not done, by Reply.Code
	RepliesLost uint64            `json:"replies_lost"`    // that found no room while there was no session
}

// commands are the incoming side of a client.
type commands struct {
	all     map[string]Command
	log     *slog.Logger
	kept    *kept
	clock   func() error
	limiter *rate.Limiter
	ignored *rate.Limiter // of the log's lines about what isn't answered
	queue   chan asked
	stir    func() // there is a reply to send

	mu      sync.Mutex
	stats   CommandStats
	session *session // that listens, or tries to
	replies []outgoing
	slowed  time.Time // when the rate limit was last logged
}

// asked is a command that waits.
type asked struct {
	name string
	Request
	do func(context.Context) (any, error)
}

// outgoing is a reply that waits for the broker.
type outgoing struct {
	topic   string // without PREFIX/DEVICE/
	payload []byte
}

func newCommands(o Options, stir func()) (*commands, error) {
	c := &commands{
		all: o.Commands, log: o.Log, clock: o.Clock, stir: stir,
		kept:    newKept(o.CommandDir, o.Log),
		limiter: rate.NewLimiter(rate.Every(commandRate), burst),
		ignored: rate.NewLimiter(rate.Every(commandRate), burst),
		queue:   make(chan asked, maxWaiting),
		stats:   CommandStats{Refused: map[string]uint64{}},
	}
	for name := range o.Commands {
		if err := CheckName(name); err != nil {
			return nil, fmt.Errorf("command: %w", err)
		}
	}
	if len(c.all) > 0 && (o.CommandDir == "" || o.Clock == nil) {
		return nil, errors.New("commands need CommandDir, to note what was done, and Clock, to tell what has expired")
	}
	return c, nil
}

// arrive takes a message. It never waits: paho calls it.
func (c *commands) arrive(name string, retained bool, size int, payload []byte) {
	c.mu.Lock()
	c.stats.Received++
	c.mu.Unlock()
	command := c.all[name]
	switch {
	case retained:
		c.ignore(name, RefusedRetained, "it is retained: publish commands without the retain flag, and clear the topic with an empty retained message")
		return
	case size == 0:
		c.ignore(name, RefusedEmpty, "it is empty, as a message is that clears a retained one")
		return
	case command == nil:
		c.ignore(name, RefusedUnknown, "nobody subscribed to it")
		return
	case !c.limiter.Allow():
		c.slow(name)
		return
	case size > maxCommand:
		c.refuse(name, "", RefusedSize, fmt.Errorf("%d bytes: a command has at most %d", size, maxCommand))
		return
	}
	a, err := parse(name, command, payload)
	if err != nil {
		c.refuse(name, a.ID, RefusedInvalid, err)
		return
	}
	select {
	case c.queue <- a:
	default:
		c.refuse(name, a.ID, RefusedBusy, fmt.Errorf("%d commands wait already: send it again later", maxWaiting))
	}
}

// parse reads a payload. Where it is refused, the id is given all the same, if
// there is one.
func parse(name string, command Command, payload []byte) (asked, error) {
	doc, err := strict.JSON(name, payload, maxCommand)
	if err != nil {
		return asked{}, err
	}
	r, do := command(doc)
	if err := checkID(r.ID); err != nil {
		r.ID = ""
		doc.Errorf("id", "%v", err)
	}
	if r.Expires.IsZero() {
		doc.Errorf("expires", "missing: wanted the time up to which it may be done, such as 2026-11-22T23:30:00Z")
	}
	return asked{name, *r, do}, doc.Err()
}

func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("missing: wanted a text that no other command has")
	case len(id) > maxID:
		return fmt.Errorf("%d bytes: wanted at most %d", len(id), maxID)
	}
	if err := strict.Plain(id); err != nil { // it comes to be shown on terminals
		return fmt.Errorf("%w: wanted a text on one line, such as a UUID", err)
	}
	return nil
}

// slow counts a command that came too soon after others. It isn't answered, or a
// flood of commands would make one of replies.
func (c *commands) slow(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Refused[RefusedRate]++
	if now := time.Now(); now.Sub(c.slowed) > defaultTiming.repeat {
		c.slowed = now
		c.log.Warn("commands come faster than they are taken; those above are only counted", "command", name, "burst", burst, "then_one_each", commandRate)
	}
}

// ignore counts what gets no reply, and logs it while there is not much of it.
func (c *commands) ignore(name, code, why string) {
	c.count(code)
	if c.ignored.Allow() { // with a limit of its own: it keeps no command from being obeyed
		c.log.Warn("command ignored", "command", name, "code", code, "err", why)
	}
}

// refuse counts, logs and answers.
func (c *commands) refuse(name, id, code string, err error) {
	c.count(code)
	c.log.Warn("command refused", "command", name, "id", id, "code", code, "err", err)
	c.reply(name, marshal(refusal(id, code, err)))
}

func refusal(id, code string, err error) Reply {
	text := err.Error()
	return Reply{ID: id, Code: code, Error: text[:min(len(text), maxFault)]}
}

func (c *commands) count(code string) {
	c.mu.Lock()
	c.stats.Refused[code]++
	c.mu.Unlock()
}

func marshal(r Reply) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // text, and JSON that was marshalled
	}
	return b
}

// counted gives the present figures.
func (c *commands) counted() CommandStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Refused = maps.Clone(s.Refused)
	return s
}
