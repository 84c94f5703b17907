package calibcache_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
)

const small = "TRT-8501-EntropyCalibration2\ninput_1:0: 3c010a14\nconv: 3D000000\nflat: 00400000\nzeros: 0\n"

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := calibcache.Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Header, (calibcache.Header{Number: "8501", Algorithm: calibcache.Entropy2}); got != want {
		t.Errorf("header %+v, want %+v", got, want)
	}
	type entry struct {
		Name  string
		Bits  uint32
		Scale float32
		Range float64
	}
	var got []entry
	for _, e := range c.Entries {
		got = append(got, entry{e.Name, e.Bits, e.Scale(), e.Range()})
	}
	want := []entry{
		{"input_1:0", 0x3c010a14, 0.007875938, 1.0002441219985485},
		{"conv", 0x3d000000, 0.03125, 3.96875},
		{"flat", 0x00400000, 0x1p-127, 127 * 0x1p-127},
		{"zeros", 0, 0, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBytesAreTheFilesAgain(t *testing.T) {
	t.Parallel()
	for _, file := range []string{
		small,
		strings.TrimSuffix(small, "\n"),
		"TRT-8XXX-MinMaxCalibration\n",
		"TRT-100300-LegacyCalibration",
		"TRT-9200-EntropyCalibration\n: a : b : 7FC00000\n\u00e4/\u4f60: fF800000\n",
	} {
		c, err := calibcache.Parse([]byte(file))
		if err != nil {
			t.Fatalf("%q: %v", file, err)
		}
		if got := string(c.Bytes()); got != file {
			t.Errorf("got  %q\nwant %q", got, file)
		}
	}
}

func TestBytesAfterAChange(t *testing.T) {
	t.Parallel()
	c, err := calibcache.Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	c.Header.Number = "100300"
	c.Entries[1].Bits = 0x3e00000a
	c.Entries = append(c.Entries, calibcache.Entry{Name: "new", Bits: math.Float32bits(0.5)})
	want := "TRT-100300-EntropyCalibration2\ninput_1:0: 3c010a14\nconv: 3e00000a\nflat: 00400000\nzeros: 0\nnew: 3f000000\n"
	if got := string(c.Bytes()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const header = "TRT-8501-EntropyCalibration2\n"
	for name, test := range map[string]struct {
		file   string
		line   int
		reason string // part of it
	}{
		"nothing":                {"", 0, "empty"},
		"blanks only":            {" \n\n", 0, "empty"},
		"a binary file":          {"\x08\x07\x12\x01\x01abc", 1, "control character U+0008"},
		"a binary file with NUL": {"abc\x00def", 0, "binary"},
		"text in Latin 1":        {header + "conv\xe9: 3c010a14\n", 0, "UTF-8"},
		"JSON":                   {"\n {\"a\": [0, 1]}", 0, "JSON"},
		"a byte order mark":      {"\xef\xbb\xbf" + small, 1, "byte order mark"},
		"Windows line ends":      {strings.ReplaceAll(small, "\n", "\r\n"), 1, "Windows line ends (CR LF), a cache has LF alone: convert it with dos2unix"},
		"one Windows line end":   {header + "a: 1\nb: 2\r\n", 3, "Windows line ends"},
		"old Macintosh ends":     {strings.ReplaceAll(small, "\n", "\r"), 1, "control character U+000D"},
		"a terminal's command":   {header + "a\u009b2J: 1\n", 2, "control character U+009B"},
		"a tab":                  {header + "a:\t1\n", 2, "control character U+0009"},
		"no header":              {"conv: 3c010a14\n", 1, "the header is missing"},
		"ONNX Runtime's table":   {"data 2.640000104904175\n", 1, "ONNX Runtime's table of ranges"},
		"a legacy table":         {"0 3ff0000000000000 3fefffeb074a771d\ninput: 3d97aca7\n", 1, "legacy calibrator's table"},
		"another first line":     {"hello\n", 1, `header "hello", want TRT-<version>-<algorithm>`},
		"a header cut short":     {"TRT-8501\nconv: 3c010a14", 1, `header "TRT-8501", want`},
		"a version with blanks":  {"TRT-85 01-EntropyCalibration2\n", 1, "want TRT-<version>-<algorithm>"},
		"another algorithm":      {"TRT-8501-PercentileCalibration\n", 1, `unknown calibration algorithm "PercentileCalibration", known are EntropyCalibration2, `},
		"an empty line":          {header + "a: 1\n\nb: 2\n", 3, "empty line"},
		"an empty last line":     {header + "a: 1\n\n", 3, "empty line"},
		"no colon":               {header + "conv 3c010a14\n", 2, `"conv 3c010a14" is no entry, want`},
		"no blank":               {header + "conv:3c010a14\n", 2, "is no entry"},
		"no name":                {header + ": 3c010a14\n", 2, "without a name"},
		"a long name":            {header + strings.Repeat("n", 4097) + ": 1\n", 2, "name of 4097 bytes, at most 4096"},
		"no value":               {header + "conv: \n", 2, `value "", want the scale's bits`},
		"a decimal value":        {header + "conv: 0.25\n", 2, `value "0.25"`},
		"a value with sign":      {header + "conv: -1\n", 2, `value "-1"`},
		"a value with 0x":        {header + "conv: 0x3c01\n", 2, `value "0x3c01"`},
		"nine digits":            {header + "conv: 03c010a14\n", 2, `value "03c010a14"`},
		"a blank behind":         {header + "conv: 3c010a14 \n", 2, `value "3c010a14 "`},
		"a name twice":           {header + "a: 1\nb: 2\na: 1\n", 4, `tensor "a" has an entry on line 2 already: remove one of the two`},
		"too large a file":       {header + strings.Repeat("a", calibcache.MaxSize), 0, "larger than 16 MiB"},
		"ten million lines":      {header + strings.Repeat("a\n", 10_000_000), 0, "larger than 16 MiB"},
		"too many entries":       {header + entries(calibcache.MaxEntries+1), calibcache.MaxEntries + 2, "more than 100000 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := calibcache.Parse([]byte(test.file))
			var syntax *calibcache.SyntaxError
			if !errors.As(err, &syntax) || c != nil {
				t.Fatalf("parsed to %v, error %v; want a SyntaxError", c, err)
			}
			if syntax.Line != test.line || !strings.Contains(syntax.Reason, test.reason) {
				t.Errorf("line %d: %s\nwant line %d: …%s…", syntax.Line, syntax.Reason, test.line, test.reason)
			}
			if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("error is no short line: %q", err.Error())
			}
		})
	}
}

func entries(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "t%d: 1\n", i)
	}
	return b.String()
}

func TestHeaderVersion(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{
		"5101":   "5.1.1",
		"8003":   "8.0.3",
		"8501":   "8.5.1",
		"8510":   "8.5.10",
		"9200":   "9.2.0",
		"100300": "10.3.0",
		"101401": "10.14.1",
		"8XXX":   "8XXX",
		"850":    "850",
		"10300":  "10300",
		"0501":   "0501",
	} {
		if got := (calibcache.Header{Number: number}).Version(); got != want {
			t.Errorf("%s is %s, want %s", number, got, want)
		}
	}
}

func TestHeaderFor(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"8.5.1":     "TRT-8501-MinMaxCalibration",
		"8.5.10":    "TRT-8510-MinMaxCalibration",
		"8.6":       "TRT-8600-MinMaxCalibration",
		"10.3.0":    "TRT-100300-MinMaxCalibration",
		"10.3.0.26": "TRT-100300-MinMaxCalibration",
		"100300":    "TRT-100300-MinMaxCalibration",
		"10.14.1":   "TRT-101401-MinMaxCalibration",
	} {
		h, err := calibcache.HeaderFor(version, calibcache.MinMax)
		if err != nil || h.String() != want {
			t.Errorf("%s: %v, %v; want %s", version, h, err, want)
		}
	}
	for version, want := range map[string]string{
		"":          "want a version such as 10.3.0",
		"8":         "want a version such as 10.3.0",
		"8XXX":      "want a version such as 10.3.0",
		"8.x":       `"x" is no number`,
		"8.5.1.2.3": "has 5 parts",
		"8.10":      "there is no such version",
		"0.1":       "there is no such version",
		"10.100":    "there is no such version",
		"11.0.0":    "TensorRT 11.0.0 takes no calibration cache",
		"110401":    "TensorRT 11.4.1 takes no calibration cache",
	} {
		_, err := calibcache.HeaderFor(version, calibcache.MinMax)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want …%s…", version, err, want)
		}
	}
}

func TestRealCachesComeBackToTheByte(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testenv.Material(t, "caches"), "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no caches: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := calibcache.Read(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(c.Bytes(), b) {
			t.Errorf("%s: other bytes", file)
		}
		if !strings.Contains(c.Header.Version(), ".") {
			t.Errorf("%s: version %s", file, c.Header.Version())
		}
		c.Entries = append([]calibcache.Entry{}, c.Entries...)
		for i, e := range c.Entries { // as if made anew
			c.Entries[i] = calibcache.Entry{Name: e.Name, Bits: e.Bits}
		}
		if !bytes.Equal(c.Bytes(), b) {
			t.Errorf("%s: we would write the same values in another way than TensorRT", file)
		}
	}
}

func TestOddFilesAreRefusedForWhatTheyAre(t *testing.T) {
	t.Parallel()
	dir := testenv.Material(t, "caches_odd")
	for file, want := range map[string]string{
		"mlcommons+inference_results_v0.7__closed__Altos__code__3d-unet__tensorrt__calibrator.cache": "line 1: this is a legacy calibrator's table",
		"shiyongming+onnxrt_trt_ep__calibration.cache":                                               "line 1: this is ONNX Runtime's table of ranges",
		"shiyongming+onnxrt_trt_ep__calibration.json":                                                "it is JSON",
	} {
		_, err := calibcache.Read(filepath.Join(dir, file))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error %v, want …%s…", file, err, want)
		}
	}
}

func TestReadStopsAtTheLimit(t *testing.T) {
	t.Parallel()
	_, err := calibcache.Read("/dev/zero")
	if err == nil || !strings.Contains(err.Error(), "/dev/zero: not a TensorRT calibration cache: it is larger") {
		t.Errorf("error %v", err)
	}
	if _, err := calibcache.Read(filepath.Join(t.TempDir(), "no")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want ErrNotExist", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("TRT-8XXX-MinMaxCalibration"))
	f.Add([]byte("TRT-100300-EntropyCalibration2\na: b: 0003C\n"))
	f.Add([]byte("0 3ff0000000000000 3fefffeb074a771d\ninput: 3d97aca7\n"))
	f.Add([]byte("TRT-8501-EntropyCalibration2\r\na: 1\r\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := calibcache.Parse(file)
		if err != nil {
			var syntax *calibcache.SyntaxError
			if c != nil || !errors.As(err, &syntax) {
				t.Fatalf("%v with error %v", c, err)
			}
			return
		}
		if !bytes.Equal(c.Bytes(), file) {
			t.Fatalf("parsed %q, wrote %q", file, c.Bytes())
		}
		for i, e := range c.Entries { // our own way of writing means the same
			c.Entries[i] = calibcache.Entry{Name: e.Name, Bits: e.Bits}
		}
		again, err := calibcache.Parse(c.Bytes())
		if err != nil || len(again.Entries) != len(c.Entries) {
			t.Fatalf("written anew, %q: %v", c.Bytes(), err)
		}
		for i, e := range again.Entries {
			if e.Name != c.Entries[i].Name || e.Bits != c.Entries[i].Bits {
				t.Fatalf("entry %d became %v, was %v", i, e, c.Entries[i])
			}
		}
	})
}
