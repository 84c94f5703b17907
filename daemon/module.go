package daemon

import (
	"os"
	"path/filepath"
	"strings"
)

// Module is the Jetson module that this machine is, as `for.modules` of a release names
// it: agx-orin-64, agx-orin-32, orin-nx-16, orin-nx-8, orin-nano, agx-xavier, xavier-nx
// or thor; empty on other machines.
func Module() string { return moduleBelow("/proc") }

// moduleBelow reads the part number out of the device tree's list of what the machine is
// compatible with, such as "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234".
// Numbers: NVIDIA's Jetson Linux Developer Guide, "Quick Start", and the kernel's
// arch/arm64/boot/dts/nvidia; where one stands for two sizes of memory, that decides.
func moduleBelow(proc string) string {
	b, err := os.ReadFile(filepath.Join(proc, "device-tree/compatible"))
	if err != nil {
		return ""
	}
	is := func(part string) bool { return strings.Contains(string(b), part) }
	large := func(gib int64) bool { return totalMemory(proc) > gib<<30 }
	switch {
	case is("tegra264"):
		return "thor"
	case is("p3701"):
		if large(40) {
			return "agx-orin-64"
		}
		return "agx-orin-32"
	case is("p3767-0003"), is("p3767-0004"), is("p3767-0005"):
		return "orin-nano"
	case is("p3767"):
		if large(10) {
			return "orin-nx-16"
		}
		return "orin-nx-8"
	case is("p2888"):
		return "agx-xavier"
	case is("p3668"):
		return "xavier-nx"
	}
	return ""
}
