package ring

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// writeUntilKilled publishes frames on the lane at file descriptor 3, after the
// number in the environment, as fast as it can.
func writeUntilKilled() {
	m, err := Open(os.NewFile(3, "lane"), layout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	after, _ := strconv.ParseUint(os.Getenv("RING_TEST_WRITER"), 10, 64)
	w := NewWriter(m, after, os.Getenv("RING_TEST_NEWEST") == "true")
	fmt.Println("writing")
	for {
		if i, ok := w.Acquire(); ok {
			fill(m.Pixels(i), w.Number()+1)
			w.Publish(i, Meta{Seq: w.Number() + 1})
		}
	}
}

// A writer is killed wherever it is. No frame that was taken is torn, none comes
// twice, none is missing where every frame counts, and claims stay.
func TestWriterKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, newest := range []bool{true, false} {
		t.Run(fmt.Sprint("newest wins: ", newest), func(t *testing.T) {
			t.Parallel()
			m, f := create(t, layout)
			r := NewReader(m, newest)
			random := rand.New(rand.NewPCG(3, 4))
			last, after, held := uint64(0), uint64(0), -1
			var heldSeq uint64
			for range 12 {
				kill := startWriter(t, f, after, newest)
				for taken := 0; taken < 1+random.IntN(60); {
					i, meta, ok := r.Take()
					if !ok {
						continue
					}
					taken++
					switch {
					case !filled(m.Pixels(i), meta.Seq):
						t.Fatalf("frame %d is torn", meta.Seq)
					case meta.Seq <= last, !newest && meta.Seq != last+1:
						t.Fatalf("frame %d came after %d", meta.Seq, last)
					}
					last = meta.Seq
					if held < 0 {
						held, heldSeq = i, meta.Seq
						continue
					}
					r.Release(i)
				}
				time.Sleep(time.Duration(random.IntN(500)) * time.Microsecond) // anywhere
				kill()
				after = max(last, r.Recover().Number)
				if !filled(m.Pixels(held), heldSeq) {
					t.Fatalf("the claimed frame %d was written over", heldSeq)
				}
			}
			if r.Broken() > 0 {
				t.Errorf("%d frames made no sense", r.Broken())
			}
		})
	}
}

// startWriter starts this program as a writer. The function it returns kills it.
func startWriter(t *testing.T, lane *os.File, after uint64, newest bool) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint("RING_TEST_WRITER=", after), fmt.Sprint("RING_TEST_NEWEST=", newest))
	cmd.ExtraFiles = []*os.File{lane}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
	t.Cleanup(kill)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the writer did not start: %v", err)
	}
	return kill
}
