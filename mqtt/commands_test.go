package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"
)

// echoArgs are the arguments of the tests' command.
type echoArgs struct {
	Request
	Say string `json:"say"`
}

// echo is a command that counts, and waits where it is told to.
type echo struct {
	mu    sync.Mutex
	said  []string
	waits chan struct{} // nil: it doesn't
}

func (e *echo) command() Command {
	return NewCommand(func(ctx context.Context, a echoArgs) (any, error) {
		e.mu.Lock()
		e.said = append(e.said, a.Say)
		e.mu.Unlock()
		if e.waits != nil {
			select {
			case <-e.waits:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		switch a.Say {
		case "refuse":
			return nil, &CommandError{"no-echo", errors.New("there is none here")}
		case "fail":
			return nil, errors.New("it broke")
		}
		return map[string]string{"said": a.Say}, nil
	})
}

func (e *echo) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.said...)
}

// bench is a client that obeys echo, a real broker, and somebody who commands.
type bench struct {
	t      *testing.T
	broker *mosquitto
	echo   *echo
	c      *Client
	sub    *subscriber
	stop   func()
}

const (
	echoTopic  = "sightd/dev1/command/echo"
	replyTopic = "sightd/dev1/command/echo/reply"
)

func newBench(t *testing.T, change func(*bench, *Options)) *bench {
	t.Helper()
	b := &bench{t: t, broker: newMosquitto(t, "allow_anonymous true", "max_queued_messages 0").start(), echo: &echo{}}
	o := Options{URL: b.broker.url("mqtt")}
	if change != nil {
		change(b, &o)
	}
	b.sub = subscribe(t, b.broker.url("mqtt"), "sightd/#")
	b.open(o)
	return b
}

// open makes the client, which obeys without a limit to the rate, and runs it.
func (b *bench) open(o Options) {
	b.t.Helper()
	if o.CommandDir == "" {
		o.CommandDir = b.t.TempDir()
	}
	if o.Clock == nil {
		o.Clock = func() error { return nil }
	}
	o.Commands = map[string]Command{"echo": b.echo.command()}
	b.c = newClient(b.t, o, quick())
	b.c.commands.limiter = rate.NewLimiter(rate.Inf, 1)
	b.stop = run(b.t, b.c)
	b.listening()
}

func (b *bench) listening() {
	b.t.Helper()
	eventually(b.t, "the subscription", func() bool { return b.c.Stats().Commands.Listening })
}

func (b *bench) send(payload string) { b.t.Helper(); b.publish(echoTopic, payload, false) }

func (b *bench) publish(topic, payload string, retained bool) {
	b.t.Helper()
	token := b.sub.client.Publish(topic, 1, retained, payload)
	if !token.WaitTimeout(patience) || token.Error() != nil {
		b.t.Fatalf("publish a command: %v", token.Error())
	}
}

// replies waits until there are so many.
func (b *bench) replies(n int) (all []Reply) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%d replies", n), func() bool { return len(b.sub.on(replyTopic)) >= n })
	for _, raw := range b.sub.on(replyTopic) {
		var r Reply
		if err := json.Unmarshal([]byte(raw), &r); err != nil {
			b.t.Fatalf("reply %q: %v", raw, err)
		}
		all = append(all, r)
	}
	return all
}

func soon() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }

func saying(id, what string) string {
	return fmt.Sprintf(`{"id":%q,"expires":%q,"say":%q}`, id, soon(), what)
}

func TestACommandIsDoneOnceAndAnsweredEachTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.send(saying("a", "hello"))
	r := b.replies(1)[0]
	if r.ID != "a" || !r.OK || string(r.Result) != `{"said":"hello"}` {
		t.Errorf("reply %+v", r)
	}
	b.send(saying("a", "something else"))
	b.replies(2)
	all := b.sub.on(replyTopic)
	if all[0] != all[1] {
		t.Errorf("answered as %s, then as %s", all[0], all[1])
	}
	if said := b.echo.all(); len(said) != 1 {
		t.Errorf("done %d times: %q", len(said), said)
	}
	if s := b.c.Stats().Commands; s.Received != 2 || s.Done != 1 || s.Repeated != 1 {
		t.Errorf("counted %+v", s)
	}
}

func TestAReplyIsKeptOverARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBench(t, func(_ *bench, o *Options) { o.CommandDir = dir })
	b.send(saying("a", "hello"))
	b.replies(1)
	b.stop()
	b.open(Options{URL: b.broker.url("mqtt"), CommandDir: dir})
	b.send(saying("a", "hello"))
	b.replies(2)
	if all := b.sub.on(replyTopic); all[0] != all[1] || len(b.echo.all()) != 1 {
		t.Errorf("answered as %q, done %d times", all, len(b.echo.all()))
	}
}

func TestCommandsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for i, tc := range []struct{ name, payload, id, code, words string }{
		{"not JSON", "open the door", "", RefusedInvalid, "JSON"},
		{"not UTF-8", "{\"id\":\"\xff\"}", "", RefusedInvalid, "UTF-8"},
		{"a list", "[]", "", RefusedInvalid, "mapping"},
		{"two values", saying("a", "b") + saying("a", "b"), "", RefusedInvalid, ""},
		{"deeply nested", strings.Repeat(`{"a":`, 1000), "", RefusedInvalid, ""},
		{"without an id", fmt.Sprintf(`{"expires":%q}`, soon()), "", RefusedInvalid, "id: missing"},
		{"a number as id", fmt.Sprintf(`{"id":7,"expires":%q}`, soon()), "", RefusedInvalid, "wanted text"},
		{"a long id", saying(strings.Repeat("i", 200), ""), "", RefusedInvalid, "200 bytes"},
		{"an id that moves the cursor", strings.ReplaceAll(saying("ESC[2J", ""), "ESC", `\u001b`), "", RefusedInvalid, "U+001B"},
		{"without expires", `{"id":"x1","say":"hello"}`, "x1", RefusedInvalid, "expires: missing"},
		{"another form of time", `{"id":"x2","expires":"tomorrow"}`, "x2", RefusedInvalid, "2026-"},
		{"an unknown key", fmt.Sprintf(`{"id":"x3","expires":%q,"sya":""}`, soon()), "x3", RefusedInvalid, `did you mean "say"`},
		{"a key that stands twice", fmt.Sprintf(`{"id":"x4","id":"x5","expires":%q}`, soon()), "", RefusedInvalid, ""},
		{"expired", fmt.Sprintf(`{"id":"x6","expires":%q}`, at(-time.Second)), "x6", RefusedExpired, "expired at"},
		{"of 1970", `{"id":"x7","expires":"1970-01-01T00:00:00Z"}`, "x7", RefusedExpired, "1970"},
		{"from the far future", `{"id":"x8","expires":"9999-12-31T23:59:59Z"}`, "x8", RefusedFarFuture, "24h"},
		{"too far ahead", fmt.Sprintf(`{"id":"x9","expires":%q}`, at(25*time.Hour)), "x9", RefusedFarFuture, "24h"},
		{"of 9 KB", saying("x10", strings.Repeat("a", 9000)), "", RefusedSize, "8192"},
		{"refused by what does it", saying("x11", "refuse"), "x11", "no-echo", "none here"},
		{"failed", saying("x12", "fail"), "x12", RefusedFailed, "it broke"},
	} {
		before := b.c.Stats().Commands.Refused[tc.code]
		b.send(tc.payload)
		r := b.replies(i + 1)[i]
		if r.OK || r.ID != tc.id || r.Code != tc.code || !strings.Contains(r.Error, tc.words) || r.Error == "" {
			t.Errorf("%s: reply %+v, want code %s, id %q, and %q in the error", tc.name, r, tc.code, tc.id, tc.words)
		}
		if n := b.c.Stats().Commands.Refused[tc.code]; n != before+1 {
			t.Errorf("%s: counted %d times", tc.name, n-before)
		}
	}
	if said := b.echo.all(); len(said) != 2 {
		t.Errorf("done: %q", said)
	}
}

func TestAnIDBelongsToOneCommand(t *testing.T) {
	t.Parallel()
	k := testKept(t)
	if err := k.note("other", "a", time.Now()); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(_ *bench, o *Options) { o.CommandDir = k.dir })
	b.send(saying("a", "hello"))
	if r := b.replies(1)[0]; r.Code != RefusedReused || !strings.Contains(r.Error, "other") {
		t.Errorf("reply %+v", r)
	}
}

func TestNothingIsObeyedWhileTheClockIsNotSet(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	set := errors.New("it is 1970 here")
	b := newBench(t, func(_ *bench, o *Options) {
		o.Clock = func() error { mu.Lock(); defer mu.Unlock(); return set }
	})
	b.send(saying("a", "hello"))
	if r := b.replies(1)[0]; r.Code != RefusedClock || !strings.Contains(r.Error, "1970") {
		t.Errorf("reply %+v", r)
	}
	mu.Lock()
	set = nil
	mu.Unlock()
	b.send(saying("a", "hello")) // it wasn't done, so its id is free
	if r := b.replies(2)[1]; !r.OK {
		t.Errorf("reply %+v", r)
	}
}

func TestARetainedCommandIsIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBench(t, func(b *bench, o *Options) {
		o.CommandDir = dir
		early := subscribe(t, b.broker.url("mqtt"), "none")
		if tok := early.client.Publish(echoTopic, 1, true, saying("a", "hello")); !tok.WaitTimeout(patience) {
			t.Fatal("publish")
		}
	})
	eventually(t, "the retained command", func() bool { return b.c.Stats().Commands.Refused[RefusedRetained] == 1 })
	b.send(saying("b", "live"))
	if r := b.replies(1)[0]; r.ID != "b" {
		t.Errorf("answered %+v", r)
	}
	if said := b.echo.all(); len(said) != 1 || said[0] != "live" {
		t.Errorf("done: %q", said)
	}
}

// A broker clears the flag for those who are there: to them it is a command like any other.
func TestACommandThatIsPublishedRetainedWhileItListensIsObeyedAndClearedInSilence(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.publish(echoTopic, saying("a", "hello"), true)
	if r := b.replies(1)[0]; r.ID != "a" || !r.OK {
		t.Errorf("reply %+v", r)
	}
	b.publish(echoTopic, "", true)
	b.send(saying("b", "live"))
	if r := b.replies(2)[1]; r.ID != "b" {
		t.Errorf("cleared, it is answered %+v", r)
	}
	if s := b.c.Stats().Commands; s.Refused[RefusedEmpty] != 1 || s.Done != 2 {
		t.Errorf("counted %+v", s)
	}
}

func TestACommandThatIsNotAllowedIsNotEvenReceived(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.publish("sightd/dev1/command/rollback", saying("a", ""), false)
	b.publish("sightd/dev1/command", saying("a", ""), false)
	b.publish("sightd/dev2/command/echo", saying("a", ""), false)
	b.send(saying("b", "live"))
	b.replies(1)
	if s := b.c.Stats().Commands; s.Received != 1 {
		t.Errorf("counted %+v", s)
	}
}

func TestWhatWasNotSubscribedToIsCounted(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.c.skipped("sightd/dev1/command/other", false, 1<<20)
	b.c.skipped("elsewhere", false, 1<<20)
	if n := b.c.Stats().Commands.Refused[RefusedUnknown]; n != 2 {
		t.Errorf("counted %d", n)
	}
}

func TestWhatIsIgnoredKeepsNoCommandFromBeingObeyed(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.c.commands.limiter = rate.NewLimiter(rate.Every(commandRate), burst)
	for range 10 * burst {
		b.c.skipped("sightd/dev1/command/other", false, 1<<20)
		b.c.commands.arrive("echo", true, 1, []byte("x"))
	}
	b.send(saying("a", "hello"))
	if r := b.replies(1)[0]; !r.OK {
		t.Errorf("reply %+v", r)
	}
}

// Ten thousand at once: it is done once, the replies are bounded, and events
// come through meanwhile.
func TestACommandRepeatedTenThousandTimes(t *testing.T) {
	t.Parallel()
	const times = 10000
	b := newBench(t, nil)
	b.c.commands.limiter = rate.NewLimiter(rate.Every(commandRate), burst)
	payload := saying("a", "hello")
	var tokens []paho.Token
	for i := range times {
		tokens = append(tokens, b.sub.client.Publish(echoTopic, 1, false, payload))
		if i%1000 == 0 {
			if err := b.c.Publish(event("cam0", i/1000+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tok := range tokens {
		if !tok.WaitTimeout(patience) || tok.Error() != nil {
			t.Fatal("publish: ", tok.Error())
		}
	}
	eventually(t, "all to be received", func() bool { return b.c.Stats().Commands.Received == times })
	drain(t, b.c)
	s := b.c.Stats()
	if len(b.echo.all()) != 1 || s.Commands.Done != 1 {
		t.Errorf("done %d times: %+v", len(b.echo.all()), s.Commands)
	}
	if n := s.Commands.Repeated + s.Commands.Refused[RefusedBusy]; n < 1 || n > 1000 || s.Commands.Refused[RefusedRate] < times-1000 {
		t.Errorf("counted %+v", s.Commands)
	}
	if s.Failures != 0 {
		t.Errorf("the session was lost: %+v", s.Status)
	}
	eventually(t, "the events", func() bool { return len(b.sub.on("sightd/dev1/cam0/events")) == times/1000 })
	wantSequence(t, sequence(t, b.sub.on("sightd/dev1/cam0/events")), times/1000)
}

func TestCommandsWaitInABoundedQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(b *bench, _ *Options) { b.echo.waits = make(chan struct{}) })
	b.send(saying("first", "hello"))
	eventually(t, "the first to begin", func() bool { return len(b.echo.all()) == 1 })
	for i := range maxWaiting {
		b.send(saying(fmt.Sprint(i), "waits"))
	}
	eventually(t, "the queue to fill", func() bool { return b.c.Stats().Commands.Received == maxWaiting+1 })
	b.send(saying("last", "too many"))
	if r := b.replies(1)[0]; r.ID != "last" || r.Code != RefusedBusy {
		t.Errorf("reply %+v", r)
	}
	close(b.echo.waits)
	b.replies(maxWaiting + 2)
	b.send(saying("last", "hello"))
	if r := b.replies(maxWaiting + 3)[maxWaiting+2]; r.ID != "last" || !r.OK {
		t.Errorf("repeated, it is answered %+v", r)
	}
}

// The packet reader leaves them out, and acknowledges each: more than a broker
// has on its way at once come in one session.
func TestCommandsOfTenMegabytes(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	large := bytes.Repeat([]byte("x"), 10<<20)
	const times = 25 // mosquitto has 20 on their way at most
	for i := range times {
		tok := b.sub.client.Publish(echoTopic, byte(1-i%5/4), false, large)
		if !tok.WaitTimeout(patience) || tok.Error() != nil {
			t.Fatal("publish: ", tok.Error())
		}
	}
	b.send(saying("a", "hello"))
	all := b.replies(times + 1)
	if r := all[0]; r.Code != RefusedSize || !strings.Contains(r.Error, "10485760 bytes") {
		t.Errorf("reply %+v", r)
	}
	if r := all[times]; !r.OK || r.ID != "a" {
		t.Errorf("the command behind them is answered %+v", r)
	}
	s := b.c.Stats()
	if s.Failures != 0 || s.Commands.Refused[RefusedSize] != times {
		t.Errorf("%+v", s)
	}
}

// With the embedded broker's library: mosquitto 2.0.11 (Debian 11) never passes on
// as much as 300 KiB over its websockets, to other clients either.
func TestACommandOfTenMegabytesOverWebsockets(t *testing.T) {
	t.Parallel()
	at := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	server := mochiServer(t, &auth.Ledger{Auth: auth.AuthRules{{Allow: true}}}, listeners.NewWebsocket(listeners.Config{ID: "ws", Address: at}))
	replies := make(chan string, 10)
	err := server.Subscribe(replyTopic, 1, func(_ *mochi.Client, _ packets.Subscription, p packets.Packet) {
		replies <- string(p.Payload)
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, echo: &echo{}}
	b.open(Options{URL: "ws://" + at})
	for _, payload := range [][]byte{bytes.Repeat([]byte("x"), 10<<20), []byte(saying("a", "hello"))} {
		if err := server.Publish(echoTopic, payload, false, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{`"code":"too-large"`, `"id":"a","ok":true`} {
		select {
		case r := <-replies:
			wantWords(t, r, want)
		case <-time.After(patience):
			t.Fatalf("no reply with %s", want)
		}
	}
	if s := b.c.Stats(); s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// mochiServer is the embedded broker's library, with an access list.
func mochiServer(t *testing.T, rules *auth.Ledger, l listeners.Listener) *mochi.Server {
	t.Helper()
	server := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	err := server.AddHook(new(auth.Hook), &auth.Options{Ledger: rules})
	if err == nil {
		err = server.AddListener(l)
	}
	if err == nil {
		err = server.Serve()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// With the embedded broker's library: mosquitto's acl_file takes every
// subscription, and passes on nothing.
func TestABrokerThatRefusesTheSubscriptionGetsTheEvents(t *testing.T) {
	t.Parallel()
	at := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	rules := &auth.Ledger{
		Auth: auth.AuthRules{{Allow: true}},
		ACL:  auth.ACLRules{{Filters: auth.Filters{"sightd/dev1/command/#": auth.Deny, "sightd/#": auth.WriteOnly}}},
	}
	mochiServer(t, rules, listeners.NewTCP(listeners.Config{ID: "tcp", Address: at}))
	c := newClient(t, Options{
		URL: "mqtt://" + at, CommandDir: t.TempDir(), Clock: func() error { return nil },
		Commands: map[string]Command{"echo": new(echo).command()},
	}, quick())
	run(t, c)
	eventually(t, "the refusal", func() bool { return strings.Contains(c.Stats().Commands.Error, "access list") })
	if err := c.Publish(event("cam0", 1)); err != nil {
		t.Fatal(err)
	}
	drain(t, c)
	if s := c.Stats(); s.Commands.Listening || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCommandsAreReceivedAgainAfterABrokersRestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.broker.end(syscall.SIGKILL)
	eventually(t, "the loss", func() bool { return !b.c.Stats().Commands.Listening })
	b.broker.start()
	b.listening()
	b.sub = subscribe(t, b.broker.url("mqtt"), "sightd/#") // the broker has forgotten the one before
	b.send(saying("a", "hello"))
	b.replies(1)
	if len(b.echo.all()) != 1 {
		t.Errorf("done: %q", b.echo.all())
	}
}

func TestAStopInterruptsACommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBench(t, func(b *bench, o *Options) { b.echo.waits, o.CommandDir = make(chan struct{}), dir })
	b.send(saying("a", "hello"))
	eventually(t, "it to begin", func() bool { return len(b.echo.all()) == 1 })
	b.stop()
	b.open(Options{URL: b.broker.url("mqtt"), CommandDir: dir})
	b.send(saying("a", "hello"))
	if r := b.replies(1)[0]; r.ID != "a" || r.Code != RefusedInterrupted {
		t.Errorf("reply %+v", r)
	}
}

func TestCommandsNeedTheirOptions(t *testing.T) {
	t.Parallel()
	e := &echo{}
	ok := Options{
		URL: "mqtt://localhost", Device: "dev1", CommandDir: t.TempDir(), Clock: func() error { return nil },
		Commands: map[string]Command{"echo": e.command()},
	}
	for want, change := range map[string]func(*Options){
		"CommandDir": func(o *Options) { o.CommandDir = "" },
		"Clock":      func(o *Options) { o.Clock = nil },
		"wildcards":  func(o *Options) { o.Commands = map[string]Command{"+": e.command()} },
	} {
		o := ok
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	if _, err := New(ok); err != nil {
		t.Error(err)
	}
}

func FuzzCommand(f *testing.F) {
	f.Add([]byte(saying("a", "hello")))
	f.Add([]byte(`{"id":"a","expires":"9999-12-31T23:59:59Z","say":null}`))
	f.Add([]byte(`{"id":"a","id":1e999,"expires":[]}`))
	f.Add([]byte(`{"":`))
	f.Add([]byte("\xff"))
	e := &echo{}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parse("echo", e.command(), b)
		if err != nil {
			if a.ID != "" && checkID(a.ID) != nil {
				t.Errorf("id %q of what is refused", a.ID)
			}
			if r := refusal(a.ID, RefusedInvalid, err); len(r.Error) > maxFault || len(marshal(r)) > maxCommand {
				t.Errorf("the refusal has %d bytes", len(marshal(r)))
			}
			return
		}
		if len(b) > maxCommand || checkID(a.ID) != nil || a.Expires.IsZero() || a.do == nil {
			t.Errorf("%q is taken as %+v", b, a)
		}
		if !json.Valid(b) {
			t.Errorf("%q is taken, and no JSON", b)
		}
	})
}

// docs/operating.md shows an access list: operators command, devices don't.
func TestTheAccessListOfTheDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "## Commands over MQTT")
	_, list, ok := strings.Cut(rest, "```\nuser operator")
	list, _, closed := strings.Cut(list, "```")
	if !ok || !closed {
		t.Fatal("docs/operating.md has no access list under Commands over MQTT")
	}
	acl := filepath.Join(t.TempDir(), "acl")
	writeFile(t, acl, "user operator"+list)
	b := &bench{t: t, echo: &echo{}, broker: newMosquitto(t, "allow_anonymous true", "acl_file "+acl).start()}
	as := func(user string) *subscriber { return subscribeAs(t, b.broker.url("mqtt"), user, "sightd/#") }
	b.open(Options{URL: b.broker.url("mqtt"), Username: "dev1"})
	other := as("dev2")
	if tok := other.client.Publish(echoTopic, 1, false, saying("dev2", "hello")); !tok.WaitTimeout(patience) {
		t.Fatal("publish")
	}
	b.sub = as("operator")
	b.send(saying("operator", "hello"))
	if r := b.replies(1)[0]; r.ID != "operator" || !r.OK {
		t.Errorf("reply %+v", r)
	}
	if s := b.c.Stats().Commands; s.Received != 1 || len(other.on(replyTopic)) > 0 {
		t.Errorf("counted %+v; another device sees %q", s, other.on(replyTopic))
	}
}

func TestWhereNothingCanBeNotedNothingIsDone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "commands")
	writeFile(t, file, "in the way")
	b := newBench(t, func(_ *bench, o *Options) { o.CommandDir = file })
	b.send(saying("a", "hello"))
	if r := b.replies(1)[0]; r.Code != RefusedNotKept || len(b.echo.all()) > 0 {
		t.Errorf("reply %+v, done %q", r, b.echo.all())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	b.send(saying("a", "hello"))
	if r := b.replies(2)[1]; !r.OK {
		t.Errorf("with the way clear: %+v", r)
	}
}
