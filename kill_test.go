package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

var (
	killSeed = flag.Uint64("kill.seed", 0, "seed of the kills; 0: a new one")
	kills    = flag.Int("kill.n", 0, "how often a daemon is killed; 0: as often as SIGHTD_KILLS says, or 25 times")
)

// However the daemon ends, and in whatever it was doing with releases: what lies on the
// disk is whole, the next start serves a verified release, and every drop comes to an
// end.
func TestAKillAtAnyMomentLeavesAWholeReleaseServing(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	for v.kill < killCount(t) && !t.Failed() {
		v.kill++
		v.lives()
	}
	if !t.Failed() {
		v.settles()
	}
	var table bytes.Buffer
	for _, phase := range slices.Sorted(maps.Keys(v.phases)) {
		fmt.Fprintf(&table, "%6d %s\n", v.phases[phase], phase)
	}
	t.Logf("%d kills, %d drops; killed while\n%s", v.kill, v.dropped, table.String())
}

func killCount(t *testing.T) int {
	t.Helper()
	if *kills > 0 {
		return *kills
	}
	n, err := strconv.Atoi(cmp.Or(os.Getenv("SIGHTD_KILLS"), "25"))
	if err != nil {
		t.Fatalf("SIGHTD_KILLS: %v", err)
	}
	return n
}

// victim is a daemon that is killed over and over, and what is dropped into its inbox.
type victim struct {
	*testing.T
	random *rand.Rand
	config string
	dir    string // of state, inbox, and all
	signer signer
	store  *release.Store

	kill, dropped int // how often
	phases        map[string]int
	number        int // of the last release
	drops         map[string]*drop
	cmd           *exec.Cmd
	alive         bool
	log           *testenv.Buffer
	ended         chan error
	highest       int // that state.json ever said
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: -kill.seed=%d", seed)
	v := &victim{
		T: t, random: rand.New(rand.NewPCG(seed, 0)), phases: map[string]int{}, drops: map[string]*drop{},
		number: firstNumber, signer: newSigner(t),
	}
	factory := filepath.Join(t.TempDir(), "factory")
	if _, err := release.Pack(tinySpec(t, 1), factory); err != nil {
		t.Fatal(err)
	}
	var state string
	v.config, state = configured(t, fmt.Sprintf(`models: [{name: tiny, release: %q}]
cameras: [{name: door, source: "test:noise", fps: 30}]
releases:
  inbox: inbox
  keys: [{file: %q}]
  probation: 1s
  proof: {frames: 4, latency: 0, memory: 0}
http: {listen: ""}
`, factory, v.signer.file))
	v.dir = filepath.Dir(v.config)
	t.Cleanup(func() {
		if v.alive {
			v.dies(true)
		}
	})
	var err error
	if v.store, err = release.OpenStore(state); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(v.inbox(), 0o755); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *victim) inbox(parts ...string) string {
	return filepath.Join(append([]string{v.dir, "inbox"}, parts...)...)
}

func (v *victim) must(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

// start starts a daemon in a process group of its own.
func (v *victim) start() {
	v.Helper()
	v.log, v.ended = new(testenv.Buffer), make(chan error, 1)
	v.cmd = exec.Command(testenv.Sightd(v), "run", "-c", v.config)
	v.cmd.Stdout, v.cmd.Stderr = v.log, v.log
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	v.must(v.cmd.Start())
	v.alive = true
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(v.cmd, v.ended)
}

// dies kills the daemon, half the time with the workers of its cameras.
func (v *victim) dies(group bool) {
	v.Helper()
	pid := v.cmd.Process.Pid
	if group {
		pid = -pid
	}
	v.must(syscall.Kill(pid, syscall.SIGKILL))
	<-v.ended
	v.alive = false
}

// lives is one life of the daemon: it starts, serves, gets something to do, and is
// killed while it does that.
func (v *victim) lives() {
	v.start()
	group := v.random.IntN(2) == 0
	if v.random.IntN(20) == 0 { // before it serves
		v.sleep(v.random.Int64N(int64(500 * time.Millisecond)))
		v.dies(group)
		v.autopsy()
		return
	}
	if !v.serves() {
		v.dies(true)
		return
	}
	ctx, cancel := context.WithCancel(v.Context())
	busy := make(chan struct{})
	act := v.plans() // all that is random is drawn here, so that the seed tells it
	moment := v.moment()
	go func() {
		defer close(busy)
		act(ctx)
	}()
	moment()
	v.dies(group)
	cancel()
	<-busy
	v.autopsy()
}

func (v *victim) sleep(nanoseconds int64) { time.Sleep(time.Duration(nanoseconds)) }

// moments are lines of the log, after the first of which a daemon is killed very soon.
var moments = []string{
	"drop installed", "msg=preparing", "msg=building", "msg=proving", "msg=proven", "msg=serving",
	"release rolled back", "release confirmed", "release activated",
}

// moment draws when to kill the daemon: at any time within three seconds, or right after
// it has come to something that it is over with quickly.
func (v *victim) moment() (wait func()) {
	within := v.random.Int64N(int64(3 * time.Second))
	soon := int64(v.random.ExpFloat64() * float64(6*time.Millisecond))
	kind := v.random.IntN(len(moments) + 4)
	log, from := v.log, len(v.log.String())
	return func() {
		if kind >= len(moments)+2 {
			v.sleep(within)
			return
		}
		for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if kind >= len(moments) && len(v.staged()) > 0 || kind < len(moments) && bytes.Contains([]byte(log.String()[from:]), []byte(moments[kind])) {
				break
			}
		}
		v.sleep(soon)
	}
}

func (v *victim) staged() []os.DirEntry {
	entries, _ := os.ReadDir(filepath.Join(v.dir, "state", "staging"))
	return entries
}

// serves waits until the daemon serves frames with a release that may.
func (v *victim) serves() bool {
	v.Helper()
	socket, first := filepath.Join(v.dir, "control.sock"), uint64(0)
	why := "it doesn't answer"
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-v.ended:
			v.ended <- err
			v.Errorf("kill %d: the next start ended: %v\n%s", v.kill, err, v.log)
			return false
		default:
		}
		c, err := daemon.DialControl(socket)
		if err != nil {
			continue
		}
		status, err := c.Status(v.Context())
		if err != nil {
			continue
		}
		m := status.Models[0]
		why = fmt.Sprintf("%+v", m)
		if !status.Ready || m.State != "serving" || m.Frames == 0 {
			continue
		}
		if first == 0 {
			first = m.Frames
		}
		if m.Frames > first {
			v.mayServe(c)
			return true
		}
	}
	v.Errorf("kill %d: it doesn't serve within a minute of the next start: %s\n%s", v.kill, why, v.log)
	return false
}

// mayServe holds that which serves to be the factory release, on probation or confirmed.
func (v *victim) mayServe(c *daemon.Control) {
	v.Helper()
	all, err := c.Releases(v.Context())
	if err != nil {
		return // it was asked to stop, or is about to
	}
	m := all.Models[0]
	for _, e := range m.Releases {
		if e.ID() == m.ServingID() && (e.Factory || e.State == release.Serving || e.State == release.Confirmed) {
			return
		}
	}
	v.Errorf("kill %d: %v serves: %+v\n%s", v.kill, m.ServingID(), m.Releases, v.log)
}
