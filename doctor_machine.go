package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/daemon"
)

const tegraRelease = "/etc/nv_tegra_release"

// jetson looks at what a Jetson alone has.
func (d *doctor) jetson() {
	b, err := os.ReadFile(tegraRelease)
	if err != nil {
		const elsewhere = "this is no Jetson: there is no " + tegraRelease
		for _, name := range []string{"jetpack", "device nodes", "power mode"} {
			d.add(name, checkNone, elsewhere, "")
		}
		return
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(string(b), "# "), "\n")
	d.add("jetpack", checkOK, "L4T "+line, "")
	d.nodes()
	d.power()
}

// nodes tells whether this user may open the GPU's devices.
func (d *doctor) nodes() {
	var there, shut []string
	for _, pattern := range []string{"/dev/nvmap", "/dev/nvhost-*", "/dev/nvgpu/igpu0/*", "/dev/host1x-fence", "/dev/dri/renderD*"} {
		paths, _ := filepath.Glob(pattern)
		there = append(there, paths...)
	}
	for _, path := range there {
		if unix.Access(path, unix.R_OK|unix.W_OK) != nil {
			shut = append(shut, path)
		}
	}
	switch {
	case len(there) == 0:
		d.add("device nodes", checkMissing, "no /dev/nvmap and no /dev/nvhost-*", "let the service or the container see them")
	case len(shut) > 0:
		d.add("device nodes", checkWarning, fmt.Sprintf("%d of %d can't be opened by this user (groups %s): %s", len(shut), len(there), strings.Join(groups(), " "),
			strings.Join(shut[:min(3, len(shut))], ", ")), "add the user to the groups video and render; some nodes are root's alone, which does no harm")
	default:
		d.add("device nodes", checkOK, fmt.Sprintf("all %d can be opened", len(there)), "")
	}
}

// groups are the names of this process's groups.
func groups() []string {
	ids, _ := os.Getgroups()
	var names []string
	for _, id := range append(ids, os.Getegid()) {
		name := strconv.Itoa(id)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (d *doctor) power() {
	path, err := exec.LookPath("nvpmodel")
	if err != nil {
		d.add("power mode", checkNone, "there is no nvpmodel", "")
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-q").CombinedOutput()
	text := strings.Join(strings.Fields(string(out)), " ")
	if err != nil {
		d.add("power mode", checkWarning, fmt.Sprintf("nvpmodel -q: %v: %s", err, text), "run the doctor as root to see it")
		return
	}
	d.add("power mode", checkOK, text, "")
}

// Limits below which the doctor warns.
const (
	leastMemory = 1 << 30 // that building an engine of a usual model takes
	leastSpace  = 1 << 30
)

// machine looks at what every machine has.
func (d *doctor) machine(cfg *daemon.Config) {
	d.stateDir(cfg)
	d.clock(cfg)
	m := memory()
	found := fmt.Sprintf("%d MiB, %d available, %d of swap free", m["MemTotal"]>>10, m["MemAvailable"]>>10, m["SwapFree"]>>10)
	if (m["MemAvailable"]+m["SwapFree"])<<10 < leastMemory {
		d.add("memory", checkWarning, found, "building an engine takes about 1 GiB: stop other programs, or add swap while it is built")
		return
	}
	d.add("memory", checkOK, found, "")
}

func (d *doctor) stateDir(cfg *daemon.Config) {
	const name = "state directory"
	if cfg == nil {
		d.add(name, checkNone, "no configuration was given, -c does", "")
		return
	}
	dir := cfg.StateDir
	for {
		_, err := os.Stat(dir)
		if err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir) // the daemon makes the rest
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		d.add(name, checkMissing, fmt.Sprintf("%s: %v", cfg.StateDir, err), "make it, or set state_dir to another")
		return
	}
	free := s.Bavail * uint64(s.Bsize)
	found := fmt.Sprintf("%s, %d MiB free", cfg.StateDir, free>>20)
	switch {
	case unix.Access(dir, unix.W_OK|unix.X_OK) != nil:
		d.add(name, checkMissing, fmt.Sprintf("%s can't be written by this user", dir), "let the service's user own it, or run the doctor as that user")
	case free < leastSpace:
		d.add(name, checkWarning, found, "make room: releases, engines and the outbox need some")
	default:
		d.add(name, checkOK, found, "")
	}
}

// clock tells whether the clock was set: certificates, events and commands need the
// time.
func (d *doctor) clock(cfg *daemon.Config) {
	now := time.Now()
	found := now.Format(time.RFC3339)
	const remedy = "set it: systemctl enable --now systemd-timesyncd, or another NTP client"
	err := daemon.ClockSet()
	switch {
	case now.Year() < 2024:
		d.add("clock", checkWarning, found+", which is before this program was made", remedy)
	case err == nil:
		d.add("clock", checkOK, found+", set by a time server", "")
	case cfg != nil && len(cfg.MQTT.Commands) > 0:
		d.add("clock", checkWarning, fmt.Sprintf("%s; no command over MQTT is obeyed before it is set: %v", found, err), remedy)
	default:
		d.add("clock", checkOK, found+", which no time server is known to have set", "")
	}
}

// memory is /proc/meminfo, in KiB.
func memory() map[string]uint64 {
	m := map[string]uint64{}
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return m
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err == nil {
			m[name] = n
		}
	}
	return m
}
