package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/release"
)

// picture writes a PNG of 8×8 pixels, which the small release's model takes as
// they are.
func picture(t *testing.T, path string, at func(x, y uint8) color.RGBA) {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 8, 8))
	for i := range 64 {
		m.SetRGBA(i%8, i/8, at(uint8(i%8), uint8(i/8)))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, m); err != nil {
		t.Fatal(err)
	}
}

// What that model calls an ant, another ant, and a bee.
func grey(_, _ uint8) color.RGBA    { return color.RGBA{30, 30, 30, 255} }
func lighter(_, _ uint8) color.RGBA { return color.RGBA{31, 31, 31, 255} }
func slope(x, y uint8) color.RGBA   { return color.RGBA{25 * x, 10*y + x, 230 - 20*x, 255} }

func fileText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func packGolden(t *testing.T, args ...string) outcome {
	t.Helper()
	o := program(t, append([]string{"release", "pack"}, args...)...)
	if o.status != 0 {
		t.Fatalf("exit status %d: %s", o.status, o.stderr)
	}
	return o
}

func TestGoldenImagesOfTheDemoAreThoseThatTheModelIsSureOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "packed")
	o := packGolden(t, "demo/lite0", "-o", out, "--golden-from", "demo/photos")
	// The cat is a tiger cat with 42 %, an Egyptian one with 33 %.
	wantParts(t, o.stderr, "golden images: 4 of 5 are taken; fell away: 1 with a margin below 0.1 between the two best labels\n")
	index := fileText(t, filepath.Join(out, "golden/index.tsv"))
	wantParts(t, index, "file\tclass\tscore\tmargin\n0001-rocket.jpg\t657\t0.36", "0002-china.jpg\t698\t", "0003-camera.png\t872\t", "0004-coffee.png\t967\t0.95")
	if fileText(t, filepath.Join(out, "golden/0004-coffee.png")) != fileText(t, "demo/photos/coffee.png") {
		t.Error("the image isn't what was given")
	}

	rel, err := release.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer rel.Close()
	if answers, err := rel.GoldenAnswers(); err != nil || len(answers) != 4 || rel.Spec.Golden != "golden/" {
		t.Errorf("%+v, %v, golden: %q", answers, err, rel.Spec.Golden)
	}
	e := program(t, "eval", out, "--images", filepath.Join(out, "golden"), "--index", filepath.Join(out, "golden/index.tsv"), "--json")
	var got evaluation
	if err := json.Unmarshal([]byte(e.stdout), &got); err != nil || got.Images != 4 || got.Top1 != 1 || got.Reference.Top1 != 1 {
		t.Errorf("%v: %s%s", err, e.stdout, e.stderr)
	}

	// As many as were asked for, and the same bytes each time.
	one, two := filepath.Join(dir, "1.tar.zst"), filepath.Join(dir, "2.tar.zst")
	o = packGolden(t, "demo/lite0", "-o", one, "--golden-from", "demo/photos", "--golden-most", "3")
	wantParts(t, o.stderr, "golden images: 3 of 5 are taken; fell away: 1 with a margin below", ", 1 beyond --golden-most\n")
	packGolden(t, "demo/lite0/model.yaml", "-o", two, "--golden-from", "demo/photos", "--golden-most", "3")
	if fileText(t, one) != fileText(t, two) {
		t.Error("the same images give another archive")
	}
	secret, public, _ := keyPair(t)
	succeeds(t, "release", "sign", one, "-s", secret)
	succeeds(t, "release", "verify", one, "--key", public)
}

func TestWhatBecameOfEachImageIsSaid(t *testing.T) {
	t.Parallel()
	dir, images := tinyWith(t, nil), t.TempDir()
	// What the model.yaml names isn't looked at then, not even its index.
	write(t, filepath.Join(dir, "golden/index.tsv"), []byte("no index"))
	picture(t, filepath.Join(images, "a b/ä.png"), grey)
	picture(t, filepath.Join(images, "a b/same.png"), grey)
	picture(t, filepath.Join(images, "b.png"), lighter)
	write(t, filepath.Join(images, "c.png"), []byte("no picture"))
	write(t, filepath.Join(images, "list"), []byte("a b/ä.png\nc.png\na b/same.png\nb.png\nclip.mp4\n"))
	write(t, filepath.Join(images, "clip.mp4"), []byte("x"))
	out := filepath.Join(t.TempDir(), "packed")
	o := packGolden(t, dir, "-o", out, "--golden-from", filepath.Join(images, "list"))
	wantParts(t, o.stderr, "golden images: 2 of 5 are taken; fell away: 2 can't be read (the first: ", "clip.mp4: is no image by its name), 1 that are the same as another\n")
	wantParts(t, fileText(t, filepath.Join(out, "golden/index.tsv")), "\n0001-_.png\t0\t0.7", "\n0002-b.png\t0\t0.7")
}

// A cache with one absurd scale has INT8 be unsure of one image, and label the
// other otherwise.
func TestImagesThatINT8LabelsOtherwiseFallAway(t *testing.T) {
	t.Parallel()
	cache := strings.Replace(string(tinyFile(t, "calib.cache")), "pool: 3cc18306", "pool: 38d1b717", 1)
	dir := tinyWith(t, map[string][]byte{"calib.cache": []byte(cache)})
	images := t.TempDir()
	picture(t, filepath.Join(images, "ant.png"), grey)
	picture(t, filepath.Join(images, "bee.png"), slope)
	out := filepath.Join(t.TempDir(), "packed")
	o := program(t, "release", "pack", dir, "-o", out, "--golden-from", images)
	wantRefusalAfterNotes(t, o, "--golden-from "+images+": none of the 2 images is left: 1 with a margin below 0.1 between the two best labels, 1 that INT8 and FP32 label differently; name images that show plainly what the model knows, or pack without")
	if _, err := os.Stat(out); err == nil {
		t.Error("it was packed all the same")
	}
	// Both are clear where FP32 alone counts.
	write(t, filepath.Join(dir, "model.yaml"), append(tinyFile(t, "model.yaml"), "precision: fp16\n"...))
	o = packGolden(t, dir, "-o", out, "--golden-from", images)
	wantParts(t, o.stderr, "golden images: 2 of 2 are taken\n")
}

// wantRefusalAfterNotes is wantRefusal for a command that tells of engines that it
// builds.
func wantRefusalAfterNotes(t *testing.T, o outcome, parts ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
	if last := lines[len(lines)-1]; o.status != 1 || o.stdout != "" || !strings.HasPrefix(last, "sightd: ") {
		t.Errorf("exit status %d: %s%s", o.status, o.stdout, o.stderr)
	}
	wantParts(t, o.stderr, parts...)
}

func TestAPackingThatCannotEndWellDoesNotBegin(t *testing.T) {
	t.Parallel()
	packed, full, images := filepath.Join(t.TempDir(), "packed"), t.TempDir(), "demo/photos"
	succeeds(t, "release", "pack", tiny, "-o", packed)
	write(t, filepath.Join(full, "mine"), []byte("x"))
	out := filepath.Join(t.TempDir(), "out")
	unlabelled := tinyWith(t, nil)
	if err := os.Remove(filepath.Join(unlabelled, "golden/index.tsv")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status int
		want   string
		args   []string
	}{
		{2, "--golden-most 0: want 1 to 1000", []string{tiny, "-o", out, "--golden-from", images, "--golden-most", "0"}},
		{2, "is packed: name the model.yaml", []string{packed, "-o", out, "--golden-from", images}},
		{1, "the directory is there and not empty", []string{tiny, "-o", full, "--golden-from", images}},
		{1, "no such file or directory", []string{tiny, "-o", filepath.Join(full, "no", "out.tar.zst"), "--golden-from", images}},
		{1, "--golden-from: images: ", []string{tiny, "-o", out, "--golden-from", filepath.Join(full, "none")}},
		{1, "golden has no index.tsv, which says what the images show: let `sightd release pack --golden-from IMAGES`", []string{unlabelled, "-o", out}},
	} {
		wantRefusal(t, command(t, append([]string{"release", "pack"}, c.args...)...), c.status, c.want)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it packed something")
	}
}

func TestGoldenImagesAreSpreadOverTheClasses(t *testing.T) {
	t.Parallel()
	var got []int
	for i := range rounds(map[int][]int{7: {0, 3, 4, 5}, 2: {1}, 9: {2, 6}}) {
		if got = append(got, i); len(got) == 6 {
			break
		}
	}
	if fmt.Sprint(got) != "[1 0 2 3 6 4]" {
		t.Errorf("found %v, wanted one of each class in turn", got)
	}
}
