package ota_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

func TestDeliverWaitsForTheResult(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	d := newDevice(t)
	deliver := example("rsync", "deliver.sh")
	file := d.packed(2)
	for range 2 { // once more sends nothing, and finds what became of it
		wantParts(t, d.want(0, d.dir, deliver, "-t", "120", file, d.inbox), "tiny-2.tar.zst: confirmed")
		d.wantState(2, release.Confirmed, 2)
	}

	// What changes under its name is looked at anew.
	copyFile(t, d.packed(1), file, 0o644)
	wantParts(t, d.want(3, d.dir, deliver, "-t", "120", file, d.inbox), "rejected not-newer")

	folder := filepath.Join(t.TempDir(), "tiny-3")
	spec := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(spec, os.DirFS(filepath.Join(testenv.Root(), "release/testdata/tiny"))); err != nil {
		t.Fatal(err)
	}
	d.want(0, spec, "sed", "-i", "s/release: 1/release: 3/", "model.yaml")
	d.want(0, spec, testenv.Sightd(t), "release", "pack", "model.yaml", "-o", folder)
	d.want(0, d.dir, deliver, "-f", "staged", "-t", "120", folder+"/", d.inbox)

	half := d.packed(4)
	if err := os.Truncate(half, 700); err != nil {
		t.Fatal(err)
	}
	wantParts(t, d.want(5, d.dir, deliver, "-t", "0", half, d.inbox), "isn't confirmed after 0 s")
}

func TestDeliverExplainsItself(t *testing.T) {
	t.Parallel()
	d := &device{t: t, dir: t.TempDir()}
	deliver := example("rsync", "deliver.sh")
	file := filepath.Join(d.dir, ".hidden")
	copyFile(t, deliver, file, 0o644)
	wantParts(t, d.want(2, d.dir, deliver), "usage: deliver.sh")
	d.want(2, d.dir, deliver, "-f", "done", file, d.dir)
	d.want(2, d.dir, deliver, "-t", "-1", file, d.dir)
	wantParts(t, d.want(2, d.dir, deliver, file, d.dir), "passes over names that begin with a dot")
	wantParts(t, d.want(1, d.dir, deliver, filepath.Join(d.dir, "none"), d.dir), "isn't there")
}

func TestScriptsAreClean(t *testing.T) {
	t.Parallel()
	needs(t, "shellcheck")
	d := &device{t: t, dir: t.TempDir()}
	d.want(0, d.dir, "shellcheck", example("mender", "sightd"), example("swupdate", "sightd-release"),
		example("rauc", "hook"), example("rsync", "deliver.sh"))
}
