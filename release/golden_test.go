package release

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const goldenHead = "file\tclass\tscore\tmargin\n"

func TestGoldenAnswersAreThoseOfTheIndex(t *testing.T) {
	t.Parallel()
	archive := filepath.Join(t.TempDir(), "tiny.tar.zst")
	if _, err := Pack(variant(t), archive); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{variant(t), packed(t), archive} {
		r := opened(t, path)
		got, err := r.GoldenAnswers()
		if err != nil {
			t.Fatal(err)
		}
		want := []GoldenAnswer{{File: "ants/1.png", Path: filepath.Join(r.Golden, "ants/1.png"), Class: 0, Score: 0.7194, Margin: 0.4705}}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(GoldenAnswer{})); diff != "" {
			t.Error(path, diff)
		}
		if err := r.VerifyGolden(got[0]); err != nil {
			t.Error(err)
		}
	}
	none, err := opened(t, variant(t, "golden: golden\n", "")).GoldenAnswers()
	if none != nil || err != nil {
		t.Errorf("a release without golden images has %v, %v", none, err)
	}
}

func TestReleasesWithABadIndexAreNotPacked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		index string // "": none
		want  string
	}{
		"no index":           {"", "golden has no index.tsv, which says what the images show: let `sightd release pack --golden-from IMAGES` choose"},
		"empty":              {"\n", "index.tsv is empty, wanted a header"},
		"no image":           {goldenHead, "index.tsv names no image"},
		"image not there":    {goldenHead + "ants/1.png\t0\t1\t1\nants/2.png\t0\t1\t1\n", `index.tsv:3: file "ants/2.png" isn't among the release's files`},
		"outside":            {goldenHead + "../net.onnx\t0\t1\t1\n", `index.tsv:2: file "../net.onnx": found a path with ..`},
		"class out of range": {goldenHead + "ants/1.png\t3\t1\t1\n", "index.tsv:2: found class 3, wanted 0 to 2, since the model has 3 labels"},
		"too long":           {goldenHead + strings.Repeat("\n", maxGoldenIndex), "index.tsv is larger than 1024 KiB"},
		"a folder":           {goldenHead + "ants\t0\t1\t1\n", `index.tsv:2: file "ants" isn't among`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := variant(t)
			index := filepath.Join(filepath.Dir(spec), "golden", GoldenIndex)
			if write(t, index, c.index); c.index == "" {
				if err := os.Remove(index); err != nil {
					t.Fatal(err)
				}
			}
			out := filepath.Join(t.TempDir(), "out")
			_, err := Pack(spec, out)
			wantRejected(t, err, BadGolden, c.want)
			if _, err := os.Stat(out); err == nil {
				t.Error("it was packed")
			}
		})
	}
}

// What lies in the folder but isn't in the manifest isn't signed either.
func TestAnIndexThatTheManifestDoesNotNameCountsForNothing(t *testing.T) {
	t.Parallel()
	dir := packed(t)
	m, err := ParseManifest(ManifestName, []byte(read(t, filepath.Join(dir, ManifestName))))
	if err != nil {
		t.Fatal(err)
	}
	delete(m.Files, "golden/index.tsv")
	b, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ManifestName), string(b))
	_, err = opened(t, dir).GoldenAnswers()
	wantRejected(t, err, BadGolden, "has no index.tsv")
}

func TestAGoldenImageThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	spec := variant(t)
	if err := os.Truncate(filepath.Join(filepath.Dir(spec), "golden/ants/1.png"), MaxGoldenImage+1); err != nil {
		t.Fatal(err) // it takes no room on the disk
	}
	_, err := opened(t, spec).Check("")
	wantRejected(t, err, BadGolden, "index.tsv:2: ", "has 67108865 bytes, wanted at most 67108864")
}

func TestVerifyGoldenTellsABadDiskFromABadImage(t *testing.T) {
	t.Parallel()
	r := opened(t, packed(t))
	answers, err := r.GoldenAnswers()
	if err != nil {
		t.Fatal(err)
	}
	write(t, answers[0].Path, "rotten")
	wantRejected(t, r.VerifyGolden(answers[0]), BadHash, "golden/ants/1.png: found 6 bytes")
}

func TestAPackedReleaseKeepsItsGoldenImages(t *testing.T) {
	t.Parallel()
	if err := opened(t, packed(t)).TakeGolden(t.TempDir()); err == nil || !strings.Contains(err.Error(), "name the model.yaml") {
		t.Error(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	r := opened(t, variant(t))
	if err := r.TakeGolden(""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Pack(out); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out, "golden")); err == nil || opened(t, out).Golden != "" {
		t.Error("it has golden images all the same")
	}
}

func TestFaultsOfAGoldenIndexAreNamedWithTheirLine(t *testing.T) {
	t.Parallel()
	many := &bytes.Buffer{}
	many.WriteString("file\tclass\n")
	for i := range MaxGolden + 1 {
		fmt.Fprintf(many, "%d.png\t0\n", i)
	}
	for text, want := range map[string]string{
		"":                                   "i.tsv is empty",
		"file\n1.png\n":                      `i.tsv:1: found the columns ["file"], wanted file and class`,
		"file,class\n1.png,2\n":              `i.tsv:1: found the column "file,class"`,
		"file\tclass\tclass\n1.png\t2\t2\n":  `i.tsv:1: found the column "class", wanted file, class, score and margin, each once`,
		"file\tclass\tlabel\n1.png\t2\tx\n":  `i.tsv:1: found the column "label"`,
		"file\tclass\na\t0\nb\n":             "i.tsv:3: wrong number of fields",
		"file\tclass\n\"a\t0\n":              "i.tsv:2: extraneous or missing \" in quoted-field",
		"file\tclass\na\"b\t0\n":             "i.tsv:2: bare \" in non-quoted-field",
		"file\tclass\na\t0\n\na\t1\n":        `i.tsv:4: found "a", which line 2 has too`,
		"file\tclass\n\t0\n":                 `i.tsv:2: file "": found an unclean path`,
		"file\tclass\n/a\t0\n":               `i.tsv:2: file "/a": found an absolute path`,
		"file\tclass\n\"a\nb\"\t0\n":         `i.tsv:2: file "a\nb": found an unclean path`,
		"file\tclass\na\t-1\n":               `i.tsv:2: class: found "-1", wanted an index from 0`,
		"file\tclass\na\t+1\n":               `i.tsv:2: class: found "+1"`,
		"file\tclass\na\t01\n":               `i.tsv:2: class: found "01"`,
		"file\tclass\na\tant\n":              `i.tsv:2: class: found "ant"`,
		"file\tclass\na\t9999999999\n":       `i.tsv:2: class: found "9999999999"`,
		"file\tclass\tscore\na\t1\tNaN\n":    `i.tsv:2: score: found "NaN", wanted a number`,
		"file\tclass\tmargin\na\t1\t1e999\n": `i.tsv:2: margin: found "1e999"`,
		many.String():                        "i.tsv:1002: found more than 1000 images",
	} {
		_, err := ParseGolden("i.tsv", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v\nwanted %s", text, err, want)
		}
	}
	got, err := ParseGolden("i.tsv", []byte("class\tfile\r\n7\t\"a \"\"b\"\"\"\r\n"))
	if err != nil || len(got) != 1 || got[0].File != `a "b"` || got[0].Class != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzGolden(f *testing.F) {
	for _, text := range []string{goldenHead + "ants/1.png\t0\t0.7194\t0.4705\n", "class\tfile\r\n7\t\"a \"\"b\"\"\"\r\n", "file\tclass\na\t-1\n", "\ufefffile\tclass\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		answers, err := ParseGolden("i.tsv", data)
		if err != nil {
			if answers != nil || !strings.HasPrefix(err.Error(), "i.tsv") {
				t.Errorf("%d answers, %v", len(answers), err)
			}
			return
		}
		for _, a := range answers {
			if badName(a.File) != "" || a.Class < 0 || a.Class > MaxNumber {
				t.Errorf("%+v", a)
			}
		}
		again, err := ParseGolden("i.tsv", WriteGolden(answers))
		if diff := cmp.Diff(answers, again, cmpopts.IgnoreUnexported(GoldenAnswer{})); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})
}
