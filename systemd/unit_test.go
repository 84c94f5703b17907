package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// withUser is a root in which the service's user was made.
func withUser(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	put(t, filepath.Join(root, "etc/placeholder"), "", 0o644)
	configure(t, root, "systemd-sysusers", "sysusers.d/sightd.conf")
	return root
}

// configure has one of systemd's tools apply a file to a root.
func configure(t *testing.T, root, tool, conf string, args ...string) {
	t.Helper()
	conf, err := filepath.Abs(conf)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, tool, append([]string{"--root=" + root, conf}, args...)...); err != nil || out != "" && tool == "systemd-tmpfiles" {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The group of those who bring releases gets to the inbox, and to nothing else.
func TestInboxIsMadeForItsGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give directories to others")
	}
	root := withUser(t)
	state := filepath.Join(root, "var/lib/sightd")
	// As a command leaves them that root runs before the service does.
	if err := os.MkdirAll(filepath.Join(state, "releases/lite0"), 0o755); err != nil {
		t.Fatal(err)
	}
	configure(t, root, "systemd-tmpfiles", "tmpfiles.d/sightd.conf", "--create")
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil {
		t.Fatal(err)
	}
	user, group, ota := numberOf(t, passwd, "sightd"), numberOf(t, groups, "sightd"), numberOf(t, groups, "sightd-ota")
	entries, err := os.ReadDir(state)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"."}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, name := range names {
		mode, gid := os.FileMode(0o750), group
		switch name {
		case ".":
			mode = 0o751
		case "inbox":
			mode, gid = 0o770|os.ModeSetgid, ota
		}
		info, err := os.Stat(filepath.Join(state, name))
		if err != nil {
			t.Fatal(err)
		}
		is := info.Sys().(*syscall.Stat_t)
		if info.Mode() != os.ModeDir|mode || int(is.Uid) != user || int(is.Gid) != gid {
			t.Errorf("%s: mode %v of %d:%d, wanted %v of %d:%d", name, info.Mode(), is.Uid, is.Gid, mode, user, gid)
		}
	}
	if len(names) != 5 {
		t.Errorf("made %q", names)
	}
	unit, err := os.ReadFile("sightd.service")
	if err != nil {
		t.Fatal(err)
	}
	if text := string(unit); !strings.Contains(text, "\nStateDirectoryMode=0751\n") || !strings.Contains(text, "\nUMask=0027\n") {
		t.Error("the unit gives the state directory other rights")
	}
}

// numberOf reads the third field of a line of passwd or group.
func numberOf(t *testing.T, lines []byte, name string) int {
	t.Helper()
	for line := range strings.Lines(string(lines)) {
		if fields := strings.Split(line, ":"); fields[0] == name {
			n, err := strconv.Atoi(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in:\n%s", name, lines)
	return 0
}

func TestUserIsMade(t *testing.T) {
	t.Parallel()
	root := withUser(t)
	groups, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"video", "render", "sightd-ota"} {
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
