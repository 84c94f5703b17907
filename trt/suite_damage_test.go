package trt_test

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/sightd/sightd/trt"
)

// memory is what this process has of the host's memory, and what the device has left.
func memory(t testing.TB) (host, free int64) {
	t.Helper()
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	device, err := trt.DeviceNow()
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize()), int64(device.Free)
}

func suiteLeaks(t *testing.T, info trt.Info) {
	plan := planOf(t, build(t, plain(info)))
	pixels := picture(1, 1)
	once := func() {
		e, err := trt.Load(plan, trt.LoadOptions{Graphs: true})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		b, err := e.Bind(pixels, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
	}
	fail := func() {
		if e, err := trt.Load(plan[:len(plan)/2], trt.LoadOptions{}); err == nil {
			e.Close()
			t.Fatal("half a plan was loaded")
		}
	}
	for range 20 {
		once()
	}
	fail()
	trt.TakeLog(func(int, string) {})
	host, free := memory(t)
	for range 200 {
		once()
	}
	for range 20 {
		fail()
	}
	trt.TakeLog(func(int, string) {})
	hostNow, freeNow := memory(t)
	t.Logf("over 200 loads and 20 that failed: %+d KiB of the host's memory, %+d KiB of the device's", (hostNow-host)>>10, (free-freeNow)>>10)
	if hostNow-host > 32<<20 {
		t.Errorf("the host's memory went from %d to %d bytes", host, hostNow)
	}
	if free-freeNow > 32<<20 {
		t.Errorf("the device's free memory went from %d to %d bytes", free, freeNow)
	}
}

// TensorRT protects itself against no flipped bit: who keeps plans has to, by a hash.
// A plan that is cut short is another matter.
func suiteDamaged(t *testing.T, info trt.Info) {
	plan := planOf(t, build(t, plain(info)))
	refused := func(what string, b []byte) {
		t.Helper()
		e, err := trt.Load(b, trt.LoadOptions{})
		if err == nil {
			e.Close()
			t.Errorf("%s: was loaded", what)
			return
		}
		if s := trt.StatusOf(err); s != trt.BadPlan && !(len(b) == 0 && s == trt.BadArgument) {
			t.Errorf("%s: error %v (%v)", what, err, s)
		}
	}
	for i := range 50 {
		at := i * len(plan) / 50
		refused("cut at "+strconv.Itoa(at), plan[:at])
		if !real() {
			damaged := append([]byte(nil), plan...)
			damaged[at] ^= 1 << (i % 8)
			refused("flipped at "+strconv.Itoa(at), damaged)
		}
	}
}
