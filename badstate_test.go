package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/testenv"
)

// disk mounts a file system of 1 MiB at dir. That takes root.
func disk(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount a file system of 1 MiB: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// protect makes dir read-only.
func protect(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
		return
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"); err != nil {
		t.Skipf("mount a file system again, read-only: %v", err)
	}
}

func TestStateDirectoryThatIsReadOnly(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t *testing.T, state string){
		"used before": prepare,
		"new":         func(*testing.T, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, state := serviceConfig(t, "test:bars", "releases: {require_signature: false}\n")
			if os.Geteuid() == 0 {
				disk(t, state)
			} else if err := os.Mkdir(state, 0o755); err != nil {
				t.Fatal(err)
			}
			make(t, state)
			protect(t, state)
			unchanged(t, filepath.Dir(config))
			way := "set state_dir to a directory that can be written"
			wantRefusal(t, command(t, "run", "-c", config), 1, state, way)
			wantRefusal(t, command(t, "release", "install", tiny, "-c", config), 1, state, way)
		})
	}
}

func TestStateDirectoryThatIsFull(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:bars", "releases: {require_signature: false}\n")
	disk(t, state)
	prepare(t, state)
	filling := testenv.Fill(t, state)

	t.Run("to install a release in", func(t *testing.T) {
		unchanged(t, filepath.Dir(config))
		wantRefusal(t, command(t, "release", "install", tinyRelease(t, 2), "-c", config), 1, state, "no space left", "make room there")
	})
	t.Run("to build an engine in", func(t *testing.T) {
		unchanged(t, filepath.Dir(config))
		s := startService(t, config)
		m := s.when("it is up, and says why nothing serves", func(s *daemon.Status) bool {
			return !s.Ready && s.Models[0].Builds["failed"] > 0 && s.Models[0].Reason != ""
		}).Models[0]
		wantParts(t, m.Reason, "no space left in "+filepath.Join(state, "engines")+": make room there")
		if status := s.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("exit status %d", status)
		}
		wantParts(t, command(t, "release", "status", "-c", config).stderr, "sightd doesn't run here")
	})
	if err := os.Remove(filling); err != nil {
		t.Fatal(err)
	}
	s := startService(t, config)
	s.when("with room it serves", func(s *daemon.Status) bool { return s.Models[0].Frames > 0 })
	s.stop(syscall.SIGTERM)
}

// The CPU's engine is there, TensorRT's isn't.
func TestADiskThatIsFullOfAllButTensorRTsEngine(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:noise", "")
	disk(t, state)
	prepare(t, state)
	s := startServiceIn(t, []string{"SIGHTD_TENSORRT="}, config)
	s.when("the CPU serves", func(s *daemon.Status) bool { return s.Models[0].Frames > 0 })
	s.stop(syscall.SIGTERM)
	testenv.Fill(t, state)
	s = onDouble(t, config)
	m := s.when("the build has failed and the CPU serves", func(s *daemon.Status) bool {
		return byTheCPU(s) && s.Models[0].Builds["failed"] > 0
	}).Models[0]
	wantParts(t, m.Reason, "no space left in "+filepath.Join(state, "engines")+": make room there")
	if left, err := filepath.Glob(filepath.Join(state, "engines", ".build-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	s.stop(syscall.SIGTERM)
	if err := os.Remove(filepath.Join(state, "filling")); err != nil {
		t.Fatal(err)
	}
	s = onDouble(t, config)
	s.when("TensorRT's engine serves", byTensorRT)
	s.stop(syscall.SIGTERM)
}

// Who has its engine needs no room.
func TestADaemonRunsOnAFullDisk(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:bars?frames=3&each=true", "")
	disk(t, state)
	for _, full := range []bool{false, true} {
		if full {
			testenv.Fill(t, state)
		}
		if o := program(t, "run", "-c", config, "--until-end"); o.status != 0 {
			t.Fatalf("full %v: exit status %d:\n%s", full, o.status, o.stderr)
		}
	}
}

func TestReleaseThatIsNotThereIsNoFaultOfTheStateDirectory(t *testing.T) {
	t.Parallel()
	config, _ := configured(t, "models: [{name: tiny, release: /nowhere/tiny}]\ncameras: [{name: door, source: \"test:noise\"}]\nhttp: {listen: \"\"}\n")
	s := startService(t, config)
	if status := s.end(); status != 1 {
		t.Errorf("exit status %d", status)
	}
	said := s.refusal()
	wantParts(t, said, "factory release of tiny: open the release: stat /nowhere/tiny: no such file or directory")
	if strings.Contains(said, "state directory") {
		t.Errorf("it blames the state directory: %s", said)
	}
}
