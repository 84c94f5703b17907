package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
)

var soakN = flag.Int("soak.n", 0, "how often delivery is interrupted; 0: as often as SIGHTD_INTERRUPTIONS says, or 16 times")

// Whatever happens to the network, the broker and the publishing process: with
// [Always] every event that was promised arrives, in order for each camera, and
// what comes again is known by its id.
//
//   - The publisher is a process of its own, with an outbox in a file and sessions as
//     the daemon has them but for shorter times. It is killed by SIGKILL and started
//     again. Its disk goes on; a disk that loses what wasn't synced is the matter of
//     TestAPowerCutAtAnyMomentCostsNothingPromised.
//   - Promised is an event of which the publisher could say, before it was killed, that
//     it is in the file. That is so at most 100 ms after Publish and before it is sent,
//     but not when Publish returns: nothing that captures frames waits for a disk.
//   - The broker is mosquitto. It is stopped, killed, replaced by an empty one, and
//     frozen. It has no part in the proof: what such brokers keep for subscribers they
//     may lose themselves.
//   - Delivered is an event whose PUBACK came from the broker and was passed on by the
//     [tap] between. From there on it is the broker's.
//
// The events of each process and camera are numbered from 1, so that a hole shows
// also among those that weren't promised.
func TestEveryPromisedEventArrivesWhateverIsInterrupted(t *testing.T) {
	t.Parallel()
	n := soakCount(t, *soakN, "SIGHTD_INTERRUPTIONS", "16")
	c := newChaos(t, soakSeeded(t))
	c.start()
	for i := range n {
		if c.interrupt(i); t.Failed() {
			return
		}
	}
	c.settle()
	c.check(n)
}

type chaos struct {
	*testing.T
	random *rand.Rand
	broker *mosquitto
	kept   string // the broker's files
	tap    *tap
	outbox string

	lives     int
	publisher *exec.Cmd
	log       *testenv.Buffer
	read      sync.WaitGroup
	promised  map[string]uint64 // the newest number, by camera and life
	count     map[string]int    // of interruptions, by kind
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{
		T: t, random: rand.New(rand.NewPCG(seed, 0)), kept: t.TempDir(),
		outbox:   filepath.Join(t.TempDir(), "outbox.db"),
		promised: map[string]uint64{}, count: map[string]int{},
	}
	c.broker = newMosquitto(t, "allow_anonymous true", "persistence true", "persistence_location "+c.kept+"/")
	c.broker.start()
	c.tap = startTap(t, c.broker.address())
	t.Cleanup(c.kill)
	return c
}

// start starts a publisher.
func (c *chaos) start(variables ...string) {
	c.Helper()
	c.lives++
	c.log = new(testenv.Buffer)
	c.publisher = process(c, "publisher", append(variables, "PUBLISHER_URL="+c.tap.url(), "PUBLISHER_OUTBOX="+c.outbox,
		fmt.Sprint("PUBLISHER_LIFE=", c.lives))...)
	c.publisher.Stderr = c.log
	said, err := c.publisher.StdoutPipe()
	if err == nil {
		err = c.publisher.Start()
	}
	if err != nil {
		c.Fatal(err)
	}
	c.read.Add(1)
	go func() {
		defer c.read.Done()
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			var camera string
			var number uint64
			if _, err := fmt.Sscan(lines.Text(), &camera, &number); err != nil {
				c.Errorf("the publisher says %q", lines.Text())
			}
			c.promised[lifeOf(camera, number)] = number
		}
	}()
}

// kill kills the publisher, and hears what it has said. It doesn't end by itself
// unless something is wrong.
func (c *chaos) kill() {
	c.Helper()
	if c.publisher == nil {
		return
	}
	_ = c.publisher.Process.Kill()
	var exit *exec.ExitError
	if err := c.ends(); !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		c.Errorf("the publisher ended by itself: %v\n%s", err, tail(c.log))
	}
}

func (c *chaos) ends() error {
	c.read.Wait()
	err := c.publisher.Wait()
	c.publisher = nil
	return err
}

// Numbers are those of a life and camera, with the life above.
const lifeBits = 32

func lifeOf(camera string, number uint64) string {
	return fmt.Sprint(camera, " life ", number>>lifeBits)
}

func (c *chaos) sleep(most time.Duration) {
	time.Sleep(time.Duration(c.random.Int64N(int64(most))))
}

// progress waits until so many more events were delivered.
func (c *chaos) progress(n int) {
	c.Helper()
	from := c.tap.passedOn()
	for until := time.Now().Add(2 * patience); c.tap.passedOn() < from+n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			c.Fatalf("no %d events more within %v; the publisher says:\n%s", n, 2*patience, tail(c.log))
		}
	}
}

func tail(b *testenv.Buffer) string {
	s := b.String()
	return s[max(0, len(s)-4000):]
}

// long is how long something goes wrong: mostly short, at times longer than the
// publisher waits.
func (c *chaos) long() {
	if c.random.IntN(4) == 0 {
		c.sleep(4 * time.Second)
	} else {
		c.sleep(300 * time.Millisecond)
	}
}

// interrupt interrupts delivery in one way, or in two at once.
func (c *chaos) interrupt(i int) {
	c.Helper()
	kinds := c.kinds()
	names := slices.Sorted(maps.Keys(kinds))
	name := names[c.random.IntN(len(names))]
	if i%4 == 3 {
		name = "publisher killed"
	}
	c.count[name]++
	kinds[name]()
	c.tap.well()
	if c.random.IntN(2) == 0 {
		c.progress(1 + c.random.IntN(300))
	} else {
		c.sleep(200 * time.Millisecond)
	}
}

// perhaps kills the publisher in the midst of something else.
func (c *chaos) perhaps() {
	if c.random.IntN(4) == 0 {
		c.count["publisher killed meanwhile"]++
		c.kill()
		c.start()
	}
}

func (c *chaos) kinds() map[string]func() {
	during := func(change func()) func() {
		return func() {
			c.tap.set(change)
			c.perhaps()
			c.long()
		}
	}
	down := func(sig syscall.Signal, meanwhile func()) func() {
		return func() {
			c.broker.end(sig)
			c.perhaps()
			meanwhile()
			c.long()
			c.broker.start()
		}
	}
	p := c.tap
	part := 0.01 + 0.98*c.random.Float64()
	return map[string]func(){
		"publisher killed": func() {
			c.kill()
			c.start()
			if c.random.IntN(4) == 0 { // again before it has begun
				c.sleep(100 * time.Millisecond)
				c.kill()
				c.start()
			}
		},
		"broker stopped": down(syscall.SIGTERM, func() {}),
		"broker killed":  down(syscall.SIGKILL, func() {}),
		"broker replaced by an empty one": down(syscall.SIGKILL, func() {
			files, err := filepath.Glob(filepath.Join(c.kept, "*"))
			for _, f := range files {
				if err == nil {
					err = os.Remove(f)
				}
			}
			if err != nil {
				c.Error(err)
			}
		}),
		"broker frozen": func() {
			process := c.broker.cmd.Process
			_ = process.Signal(syscall.SIGSTOP)
			c.perhaps()
			c.long()
			_ = process.Signal(syscall.SIGCONT)
		},
		"connection cut":           func() { p.cut() },
		"event cut in its midst":   during(func() { p.cutPublish = part }),
		"PUBACK cut in its midst":  during(func() { p.cutPuback = part }),
		"network frozen":           during(func() { p.frozen = true }),
		"network frozen, then cut": func() { during(func() { p.frozen = true })(); p.cut() },
		"slow":                     during(func() { p.delay = time.Duration(part * float64(30*time.Millisecond)) }),
		"PUBACKs withheld":         during(func() { p.swallow = 1 }),
		"some PUBACKs withheld":    during(func() { p.swallow = 2 + int(part*20) }),
		"lies about sessions":      func() { p.set(func() { p.lie = true }); p.cut(); c.perhaps(); c.long() },
		"connections refused":      func() { p.set(func() { p.refusing = true }); p.cut(); c.perhaps(); c.long() },
	}
}

// settle has a last publisher deliver what is left.
func (c *chaos) settle() {
	c.Helper()
	c.kill()
	c.start("PUBLISHER_LAST=1")
	if err := c.ends(); err != nil {
		c.Fatalf("the last publisher: %v\n%s", err, tail(c.log))
	}
}

func (c *chaos) check(interruptions int) {
	c.Helper()
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	for _, w := range c.tap.wrong {
		c.Error(w)
	}
	delivered := map[string]map[uint64]bool{} // by life and camera
	newest := map[string]uint64{}             // of what arrived, by camera
	first := map[string]*sighting{}           // by id
	arrived := map[string]bool{}              // by id
	repeats := map[int]int{}                  // by session
	for _, s := range c.tap.seen {
		if before := first[s.id]; before == nil {
			first[s.id] = s
		} else if before.sum != s.sum {
			c.Errorf("event %s has two contents", s.id)
		} else if before.session == s.session {
			c.Errorf("event %s came twice in session %d", s.id, s.session)
		} else {
			repeats[s.session]++
		}
		if s.arrived && !arrived[s.id] {
			arrived[s.id] = true
			if s.number <= newest[s.camera] {
				c.Errorf("%s: %d arrives after %d", s.camera, s.number, newest[s.camera])
			}
			newest[s.camera] = s.number
		}
		if s.delivered {
			life := lifeOf(s.camera, s.number)
			if delivered[life] == nil {
				delivered[life] = map[uint64]bool{}
			}
			delivered[life][s.number] = true
		}
	}
	promised, most, all := uint64(0), 0, 0
	for life, number := range c.promised {
		promised += number & (1<<lifeBits - 1)
		if n := uint64(len(delivered[life])); n < number&(1<<lifeBits-1) {
			c.Errorf("%s: %d events were promised, %d delivered", life, number&(1<<lifeBits-1), n)
		}
	}
	for life, numbers := range delivered {
		last := slices.Max(slices.Collect(maps.Keys(numbers)))
		if n := last & (1<<lifeBits - 1); n != uint64(len(numbers)) {
			c.Errorf("%s: of the first %d events %d are delivered", life, n, len(numbers))
		}
	}
	for session, n := range repeats {
		most, all = max(most, n), all+n
		if n > window {
			c.Errorf("session %d repeats %d events, at most %d may be", session, n, window)
		}
	}
	if promised < uint64(10*interruptions) {
		c.Errorf("%d events only: too few to say something", promised)
	}
	var table bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(c.count)) {
		fmt.Fprintf(&table, "%6d %s\n", c.count[name], name)
	}
	c.Logf("%d interruptions, %d processes, %d sessions; %d events promised, %d delivered, %d repeated, at most %d in a session\n%s",
		interruptions, c.lives, c.tap.sessions, promised, len(arrived), all, most, table.String())
}
