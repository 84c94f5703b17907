package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sightd/sightd/release"
)

// A key that is revoked while a release waits counts before it serves; what serves stays.
func TestARevokedKeyKeepsWhatWaitsFromServing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, public := filepath.Join(dir, "fleet.key"), filepath.Join(dir, "fleet.pub")
	id, err := release.GenerateKey(secret, public, nil)
	must(t, err)
	key, err := release.ReadSecretKey(secret, nil)
	must(t, err)
	s := newStage(t, func(c *Config, _ *scripted) {
		c.Releases.RequireSignature = true
		c.Releases.Keys = []KeyConfig{{File: public}}
	})
	take := func(number int, hold bool) {
		t.Helper()
		archive := filepath.Join(dir, "signed.tar.zst")
		must(t, os.WriteFile(archive, packed(t, number), 0o644))
		_, err := release.Sign(archive, key, time.Now())
		must(t, err)
		b, err := os.ReadFile(archive)
		must(t, err)
		rel, err := s.store.OpenArchive("the release", bytes.NewReader(b))
		must(t, err)
		defer rel.Close()
		_, err = s.take(rel, release.Options{Hold: hold})
		must(t, err)
	}
	take(2, false)
	s.wait(2, release.Confirmed, "")
	take(3, true)
	take(4, true)
	s.wait(3, release.Proven, "")
	s.wait(4, release.Proven, "")
	s.stop()
	s.c.Releases.Revoked = []string{id}
	s.start()
	s.goesOn(2)
	if err := s.activate("lite0", release.ID{Number: 3}); release.CodeOf(err) != release.NoTrustedKey {
		t.Error(err)
	}
	if e, _ := s.entryOf(3); !e.Held || e.State != release.Proven {
		t.Errorf("%+v", e)
	}
	s.stop()
	// As a command does it while no daemon runs.
	must(t, s.store.Activate("lite0", release.ID{Number: 4}))
	s.start()
	s.wait(4, release.Rejected, release.NoTrustedKey)
	s.goesOn(2)
}
