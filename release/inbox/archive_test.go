package inbox

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sightd/sightd/release"
)

type entry struct {
	tar.Header
	content string
}

// tarOf packs the files of a release below prefix, behind some other entries.
func tarOf(t *testing.T, dir, prefix string, others ...entry) string {
	t.Helper()
	for _, name := range files(t, dir) {
		others = append(others, entry{tar.Header{Name: prefix + name}, read(t, filepath.Join(dir, name))})
	}
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	w := tar.NewWriter(z)
	for _, e := range others {
		e.Mode, e.Size = 0o644, int64(len(e.content))
		must(t, w.WriteHeader(&e.Header))
		_, err := io.WriteString(w, e.content)
		must(t, err)
	}
	must(t, w.Close())
	must(t, z.Close())
	return b.String()
}

// tenGigabytes is an archive with so many zeros behind the files of a release, under
// a name given or one that no release has.
func tenGigabytes(t *testing.T, names []string, of ...string) string {
	t.Helper()
	const frame, frames = 32 << 20, 320
	z, err := zstd.NewWriter(nil)
	must(t, err)
	defer z.Close()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		content := read(t, filepath.Join(of[0], name))
		must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, err := io.WriteString(w, content)
		must(t, err)
	}
	must(t, w.Flush())
	name := "zeros"
	if len(of) > 1 {
		name = of[1]
	}
	must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: frame * frames, Format: tar.FormatGNU}))
	packed := z.EncodeAll(b.Bytes(), nil)
	zeros := z.EncodeAll(make([]byte, frame), nil)
	return string(packed) + strings.Repeat(string(zeros), frames)
}

func manyEntries(n int) []entry {
	all := make([]entry, n)
	for i := range all {
		all[i] = entry{tar.Header{Name: fmt.Sprint("f", i)}, ""}
	}
	return all
}

// manyNamed is a release whose manifest names so many files.
func manyNamed(t *testing.T, by signer, n int) string {
	t.Helper()
	dir := packed(t, 2)
	manifest := filepath.Join(dir, release.ManifestName)
	var files strings.Builder
	for i := range n {
		fmt.Fprintf(&files, "%q: {\"size\": 0, \"sha256\": %q}, ", fmt.Sprint("f", i), strings.Repeat("0", 64))
	}
	write(t, manifest, strings.Replace(read(t, manifest), `"files": {`, `"files": {`+files.String(), 1))
	by.sign(t, dir)
	return dir
}

func TestBadArchivesAreRejectedWithOneReason(t *testing.T) {
	t.Parallel()
	fleet, stranger := newSigner(t), newSigner(t)
	signed := func(by signer) string {
		dir := packed(t, 2)
		by.sign(t, dir)
		return dir
	}
	whole := signed(fleet)
	zeros := strings.Repeat("\x00", 64<<20)
	broken := signed(fleet)
	write(t, filepath.Join(broken, "labels.txt"), strings.ToUpper(read(t, filepath.Join(broken, "labels.txt"))))
	for name, c := range map[string]struct {
		archive string
		code    release.Code
		want    string
	}{
		"unsigned":                             {tarOf(t, packed(t, 2), ""), release.BadSignature, "has no manifest.json.minisig"},
		"by a stranger":                        {tarOf(t, signed(stranger), ""), release.NoTrustedKey, "none of releases.keys"},
		"wrong hash":                           {tarOf(t, broken, ""), release.BadHash, "labels.txt: found SHA-256"},
		"absolute":                             {tarOf(t, signed(fleet), "", entry{tar.Header{Name: "/etc/x"}, ""}), release.BadArchive, "an absolute path"},
		"above":                                {tarOf(t, signed(fleet), "", entry{tar.Header{Name: "../x"}, ""}), release.BadArchive, "a path with .."},
		"link":                                 {tarOf(t, signed(fleet), "", entry{tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}), release.BadArchive, "holds no links"},
		"10 GB of zeros":                       {tenGigabytes(t, nil), release.BadArchive, "times its size"},
		"10 GB of zeros behind a release":      {tenGigabytes(t, files(t, whole), whole), release.BadArchive, "times its size"},
		"10 GB that the manifest says less of": {tenGigabytes(t, []string{release.ManifestName, release.SignatureName}, whole, "model.onnx"), release.BadHash, "found 10737418240 bytes"},
		"100,000 files":                        {tarOf(t, whole, "", manyEntries(100_000)...), release.BadArchive, "more than 20000 entries"},
		"a manifest of 100,000 files":          {tarOf(t, manyNamed(t, fleet, 100_000), ""), release.BadArchive, "manifest.json is larger than"},
		"bomb":                                 {tarOf(t, signed(fleet), "", entry{tar.Header{Name: "zeros"}, zeros}), release.BadArchive, "times its size"},
		"no release":                           {tarOf(t, t.TempDir(), "", entry{tar.Header{Name: "x"}, "x"}), release.BadManifest, "holds no manifest.json"},
		"manifest twice":                       {tarOf(t, signed(fleet), "", entry{tar.Header{Name: "manifest.json"}, "{}"}), release.BadManifest, "isn't what a manifest must be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := quick()
			o.Policy = release.Policy{Device: "box", RequireSignature: true, Keys: []release.TrustedKey{{File: fleet.file}}}
			b := open(t, o)
			write(t, b.path("a.tar.zst"), c.archive)
			if r := b.wait(t, "a.tar.zst", release.Rejected, c.code); !strings.Contains(r.Reason, c.want) || strings.Contains(r.Reason, b.state) {
				t.Errorf("reason %q, wanted one with %q and without staging", r.Reason, c.want)
			}
			b.wantNothingInstalled(t)
			if n := b.log.count("drop rejected"); n != 1 {
				t.Errorf("logged %d times", n)
			}
		})
	}
}

func TestArchivesMayHaveOneDirectoryAtTheTopAndLackWhatIsInstalled(t *testing.T) {
	t.Parallel()
	b := open(t, quick())
	write(t, b.path("two.tar.zst"), tarOf(t, packed(t, 2), "lite/"))
	b.wait(t, "two.tar.zst", release.Staged, "")
	delta := packed(t, 3)
	must(t, os.Remove(filepath.Join(delta, "model.onnx")))
	write(t, b.path("three.tar.zst"), tarOf(t, delta, "lite/"))
	r := b.wait(t, "three.tar.zst", release.Staged, "")
	if _, err := b.store.Get(r.Name, release.ID{Number: 3}); err != nil {
		t.Error(err)
	}
}
