// Package importrules holds the rules of which folder may import which: arrows
// point from main to daemon to the rest, and the rest don't know each other, so
// that each can be read, tested and exchanged alone.
package importrules

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

const (
	module = "github.com/sightd/sightd"
	tags   = "gocv_specific_modules,gocv_videoio"
	opencv = "gocv.io/x/gocv"
)

// allowed says which other folders a folder's packages may import. All may
// import internal; tests may import what they like.
var allowed = map[string][]string{
	"main":        {"calibcache", "calibration", "camera", "daemon", "dla", "mqtt", "onnx", "ort", "release", "systemd", "trt"},
	"daemon":      {"calibcache", "camera", "dla", "mqtt", "onnx", "ort", "release", "systemd", "trt"},
	"calibration": {"calibcache", "camera", "onnx", "ort", "release"},
	"release":     {"calibcache", "onnx"},
	"calibcache":  {"onnx"},
	"dla":         {"onnx"},
	"onnx":        {},
	"trt":         {},
	"ort":         {},
	"camera":      {},
	"mqtt":        {},
	"systemd":     {},
	"internal":    {},
	"ota":         {},       // examples, which only tests look at
	"docs":        {},       // examples, as outsiders write them
	"bench":       {"mqtt"}, // the fleet, which is a program of its own
	"demo":        {"mqtt"}, // its subscriber, which is a program of its own
}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestFoldersImportOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "-tags", tags, "./...") {
		folder := folderOf(p.ImportPath)
		may, known := allowed[folder]
		if !known {
			t.Errorf("%s: folder %s has no rule: add one to this test", p.ImportPath, folder)
			continue
		}
		for _, imported := range p.Imports {
			if !inModule(imported) {
				continue
			}
			if to := folderOf(imported); to != folder && to != "internal" && !slices.Contains(may, to) {
				t.Errorf("%s imports %s: %s may import only %q, and internal", p.ImportPath, imported, folder, may)
			}
		}
	}
}

// sightd has to start, and to say what is missing, where there is no OpenCV.
func TestOnlyTheCameraWorkerNeedsOpenCV(t *testing.T) {
	t.Parallel()
	needs := func(pattern string) bool {
		return slices.ContainsFunc(list(t, "-deps", "-tags", tags, pattern), func(p listed) bool {
			return p.ImportPath == opencv
		})
	}
	if needs(".") {
		t.Errorf("sightd depends on %s", opencv)
	}
	if !needs("./camera/cmd/sightd-camera") {
		t.Errorf("sightd-camera doesn't depend on %s: has it moved?", opencv)
	}
}

func TestSightdLinksNoOpenCV(t *testing.T) {
	t.Parallel()
	program, err := elf.Open(testenv.Sightd(t))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	libraries, err := program.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries {
		if strings.Contains(l, "opencv") || strings.Contains(l, "onnxruntime") {
			t.Errorf("bin/sightd is linked with %s, which it should open at run time or leave to others", l)
		}
	}
}

// list runs go list in the repository's root.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir = testenv.Root()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	var packages []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		packages = append(packages, p)
	}
}

func inModule(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// folderOf is the first folder of a package of this module; "main" for the root.
func folderOf(path string) string {
	folder, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, module), "/"), "/")
	if folder == "" {
		return "main"
	}
	return folder
}
