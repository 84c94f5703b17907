package inbox

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sightd/sightd/release"
)

var (
	killSeed = flag.Uint64("inbox.seed", 0, "seed of the kills; 0: a new one")
	kills    = flag.Int("inbox.kills", 30, "how often the process is killed")
)

// runInbox names the directory in which the test program, started anew, runs an inbox
// and nothing else.
const runInbox = "INBOX_TEST_RUN"

func runUntilKilled(dir string) int {
	store, err := release.OpenStore(filepath.Join(dir, "state"))
	if err == nil {
		err = store.Clean()
	}
	if err == nil {
		_, err = store.Recover("tiny", 0, "this boot")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := quick()
	o.Settle, o.Rescan = 2*time.Millisecond, 20*time.Millisecond
	o.Dir, o.Store, o.Log = filepath.Join(dir, "inbox"), store, slog.New(slog.DiscardHandler)
	o.Take = func(r *release.Release) (*release.Entry, error) { return store.Install(r, o.Policy, release.Options{}) }
	fmt.Println("runs")
	New(o).Run(context.Background())
	return 0
}

// However a process ends while it takes drops: the next one finishes what lies there,
// nothing is in the store by half, and staging is empty again.
func TestAKillAtAnyMomentLosesNoDropAndHalvesNone(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: -inbox.seed=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	b := &box{dir: filepath.Join(dir, "inbox"), state: filepath.Join(dir, "state")}
	must(t, os.MkdirAll(b.dir, 0o755))
	number, dropped, seen := 1, map[string]release.State{}, map[release.ID]bool{}
	drop := func() {
		number++
		name, dir := fmt.Sprint("drop", number), packed(t, number)
		dropped[name] = release.Staged
		switch random.IntN(4) {
		case 0: // one that is wrong
			manifest := filepath.Join(dir, release.ManifestName)
			write(t, manifest, "{"+read(t, manifest))
			dropped[name] = release.Rejected
			must(t, os.Rename(dir, b.path(name)))
		case 1:
			delete(dropped, name)
			name += release.ArchiveSuffix
			dropped[name] = release.Staged
			write(t, b.path(name), string(archive(t, dir)))
		case 2:
			run(t, "cp", "-r", dir, b.path(name))
		default:
			must(t, os.Rename(dir, b.path(name)))
		}
	}
	for range *kills {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), runInbox+"="+dir)
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		_, _ = out.Read(make([]byte, 8)) // of what comes before, a test of the store knows
		for range 1 + random.IntN(2) {
			drop()
		}
		time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
		_ = c.Process.Kill()
		_ = c.Wait()
		checkStore(t, b.state, seen)
	}
	store, err := release.OpenStore(b.state)
	must(t, err)
	must(t, store.Clean())
	if _, err := store.Recover("tiny", 0, "this boot"); err != nil {
		t.Fatal(err)
	}
	o := quick()
	o.Rescan = 20 * time.Millisecond
	b.start(t, o) // which sees that staging is empty when it stops
	for name, state := range dropped {
		code := release.Code("")
		if state == release.Rejected {
			code = release.BadManifest
		}
		b.wait(t, name, state, code)
	}
	checkStore(t, b.state, seen)
}

// checkStore looks at each release that is in a store and wasn't seen there: it is
// whole.
func checkStore(t *testing.T, state string, seen map[release.ID]bool) {
	t.Helper()
	store, err := release.OpenStore(state)
	must(t, err)
	names, err := store.Names()
	must(t, err)
	for _, name := range names {
		entries, err := store.List(name)
		must(t, err)
		for _, e := range entries {
			if seen[e.ID()] || e.State == release.Verified {
				continue // which was on its way, and the next start forgets it
			}
			seen[e.ID()] = true
			if _, err := store.Get(name, e.ID()); err != nil {
				t.Errorf("release %s of %s is %s: %v", e.ID(), name, e.State, err)
			}
		}
	}
}
