package ort

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// feature is an extension of the processor by its common name.
type feature struct {
	name string
	has  bool
}

// Features are the processor's features that a stored engine depends on, as
// text: the architecture, and those by which ONNX Runtime picks the layout of
// weights and the form of INT8 operators.
func Features() string {
	names := []string{runtime.GOARCH}
	for _, f := range features() {
		if f.has {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, " ")
}

// cores counts the cores that the process may use, hyper-threads of one core
// as one. Where the kernel doesn't tell, it counts processors.
func cores() int {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return runtime.NumCPU()
	}
	return countCores("/sys/devices/system/cpu", allowed.IsSet)
}

// maxCPUs is how many processors a unix.CPUSet tells apart.
const maxCPUs = 1024

// countCores counts the cores of the allowed processors that dir describes.
func countCores(dir string, allowed func(cpu int) bool) int {
	siblings := map[string]bool{} // the list of a core's hyper-threads
	for cpu := range maxCPUs {
		if !allowed(cpu) {
			continue
		}
		list, err := os.ReadFile(fmt.Sprintf("%s/cpu%d/topology/thread_siblings_list", dir, cpu))
		if err != nil {
			return runtime.NumCPU()
		}
		siblings[string(list)] = true
	}
	return max(1, len(siblings))
}
