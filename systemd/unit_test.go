package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// exposure is the most that `systemd-analyze security` may find, in tenths of
// its points.
const exposure = "25"

// installed is a root with the unit and its drop-in installed as a package
// does it, and the few units that any unit leans on.
func installed(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, name := range []string{"sightd.service", "sightd.service.d/10-devices.conf"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(root, "usr/lib/systemd/system", name), string(text), 0o644)
	}
	for _, name := range []string{"sysinit", "basic", "multi-user", "shutdown", "network"} {
		put(t, filepath.Join(root, "usr/lib/systemd/system", name+".target"), "[Unit]\n", 0o644)
	}
	put(t, filepath.Join(root, "usr/bin/sightd"), "#!/bin/true\n", 0o755)
	return root
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// run runs one of systemd's tools and returns what it printed.
func run(t *testing.T, tool string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("no %s: %v", tool, err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

// systemd-analyze exits with 0 on unknown keys and bad values: what counts is
// that it prints nothing.
func TestUnitVerifies(t *testing.T) {
	t.Parallel()
	root := installed(t)
	out, err := run(t, "systemd-analyze", "verify", "--root="+root, "sightd.service")
	if err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}

	put(t, filepath.Join(root, "etc/systemd/system/sightd.service.d/wrong.conf"), "[Service]\nRestartSeconds=1\n", 0o644)
	out, _ = run(t, "systemd-analyze", "verify", "--root="+root, "sightd.service")
	if !strings.Contains(out, "RestartSeconds") {
		t.Errorf("a wrong key went unseen: %q", out)
	}
}

func TestSandboxHolds(t *testing.T) {
	t.Parallel()
	unit := filepath.Join(installed(t), "usr/lib/systemd/system/sightd.service")
	if out, err := run(t, "systemd-analyze", "security", "--offline=true", "--threshold="+exposure, unit); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What would shut cameras and GPUs out, or needs a newer systemd than JetPack's.
func TestUnitLeavesOut(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("sightd.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"PrivateTmp", "DynamicUser", "PrivateDevices", "MemoryDenyWriteExecute", "ProtectClock",
		"ProtectProc", "ProcSubset", "PrivateIPC", "LoadCredential", "RestartSteps", "RestartMaxDelaySec",
	} {
		if strings.Contains(string(unit), "\n"+key+"=") {
			t.Errorf("sets %s=", key)
		}
	}
}

func TestUserIsMade(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/placeholder"), "", 0o644)
	conf, err := filepath.Abs("sysusers.d/sightd.conf")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "systemd-sysusers", "--root="+root, conf); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	groups, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"video", "render"} {
		if !memberOf(string(groups), group, "sightd") {
			t.Errorf("sightd isn't in the group %s:\n%s", group, groups)
		}
	}
}

// memberOf reads lines of name:password:id:members.
func memberOf(groups, group, user string) bool {
	for line := range strings.Lines(groups) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) == 4 && fields[0] == group && fields[3] == user {
			return true
		}
	}
	return false
}
