package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// throttled is whether the machine runs slower than it could, since it is hot: some
// cooling device of a processor is at work, or the GPU's clock is limited below its
// own. A slow engine is no fault then.
func throttled() bool { return throttledBelow("/sys") }

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
	clocks, _ := filepath.Glob(filepath.Join(sys, "class/devfreq/*"))
	for _, c := range clocks {
		name := strings.ToLower(filepath.Base(c))
		if !strings.Contains(name, "gpu") && !strings.Contains(name, "gv11b") && !strings.Contains(name, "ga10b") {
			continue
		}
		freqs, err := os.ReadFile(filepath.Join(c, "available_frequencies"))
		if err != nil {
			continue
		}
		var most int64
		for _, f := range strings.Fields(string(freqs)) {
			if v, err := strconv.ParseInt(f, 10, 64); err == nil {
				most = max(most, v)
			}
		}
		if limit := number(filepath.Join(c, "max_freq")); limit > 0 && limit < most {
			return true
		}
	}
	return false
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
