package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type report struct {
	config
	connect      time.Duration // until all had a session
	before       int64         // bytes that this process held: without devices,
	idle, busy   int64         // with their sessions, and while they published
	nodes        []node
	from, killed time.Duration // since the fleet's start
	to           time.Duration
	restarted    time.Duration // 0: it wasn't

	published, arrived, duplicates, disordered int64
	ackedInTime                                uint64 // before the publishing ended
	dropped                                    uint64 // by the outboxes
	lost                                       []string
	wrong                                      []error
	said                                       []string      // of the subscriber
	recovered                                  time.Duration // when the last device was back
	caughtUp                                   time.Duration // when the last event arrived that took more than twice the p99 from before
	back                                       []time.Duration
	latency                                    [3][]time.Duration // before, during, after
}

type node struct {
	name     string
	resident int64
}

// count gathers what the devices and the watcher saw.
func (r *report) count(devices []*device, w *watcher) {
	r.arrived, r.duplicates, r.disordered = w.arrived.Load(), w.duplicates.Load(), w.disordered.Load()
	r.recovered = r.killed
	for _, d := range devices {
		for _, n := range d.client.Stats().Dropped {
			r.dropped += n
		}
		if lost, back := time.Duration(d.lost.Load()), time.Duration(d.back.Load()); lost >= r.killed && back > lost {
			r.back = append(r.back, back-r.killed)
			r.recovered = max(r.recovered, back)
		}
	}
	var after []sent
	for _, d := range devices {
		d.mu.Lock()
		for n, e := range d.sent {
			switch {
			case e.arrived == 0:
				r.lost = append(r.lost, fmt.Sprintf("%s %d (at %v)", d.name, n+1, e.at.Round(time.Millisecond)))
			case e.at >= r.killed || e.arrived >= r.killed:
				after = append(after, e)
			default:
				r.latency[0] = append(r.latency[0], e.arrived-e.at)
			}
		}
		d.mu.Unlock()
	}
	slices.Sort(r.latency[0])
	r.caughtUp = r.killed
	for _, e := range after {
		if e.arrived-e.at > 2*at(r.latency[0], 99) {
			r.caughtUp = max(r.caughtUp, e.arrived)
		}
	}
	for _, e := range after {
		phase := 1
		if e.at >= max(r.recovered, r.caughtUp) {
			phase = 2
		}
		r.latency[phase] = append(r.latency[phase], e.arrived-e.at)
	}
	w.mu.Lock()
	r.wrong, r.said = w.wrong, w.said
	w.mu.Unlock()
}

// verdict is what isn't as it should be.
func (r *report) verdict() error {
	err := errors.Join(r.wrong[:min(len(r.wrong), 5)]...)
	if r.dropped > 0 {
		err = errors.Join(err, fmt.Errorf("the outboxes dropped %d events", r.dropped))
	}
	if n := len(r.lost); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d events didn't arrive, with an acknowledgement for each: %s", n, r.published, strings.Join(r.lost[:min(n, 10)], ", ")))
	}
	return err
}

func (r *report) print(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer t.Flush()
	lasted := (r.to - r.from).Seconds()
	line := func(what, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{what}, args...)...)
	}
	line("machine", "%s", machine())
	line("fleet", "%d devices, %g events a second each, outboxes: %s, no TLS, 3 servers and the fleet on this machine", r.devices, r.rate, r.durability)
	line("all connected after", "%v", r.connect.Round(10*time.Millisecond))
	line("wanted", "%.0f events a second", float64(r.devices)*r.rate)
	line("published", "%d in %.0f s, %.0f a second", r.published, lasted, float64(r.published)/lasted)
	line("acknowledged meanwhile", "%d, %.0f a second", r.ackedInTime, float64(r.ackedInTime)/lasted)
	line("arrived", "%d, lost %d, dropped by outboxes %d", r.arrived, len(r.lost), r.dropped)
	line("duplicates", "%d, each with the id of its first", r.duplicates)
	line("behind a later one", "%d", r.disordered)
	line("memory a device", "%.0f KiB with a session, %.0f KiB while it publishes", perDevice(r.idle-r.before, r.devices), perDevice(r.busy-r.before, r.devices))
	for _, n := range r.nodes {
		line("memory of "+n.name, "%d MiB at the kill", n.resident>>20)
	}
	line("the subscriber", "%s; the kill was at %v", strings.Join(r.said, ", "), r.killed.Round(time.Millisecond))
	slices.Sort(r.back)
	line("devices whose session ended", "%d, with another after p50 %v, p95 %v, last %v", len(r.back), round(at(r.back, 50)), round(at(r.back, 95)), round(at(r.back, 100)))
	if r.restarted > 0 {
		line("the server was back", "%v after the kill", round(r.restarted-r.killed))
	}
	line("caught up", "%v after the kill; publishing ended %v after it", round(r.caughtUp-r.killed), round(r.to-r.killed))
	for i, what := range []string{"latency before the kill", "from the kill until then", "after that"} {
		slices.Sort(r.latency[i])
		l := r.latency[i]
		line(what, "p50 %v, p95 %v, p99 %v, most %v (%d events)", round(at(l, 50)), round(at(l, 95)), round(at(l, 99)), round(at(l, 100)), len(l))
	}
}

func perDevice(bytes int64, devices int) float64 { return float64(bytes) / float64(devices) / 1024 }

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// at is the p-th percentile of what is sorted; 0 where there is nothing.
func at(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100]
}

// residentBytes is a process's memory; 0 where it can't be told.
func residentBytes(pid string) int64 {
	b, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func machine() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	name := "unknown"
	cores := strings.Count("\n"+string(b), "\nprocessor\t")
	if _, rest, ok := strings.Cut(string(b), "model name\t: "); ok {
		name, _, _ = strings.Cut(rest, "\n")
	}
	return fmt.Sprintf("%s, %d cores", name, cores)
}
