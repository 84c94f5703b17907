package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// throttled is whether the machine runs slower than it is set to, since it is hot: some
// cooling device of a processor is at work. A slow engine is no fault then. A power mode
// (nvpmodel) with lower clocks is somebody's choice, and in it an engine has to be quick
// enough: it lowers max_freq of cpufreq and devfreq, which tells nothing of heat, and no
// cooling device's state.
func throttledBelow(sys string) bool {
	devices, _ := filepath.Glob(filepath.Join(sys, "class/thermal/cooling_device*"))
	for _, d := range devices {
		kind, err := os.ReadFile(filepath.Join(d, "type"))
		if err != nil {
			continue
		}
		k := strings.ToLower(string(kind))
		slows := strings.Contains(k, "cpu") || strings.Contains(k, "gpu") || strings.Contains(k, "devfreq") || strings.Contains(k, "processor")
		if slows && number(filepath.Join(d, "cur_state")) > 0 {
			return true
		}
	}
	return false
}

// overCurrents is how often a Jetson has slowed down since the boot since it drew too much
// current, by the counters of its soctherm driver (oc1_event_cnt and so on); 0 where there
// are none.
func overCurrents(sys string) (n int64) {
	counters, _ := filepath.Glob(filepath.Join(sys, "class/hwmon/hwmon*/oc*_event_cnt"))
	for _, c := range counters {
		n += number(c)
	}
	return n
}

// throttled is whether the machine is slow by no fault of the release: hot, or slowed down
// for its current since the last look. The first look counts all since the boot, so that
// it may excuse too much.
func (p *probation) throttled(sys string) bool {
	before := p.currents
	p.currents = overCurrents(sys)
	return throttledBelow(sys) || p.currents > before
}

func number(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return v
}
