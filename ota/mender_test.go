package ota_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// deployment is the directory that Mender gives an update module, and the module.
type deployment struct {
	d    *device
	tree string
}

// deploy lays the directory out as Mender's protocol v3 describes it.
func (d *device) deploy(file string) *deployment {
	d.t.Helper()
	tree := d.t.TempDir()
	for name, content := range map[string]string{
		"version": "3", "current_artifact_name": "before", "current_artifact_group": "", "current_device_type": "test",
		"header/artifact_name": "after", "header/artifact_group": "", "header/payload_type": "sightd",
		"header/header-info": `{"payloads":[{"type":"sightd"}]}`, "header/type-info": `{"type":"sightd"}`, "header/meta-data": "",
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			d.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(tree, "tmp"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	copyFile(d.t, file, filepath.Join(tree, "files", filepath.Base(file)), 0o600)
	return &deployment{d, tree}
}

// state calls the module as Mender does.
func (p *deployment) state(status int, name string) string {
	p.d.t.Helper()
	return p.d.want(status, p.tree, example("mender", "sightd"), name, p.tree)
}

func TestMenderModuleInstallsAndCommits(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	file := d.packed(2)
	for range 2 { // the second deployment finds it there
		p := d.deploy(file)
		for name, want := range map[string]string{"ProvidePayloadFileSizes": "", "Download": "", "SomethingNew": ""} {
			if out := p.state(0, name); out != want {
				t.Errorf("%s: it said %q", name, out)
			}
		}
		if out := p.state(0, "SupportsRollback"); out != "Yes\n" {
			t.Errorf("SupportsRollback: it said %q", out)
		}
		p.state(0, "ArtifactInstall")
		if out := p.state(0, "NeedsArtifactReboot"); out != "No\n" {
			t.Errorf("NeedsArtifactReboot: it said %q", out)
		}
		p.state(0, "ArtifactCommit")
		p.state(0, "Cleanup")
		d.wantState(2, release.Confirmed, 2)
	}
	// A deployment that fails for another payload leaves alone what was there before.
	p := d.deploy(file)
	p.state(0, "ArtifactInstall")
	p.state(0, "ArtifactRollback")
	d.wantState(2, release.Confirmed, 2)
}

func TestMenderModuleRollsBack(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	p := d.deploy(d.packed(2))
	p.state(0, "ArtifactRollback") // the power went out before it began
	p.state(0, "ArtifactInstall")
	for range 2 { // Mender may call it again after a power cut
		p.state(0, "ArtifactRollback")
		d.wantState(2, release.RolledBack, 1)
	}
	p.state(4, "ArtifactCommit")
	p.state(0, "ArtifactFailure")
	p.state(0, "Cleanup")
	wantParts(t, d.sightd("show", "tiny", "2"), "rolled back (by-hand): Mender rolled the deployment back")
}

func TestMenderModuleTakesAwayWhatDoesNotServeYet(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	file := d.packed(2)
	p := d.deploy(file)
	// As a power cut in ArtifactInstall leaves it.
	if err := os.WriteFile(filepath.Join(p.tree, "tmp", "sightd-release"), []byte("tiny 2 new\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.sightd("install", "--hold", file)
	p.state(0, "ArtifactRollback")
	d.wantState(2, release.Rejected, 1) // removed
}

func TestMenderModuleSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	junk := filepath.Join(t.TempDir(), "tiny-3.tar.zst")
	if err := os.WriteFile(junk, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := d.deploy(junk)
	wantParts(t, p.state(1, "ArtifactInstall"), "sightd update module: refused", "bad-archive")
	p.state(0, "ArtifactRollback")

	d.sightd("install", "--wait", d.packed(5))
	old := d.deploy(d.packed(4))
	wantParts(t, old.state(1, "ArtifactInstall"), "refused (not-newer)")
	old.state(0, "ArtifactRollback")
	d.wantState(5, release.Confirmed, 5)

	copyFile(t, junk, filepath.Join(p.tree, "files", "more"), 0o644)
	wantParts(t, p.state(1, "ArtifactInstall"), "holds 2 files, wanted one .tar.zst")
}

func TestMenderItselfInstallsCommitsAndRollsBack(t *testing.T) {
	t.Parallel()
	needs(t, "mender", "mender-artifact")
	const modules, settings = "/usr/share/mender/modules/v3", "/etc/mender"
	d := newDevice(t)
	dir := t.TempDir()
	copyFile(t, example("mender", "sightd"), filepath.Join(dir, "modules", "sightd"), 0o755)
	for name, content := range map[string]string{
		"etc/mender.conf":   fmt.Sprintf(`{"DeviceTypeFile":"%s/etc/device_type","ServerURL":"http://127.0.0.1:1"}`, dir),
		"etc/artifact_info": "artifact_name=first\n", "etc/device_type": "device_type=test\n", "data/empty": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// mender runs it with its folders in place of the machine's.
	mender := func(args string) (status int, out string) {
		t.Helper()
		script := fmt.Sprintf("mount --bind %[1]s/modules %[2]s && mount --bind %[1]s/etc %[3]s || exit 77; "+
			"exec mender --no-syslog -c %[3]s/mender.conf -b /none -d %[1]s/data %[4]s", dir, modules, settings, args)
		c := exec.CommandContext(t.Context(), "sh", "-c", script)
		c.Env = d.env()
		testenv.OwnMounts(c)
		b, err := c.CombinedOutput()
		if c.ProcessState == nil || c.ProcessState.ExitCode() == 77 {
			t.Skipf("folders can't be mounted here: %v %s", err, b)
		}
		return c.ProcessState.ExitCode(), string(b)
	}
	artifact := func(number int) string {
		t.Helper()
		out := filepath.Join(dir, fmt.Sprintf("tiny-%d.mender", number))
		d.want(0, dir, "mender-artifact", "write", "module-image", "-T", "sightd", "-t", "test",
			"-n", fmt.Sprintf("tiny-%d", number), "-f", d.packed(number), "-o", out)
		return out
	}
	want := func(args string) {
		t.Helper()
		if status, out := mender(args); status != 0 {
			t.Errorf("mender %s: exit status %d: %s", args, status, out)
		}
	}
	want("install " + artifact(2))
	want("commit")
	d.wantState(2, release.Confirmed, 2)

	want("install " + artifact(3))
	want("rollback")
	d.wantState(3, release.RolledBack, 2)

	if status, out := mender("install " + artifact(1)); status == 0 || !strings.Contains(out, "not-newer") {
		t.Errorf("an older release: exit status %d: %s", status, out)
	}
}
