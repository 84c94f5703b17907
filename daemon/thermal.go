package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// temperatures reads the kernel's thermal zones, in °C by their type, as
// "gpu-thermal" and "cpu-thermal" are on a Jetson. Zones that can't be read,
// or that say nonsense while their unit is off, are left out.
func temperatures() map[string]float64 {
	zones, _ := filepath.Glob("/sys/class/thermal/thermal_zone*")
	out := make(map[string]float64, len(zones))
	for _, z := range zones {
		name, err := os.ReadFile(filepath.Join(z, "type"))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(z, "temp"))
		if err != nil {
			continue
		}
		milli, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || milli < -100_000 || milli > 200_000 {
			continue
		}
		out[strings.TrimSpace(string(name))] = float64(milli) / 1000
	}
	return out
}
