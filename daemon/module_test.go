package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// put writes a file, and the folders above it.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	putFile(t, path, text)
}

func TestModulesAreKnownByTheDeviceTree(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		compatible string
		gib        int
	}{
		"agx-orin-64": {"nvidia,p3737-0000+p3701-0005\x00nvidia,p3701-0005\x00nvidia,tegra234\x00", 61},
		"agx-orin-32": {"nvidia,p3737-0000+p3701-0000\x00nvidia,p3701-0000\x00nvidia,tegra234\x00", 30},
		"orin-nx-16":  {"nvidia,p3768-0000+p3767-0000\x00nvidia,p3767-0000\x00nvidia,tegra234\x00", 15},
		"orin-nx-8":   {"nvidia,p3509-0000+p3767-0001\x00nvidia,p3767-0001\x00nvidia,tegra234\x00", 7},
		"orin-nano":   {"nvidia,p3768-0000+p3767-0005\x00nvidia,p3767-0005\x00nvidia,tegra234\x00", 7},
		"agx-xavier":  {"nvidia,p2972-0000\x00nvidia,p2888-0004\x00nvidia,tegra194\x00", 30},
		"xavier-nx":   {"nvidia,p3449-0000+p3668-0000\x00nvidia,p3668-0000\x00nvidia,tegra194\x00", 7},
		"thor":        {"nvidia,p4071-0000+p3834-0008\x00nvidia,tegra264\x00", 120},
		"":            {"raspberrypi,5-model-b\x00brcm,bcm2712\x00", 8},
	} {
		proc := t.TempDir()
		put(t, filepath.Join(proc, "device-tree/compatible"), c.compatible)
		put(t, filepath.Join(proc, "meminfo"), fmt.Sprintf("MemTotal: %12d kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n", c.gib<<20))
		if got := moduleBelow(proc); got != want {
			t.Errorf("%q with %d GiB is %q, want %q", strings.ReplaceAll(c.compatible, "\x00", " "), c.gib, got, want)
		}
	}
	if got := moduleBelow(t.TempDir()); got != "" {
		t.Errorf("without a device tree it is %q", got)
	}
}

func TestAvailableMemoryIsWhatTheMachineAndTheGroupsLeave(t *testing.T) {
	t.Parallel()
	proc, groups := t.TempDir(), t.TempDir()
	if _, known := availableBelow(proc, groups); known {
		t.Error("known without a source")
	}
	put(t, filepath.Join(proc, "meminfo"), "MemTotal: 8000000 kB\nMemAvailable: 2048 kB\n")
	put(t, filepath.Join(proc, "self/cgroup"), "1:name=systemd:/old\n0::/system.slice/sightd.service\n")
	put(t, filepath.Join(groups, "system.slice/sightd.service/memory.max"), "max\n")
	if have, known := availableBelow(proc, groups); !known || have != 2<<20 {
		t.Errorf("%d, %v without limits", have, known)
	}
	put(t, filepath.Join(groups, "system.slice/memory.max"), "1500000\n")
	put(t, filepath.Join(groups, "system.slice/memory.current"), "1400000\n")
	if have, known := availableBelow(proc, groups); !known || have != 100000 {
		t.Errorf("%d, %v where a group above has a limit", have, known)
	}
}

func TestTheMachineIsThrottledWhileACoolerOfAProcessorWorks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"cool": {map[string]string{
			"class/thermal/cooling_device0/type": "cpufreq-cpu0", "class/thermal/cooling_device0/cur_state": "0",
			"class/devfreq/17000000.gpu/available_frequencies": "306000000 1300500000", "class/devfreq/17000000.gpu/max_freq": "1300500000",
		}, false},
		"a fan":       {map[string]string{"class/thermal/cooling_device1/type": "pwm-fan", "class/thermal/cooling_device1/cur_state": "3"}, false},
		"a processor": {map[string]string{"class/thermal/cooling_device0/type": "cpufreq-cpu0\n", "class/thermal/cooling_device0/cur_state": "2\n"}, true},
		"the GPU":     {map[string]string{"class/thermal/cooling_device2/type": "devfreq-17000000.gpu", "class/thermal/cooling_device2/cur_state": "1"}, true},
		"a power mode with lower clocks, which somebody chose": {map[string]string{
			"class/devfreq/17000000.gpu/available_frequencies": "306000000 1300500000", "class/devfreq/17000000.gpu/max_freq": "306000000",
			"class/thermal/cooling_device2/type": "devfreq-17000000.gpu", "class/thermal/cooling_device2/cur_state": "0",
		}, false},
	} {
		sys := t.TempDir()
		for path, text := range c.files {
			put(t, filepath.Join(sys, path), text)
		}
		if got := throttledBelow(sys); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTooMuchCurrentExcusesASlowReleaseWhileItLasts(t *testing.T) {
	t.Parallel()
	sys := t.TempDir()
	p := &probation{}
	if p.throttled(sys) {
		t.Error("throttled without a counter")
	}
	for i, c := range []struct {
		oc1, oc3 string
		want     bool
	}{{"0", "2", true}, {"0", "2", false}, {"1", "2", true}, {"1", "4", true}, {"1", "4", false}} {
		put(t, filepath.Join(sys, "class/hwmon/hwmon1/oc1_event_cnt"), c.oc1+"\n")
		put(t, filepath.Join(sys, "class/hwmon/hwmon1/oc3_event_cnt"), c.oc3+"\n")
		if got := p.throttled(sys); got != c.want {
			t.Errorf("look %d: %v", i, got)
		}
	}
}
