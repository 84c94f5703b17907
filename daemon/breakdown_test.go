package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/trt"
)

var errCUDA = &trt.Error{Status: trt.Broken, Op: "wait", Message: "running the engine: CUDA_ERROR_ILLEGAL_ADDRESS"}

// hours is a pace at which nothing that was put off comes before the test's end.
var hours = pace{tick: 5 * time.Millisecond, log: time.Second, wait: time.Hour, most: 6 * time.Hour}

// breaks runs a daemon whose engine breaks CUDA as soon as it serves.
func breaks(t *testing.T, c *Config, o Options) (*Daemon, <-chan error) {
	t.Helper()
	b := &scripted{name: "tensorrt", lanes: 2}
	o.backend, o.pace = b, hours
	d, done := begin(t, c, o)
	eventually(t, "the engine serves", func() bool { s := d.model(); return !s.Interim && s.Frames > 0 })
	b.fail(errCUDA)
	return d, done
}

func TestADaemonEndsWhereCUDAIsBroken(t *testing.T) {
	t.Parallel()
	for _, building := range []string{"cpu", "wait"} {
		t.Run(building, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t, bars())
			c.Models[0].WhileBuilding = building
			_, done := breaks(t, c, Options{spare: &scripted{name: "ort", lanes: 1}})
			err := <-done
			if err == nil || trt.StatusOf(err) != trt.Broken || !strings.Contains(err.Error(), "has to be started again") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestADaemonWhoseCUDABreaksAgainGoesOnWithTheCPUForAWhile(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	spare := &scripted{name: "ort", lanes: 1}
	_, done := breaks(t, c, Options{spare: spare})
	if err := <-done; err == nil {
		t.Fatal("it didn't end")
	}
	c.HTTP.Listen, c.MQTT.Embedded = freeAddress(t), freeAddress(t)
	d, done := breaks(t, c, Options{spare: spare})
	eventually(t, "the CPU serves", func() bool { s := d.model(); return s.Interim && s.Build != nil })
	s := d.model()
	eventually(t, "frames are classified", func() bool { return d.model().Frames > s.Frames+20 })
	if wait := time.Until(*s.Build.NextTry); wait < 50*time.Minute || wait > time.Hour || !strings.Contains(s.Reason, "CUDA_ERROR_ILLEGAL_ADDRESS") {
		t.Errorf("the next process in %v, %+v", wait, s)
	}
	select {
	case err := <-done:
		t.Errorf("it ended: %v", err)
	default:
	}
}

func TestBreakdownsInARowAreCounted(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	b := &scripted{name: "tensorrt", lanes: 1}
	d, err := New(c, Options{backend: b, pace: hours, Worker: testenv.Worker(t), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for i, want := range []time.Duration{0, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 6 * time.Hour} {
		if n, wait := d.noteBreakdown(errCUDA); n != i+1 || wait != want {
			t.Errorf("number %d: told %d and %v, wanted %v", i+1, n, wait, want)
		}
	}
	path := c.StateDir + "/engines/" + breakdownFile
	for name, content := range map[string]string{
		"long ago":  `{"count": 5, "ends": "` + time.Now().Add(-13*time.Hour).Format(time.RFC3339) + `"}`,
		"damaged":   `{"count": 5`,
		"no number": `{"count": -5}`,
	} {
		rewrite(t, path, content)
		if n, wait := d.noteBreakdown(errCUDA); n != 1 || wait != 0 {
			t.Errorf("%s: told %d and %v", name, n, wait)
		}
	}
}

// A job that ends with its sources isn't started again by anybody.
func TestBrokenCUDAIsNoEndOfAJobThatTheCPUCanDo(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "table", Source: "test:noise?frames=400&each=true"})
	d, done := breaks(t, c, Options{spare: &scripted{name: "ort", lanes: 1}, UntilEnd: true})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := d.model(); s.Frames+s.Errors != 400 || s.Errors == 0 {
		t.Errorf("%d frames, %d errors", s.Frames, s.Errors)
	}
}

// A stored engine that can't be loaded for want of memory, say.
func TestTheCPUServesWhereAStoredEngineCannotBeLoaded(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	b := &scripted{name: "tensorrt", lanes: 1}
	spare := &scripted{name: "ort", lanes: 1}
	for start := range 2 {
		c.HTTP.Listen, c.MQTT.Embedded = freeAddress(t), freeAddress(t)
		d, err := New(c, Options{backend: b, spare: spare, pace: hours, Worker: testenv.Worker(t), Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		stop := stoppable(t, d)
		if start == 0 {
			eventually(t, "the engine is stored", func() bool { s := d.model(); return !s.Interim && s.Frames > 0 })
			b.unloadable(&trt.Error{Status: trt.NoMemory, Op: "load", Message: "no memory left on the device"})
		} else {
			eventually(t, "the CPU serves", func() bool {
				s := d.model()
				return s.Interim && s.Frames > 0 && s.Build != nil && s.Build.NextTry != nil
			})
			if s := d.model(); !strings.Contains(s.Reason, "no memory left on the device") {
				t.Errorf("%+v", s)
			}
		}
		stop()
	}
	if n, _, _ := b.counted(); n != 1 {
		t.Errorf("%d builds, want one", n)
	}
}
