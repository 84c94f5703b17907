package daemon

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sightd/sightd/release"
)

func TestReleasesAreLedOverTheControlSocket(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	c.Releases.RequireSignature = false
	d, _ := start(t, c, false)
	u := d.units[0]
	eventually(t, "frames are classified", func() bool { return u.Status().Frames > 0 })
	control, err := DialControl(c.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	good, two := packed(t, 2), release.ID{Number: 2}
	state := func() release.State {
		info, err := control.Release(t.Context(), "lite0", two)
		if err != nil {
			t.Fatal(err)
		}
		return info.Release.State
	}

	done, err := control.Install(t.Context(), bytes.NewReader(good), true)
	if err != nil || done.Name != "lite0" || done.Release.ID() != two || !done.Release.Held || done.Already {
		t.Fatalf("held: %+v, %v", done, err)
	}
	if done, err = control.Install(t.Context(), bytes.NewReader(good), false); err != nil || !done.Already || !done.Release.Held {
		t.Errorf("once more: %+v, %v", done, err)
	}
	if err := control.Activate(t.Context(), "lite0", two); err != nil {
		t.Fatal(err)
	}
	eventually(t, "release 2 serves", func() bool { return u.Status().Release == 2 })
	if s := state(); s != release.Serving {
		t.Errorf("it is %s", s)
	}
	if err := control.Remove(t.Context(), "lite0", two); err == nil || !strings.Contains(err.Error(), "serves") {
		t.Errorf("removing what serves: %v", err)
	}
	if _, err := control.RollBack(t.Context(), "lite0", release.ID{Number: 1}, ""); err == nil {
		t.Error("what doesn't serve was left")
	}
	back, err := control.RollBack(t.Context(), "lite0", release.ID{}, "it's dark & cold")
	if err != nil || back.From != two || back.To != (release.ID{Number: 1}) {
		t.Fatalf("rolled back: %+v, %v", back, err)
	}
	info, err := control.Release(t.Context(), "lite0", two)
	if err != nil || info.Release.State != release.RolledBack || info.Release.Reason != "it's dark & cold" || len(info.Files) == 0 || info.Unsigned == "" {
		t.Errorf("%+v, %v", info, err)
	}
	eventually(t, "the factory release serves", func() bool { return u.Status().Factory })
	if err := control.Remove(t.Context(), "lite0", two); err != nil {
		t.Error(err)
	}
	if _, err := control.Release(t.Context(), "lite0", two); err == nil || !strings.Contains(err.Error(), "not installed") || IsUnreachable(err) {
		t.Errorf("what was removed: %v", err)
	}
}

func TestRefusalsOnTheControlSocketCarryTheirCode(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	c.Releases.RequireSignature = false
	start(t, c, false)
	var control *Control
	eventually(t, "the control socket answers", func() (ok bool) {
		var err error
		control, err = DialControl(c.ControlSocket)
		return err == nil
	})
	for want, archive := range map[release.Code][]byte{
		release.NotNewer:     packed(t, 1),
		release.UnknownModel: packed(t, 2, "name: lite0", "name: other"),
		release.BadArchive:   []byte("nothing"),
	} {
		_, err := control.Install(t.Context(), bytes.NewReader(archive), false)
		if release.CodeOf(err) != want {
			t.Errorf("error %v with code %q, wanted %q", err, release.CodeOf(err), want)
		}
	}
	for _, err := range []error{
		control.Activate(t.Context(), "lite0", release.ID{Number: 7}),
		control.Activate(t.Context(), "../lite0", release.ID{Number: 1}),
		control.Remove(t.Context(), "other", release.ID{Number: 1}),
	} {
		if err == nil || release.CodeOf(err) != "" || IsUnreachable(err) {
			t.Errorf("error %v", err)
		}
	}
	if _, err := control.RollBack(t.Context(), "lite0", release.ID{}, strings.Repeat("x", maxWhy+1)); err == nil {
		t.Error("a reason without end was taken")
	}
}
