package release

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// archiveOf packs a tar of the given entries; contents are by the names.
func archiveOf(t *testing.T, contents map[string]string, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, h := range headers {
		content := contents[h.Name]
		if h.Size == 0 {
			h.Size = int64(len(content))
		}
		h.Mode = 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBadArchivesAreRefusedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("\x00", freeRatio+1<<20)
	bomb := archiveOf(t, map[string]string{"model.onnx": zeros}, tar.Header{Name: "model.onnx"})
	whole := archiveOf(t, map[string]string{"model.onnx": read(t, tiny+"/net.onnx")}, tar.Header{Name: "model.onnx"})
	entry := func(h tar.Header) []byte { return archiveOf(t, nil, h) }
	for name, c := range map[string]struct {
		archive []byte
		code    Code
		want    string
	}{
		"absolute":     {entry(tar.Header{Name: "/etc/x"}), BadArchive, `"/etc/x": found an absolute path`},
		"above":        {entry(tar.Header{Name: "a/../../x"}), BadArchive, "found a path with .."},
		"unclean":      {entry(tar.Header{Name: "a//x"}), BadArchive, "found an unclean path"},
		"deep":         {entry(tar.Header{Name: "a/b/c/d/e/f"}), BadArchive, "too long or too deep"},
		"link":         {entry(tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), BadArchive, `"x" is no file or directory: a release holds no links and no devices`},
		"hard link":    {entry(tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}), BadArchive, "no links"},
		"device":       {entry(tar.Header{Name: "x", Typeflag: tar.TypeChar}), BadArchive, "no devices"},
		"twice":        {archiveOf(t, nil, tar.Header{Name: "x"}, tar.Header{Name: "x"}), BadArchive, `"x" stands in it twice`},
		"bomb":         {bomb, BadArchive, "grows to more than 200 times its size"},
		"cut short":    {whole[:len(whole)-20], BadArchive, "not a whole tar in zstd"},
		"no zstd":      {[]byte("PK\x03\x04"), BadArchive, "not a whole tar in zstd"},
		"empty":        {nil, BadManifest, "holds no manifest.json"},
		"no manifest":  {whole, BadManifest, "drop.tar.zst holds no manifest.json"},
		"bad manifest": {archiveOf(t, map[string]string{"manifest.json": "{}"}, tar.Header{Name: "manifest.json"}), BadManifest, "drop.tar.zst/manifest.json:1:1: name: missing"},
		"too many": {archiveOf(t, nil, func() (many []tar.Header) {
			for range 2*maxFiles + 1 {
				many = append(many, tar.Header{Name: "./", Typeflag: tar.TypeDir})
			}
			return many
		}()...), BadArchive, "more than 20000 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			_, err := OpenArchive("drop.tar.zst", bytes.NewReader(c.archive), temp)
			wantRejected(t, err, c.code, c.want)
			if entries, _ := os.ReadDir(temp); len(entries) > 0 {
				t.Error("it left", entries)
			}
		})
	}
}

// tar run in or above the directory gives ./ or the directory's name in front.
func TestArchivesOfOtherTools(t *testing.T) {
	t.Parallel()
	files := tree(t, packed(t))
	for _, prefix := range []string{"./", "tiny-1/", "./tiny-1/"} {
		contents := map[string]string{}
		headers := []tar.Header{{Name: prefix, Typeflag: tar.TypeDir}}
		for name, content := range files {
			contents[prefix+name] = content
			headers = append(headers, tar.Header{Name: prefix + name})
		}
		r, err := OpenArchive("x", bytes.NewReader(archiveOf(t, contents, headers...)), t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", prefix, err)
			continue
		}
		if r.Spec.Name != "tiny" {
			t.Error(r.Spec)
		}
		r.Close()
	}
}

func FuzzArchive(f *testing.F) {
	f.Add([]byte("model.onnx"), byte(tar.TypeReg))
	f.Add([]byte("../x"), byte(tar.TypeSymlink))
	f.Fuzz(func(t *testing.T, data []byte, flag byte) {
		var b bytes.Buffer
		z, _ := zstd.NewWriter(&b)
		w := tar.NewWriter(z)
		if w.WriteHeader(&tar.Header{Name: string(data), Typeflag: flag, Linkname: "x"}) != nil {
			return
		}
		w.Close()
		z.Close()
		dir := t.TempDir()
		for _, archive := range [][]byte{b.Bytes(), data} {
			if r, err := OpenArchive("x", bytes.NewReader(archive), dir); err == nil {
				r.Close()
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Fatal("left", left)
			}
		}
	})
}
