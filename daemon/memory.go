package daemon

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// resident is how many bytes of memory the process holds; 0 where that can't be told.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// availableMemory is how many bytes the process may still take before the machine, or
// the control group that it runs in, is full.
func availableMemory() (bytes int64, known bool) { return availableBelow("/proc", "/sys/fs/cgroup") }

func availableBelow(proc, cgroups string) (int64, bool) {
	have, known := meminfo(proc, "MemAvailable")
	b, err := os.ReadFile(filepath.Join(proc, "self/cgroup"))
	if err != nil {
		return have, known
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		group, ok := strings.CutPrefix(lines.Text(), "0::")
		if !ok {
			continue // of the old hierarchy
		}
		// A group's limit holds for those within.
		for dir := filepath.Join(cgroups, group); strings.HasPrefix(dir, cgroups); dir = filepath.Dir(dir) {
			limit, used := number(filepath.Join(dir, "memory.max")), number(filepath.Join(dir, "memory.current"))
			used -= fileCache(filepath.Join(dir, "memory.stat"))
			if limit > 0 && (!known || limit-used < have) {
				have, known = max(limit-used, 0), true
			}
		}
	}
	return have, known
}

// totalMemory is how many bytes the machine has, 0 where that can't be told.
func totalMemory(proc string) int64 {
	n, _ := meminfo(proc, "MemTotal")
	return n
}

// meminfo is a number of bytes of the kernel's account of memory.
func meminfo(proc, key string) (bytes int64, known bool) {
	b, err := os.ReadFile(filepath.Join(proc, "meminfo"))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// fileCache is how many bytes of files a control group holds in memory that the kernel
// gives up where they are wanted.
func fileCache(stat string) int64 {
	b, err := os.ReadFile(stat)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "inactive_file "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}
