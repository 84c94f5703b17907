package daemon

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
)

// drop renames a file into the inbox.
func drop(t *testing.T, c *Config, name string, content []byte) {
	t.Helper()
	temp := filepath.Join(c.Releases.Inbox, "."+name)
	if err := os.WriteFile(temp, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(c.Releases.Inbox, name)); err != nil {
		t.Fatal(err)
	}
}

func fate(d *Daemon, name string) (r inbox.Result) {
	for _, r := range d.Status().Inbox.Drops {
		if r.Drop == name {
			return r
		}
	}
	return r
}

func TestADropTakesOverBetweenTwoFrames(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise?each=true"})
	c.Releases.RequireSignature = false
	c.Releases.Proof = ProofConfig{Frames: 4} // in whatever time a loaded machine takes
	c.Releases.Probation = Duration(100 * time.Millisecond)
	c.Releases.Inbox = filepath.Join(c.StateDir, "inbox")
	sub := subscribe(t, "mqtt://"+c.MQTT.Embedded)
	d, _ := start(t, c, false)
	u := d.units[0]
	info, err := os.Stat(c.Releases.Inbox)
	if err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o770 {
		t.Fatalf("inbox: %v, %v; want mode 2770", info.Mode(), err)
	}
	eventually(t, "frames are classified", func() bool { return u.Status().Frames > 5 })
	drop(t, c, "lite0-2.tar.zst", packed(t, 2, "precision: int8", "precision: fp32"))
	eventually(t, "release 2 serves", func() bool { return u.Status().Release == 2 })
	if s := u.Status(); s.Precision != "fp32" || s.Errors != 0 {
		t.Errorf("after the change: %+v", s)
	}
	eventually(t, "it is told", func() bool { return fate(d, "lite0-2.tar.zst").State == release.Confirmed })

	drop(t, c, "again.tar.zst", packed(t, 2))
	drop(t, c, "stranger.tar.zst", packed(t, 2, "name: lite0", "name: stranger"))
	for name, code := range map[string]release.Code{"again.tar.zst": release.NotNewer, "stranger.tar.zst": release.UnknownModel} {
		eventually(t, name+" is rejected", func() bool { return fate(d, name).Code == code })
		eventually(t, name+"'s result lies beside it", func() bool { // which is written last
			_, err := os.Stat(filepath.Join(c.Releases.Inbox, name+inbox.ResultSuffix))
			return err == nil
		})
	}
	eventually(t, "subscribers know of each", func() bool {
		var said struct{ Drops []inbox.Result }
		last := sub.last("sightd/box/" + mqtt.TopicInbox)
		if last != "" && json.Unmarshal([]byte(last), &said) != nil {
			t.Fatalf("no JSON: %q", last)
		}
		return len(said.Drops) == 3 && strings.Contains(last, `"confirmed"`) && strings.Contains(last, `"not-newer"`) && strings.Contains(last, `"unknown-model"`)
	})
	res, err := http.Get("http://" + c.HTTP.Listen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`sightd_inbox_drops_total{code="",state="staged"} 1`,
		`sightd_inbox_drops_total{code="not-newer",state="rejected"} 1`,
		`sightd_inbox_drops_total{code="unknown-model",state="rejected"} 1`,
		`sightd_inbox_drops_total{code="",state="confirmed"} 1`,
		`sightd_inbox_ok 1`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if s := u.Status(); s.Release != 2 || s.State != modelServing {
		t.Errorf("%+v serves, want release 2", s)
	}
}

func TestAnInboxThatCannotBeMadeStopsNothing(t *testing.T) {
	t.Parallel()
	c := testConfig(t, CameraConfig{Name: "noise", Source: "test:noise"})
	file := filepath.Join(c.StateDir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.Releases.Inbox = filepath.Join(file, "inbox")
	d, _ := start(t, c, false)
	eventually(t, "frames are classified", func() bool { return d.units[0].Status().Frames > 0 })
	eventually(t, "the trouble is told", func() bool { return strings.Contains(d.Status().Inbox.Error, "open the inbox") })
}

// What is retained stays small, whatever lies there.
func TestTheInboxesPublicStateIsBounded(t *testing.T) {
	t.Parallel()
	s := inbox.Status{Error: strings.Repeat("é", 10_000)}
	for n := range 1000 {
		s.Drops = append(s.Drops, inbox.Result{
			Drop: strings.Repeat("d", 200), State: release.Rejected, Code: release.BadHash, Number: n,
			Reason: strings.Repeat("\x00é", 5000), Since: time.Unix(int64(n), 0),
		})
	}
	b := publicInbox(s)
	var said struct {
		Error string
		Drops []inbox.Result
		Total int
	}
	if err := json.Unmarshal(b, &said); err != nil {
		t.Fatal(err)
	}
	if len(b) > 128<<10 || said.Total != 1000 || len(said.Drops) != publicDrops || said.Drops[0].Number != 999 || !utf8.ValidString(said.Error) {
		t.Errorf("%d bytes, %d drops of %d", len(b), len(said.Drops), said.Total)
	}
	if empty := string(publicInbox(inbox.Status{})); empty != `{"error":"","drops":[],"total":0}` {
		t.Errorf("of an empty inbox: %s", empty)
	}
}
