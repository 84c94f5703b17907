package calibcache_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
)

// twoTensors are the scales 2^-7 and 2^-30, whose ranges are short in decimal.
const twoTensors = "TRT-8501-EntropyCalibration2\n<in>:0: 3c000000\n(Unnamed Layer* 1) [Pooling]_output: 30800000\n"

func TestEncode(t *testing.T) {
	t.Parallel()
	c := parse(t, twoTensors)
	for form, want := range map[calibcache.Form]string{
		calibcache.FormCache: twoTensors,
		calibcache.FormJSON: `{"header":"TRT-8501-EntropyCalibration2","version":"8.5.1","algorithm":"EntropyCalibration2","tensors":[` +
			`{"name":"<in>:0","scale":0.0078125,"range":0.9921875,"bits":"3c000000"},` +
			`{"name":"(Unnamed Layer* 1) [Pooling]_output","scale":9.313225746154785e-10,"range":1.1827796697616577e-7,"bits":"30800000"}]}` + "\n",
		calibcache.FormRanges:     "<in>:0: 0.9921875\n(Unnamed Layer* 1) [Pooling]_output: 1.1827796697616577e-07\n",
		calibcache.FormORTTable:   "<in>:0 0.9921875\n(Unnamed Layer* 1) [Pooling]_output 1.1827796697616577e-07\n",
		calibcache.FormRangesJSON: "{\n  \"act_quant_info\": {\n    \"<in>:0\": 0.9921875,\n    \"(Unnamed Layer* 1) [Pooling]_output\": 1.1827796697616577e-07\n  }\n}\n",
		calibcache.FormORTJSON:    "{\n  \"<in>:0\": [-0.9921875, 0.9921875],\n  \"(Unnamed Layer* 1) [Pooling]_output\": [-1.1827796697616577e-07, 1.1827796697616577e-07]\n}\n",
		calibcache.FormNVDLA: `{
    "<in>:0": {
        "scale": 0.0078125,
        "min": 0,
        "max": 0,
        "offset": 0
    },
    "(Unnamed Layer* 1) [Pooling]_output": {
        "scale": 9.313225746154785e-10,
        "min": 0,
        "max": 0,
        "offset": 0
    }
}
`,
	} {
		got, notes, err := c.Encode(form)
		if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", form, err, diff)
		}
		var wantNotes []string
		if !form.HasHeader() {
			wantNotes = append(wantNotes, "has no place for the header TRT-8501-EntropyCalibration2")
		}
		if form == calibcache.FormRanges {
			wantNotes = append(wantNotes, "1 names have a colon")
		}
		if len(notes) != len(wantNotes) {
			t.Errorf("%s: notes %q, want %q", form, notes, wantNotes)
			continue
		}
		for i, note := range notes {
			if !strings.Contains(note, wantNotes[i]) {
				t.Errorf("%s: note %q, want …%s…", form, note, wantNotes[i])
			}
		}
	}
}

// Every form gives the bits back that it was given.
func TestFormsLoseNothing(t *testing.T) {
	t.Parallel()
	caches := map[string]*calibcache.Cache{"by hand": parse(t, twoTensors)}
	random := rand.New(rand.NewPCG(1, 2))
	all := &calibcache.Cache{Header: calibcache.Header{Number: "100300", Algorithm: calibcache.MinMax}}
	for i := range 5000 {
		bits := random.Uint32() >> 1 // not negative
		if scale := math.Float32frombits(bits); scale-scale == 0 {
			all.Entries = append(all.Entries, calibcache.EntryOf(fmt.Sprint("t ", i, ": ", i), scale))
		}
	}
	caches["any bits"] = all
	for name, c := range caches {
		roundTrip(t, name, c)
	}
}

func TestRealCachesGoThroughEveryForm(t *testing.T) {
	t.Parallel()
	for _, file := range realCaches(t) {
		c, err := calibcache.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, file, c)
	}
}

// roundTrip takes a cache through every form and back, which has to give the
// same bytes, as forms are detected, too.
func roundTrip(t *testing.T, name string, c *calibcache.Cache) {
	t.Helper()
	for _, form := range calibcache.Forms {
		file, _, err := c.Encode(form)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := calibcache.Detect(file); got != form {
			t.Errorf("%s: %s is taken for %s", name, form, got)
		}
		again, notes, err := calibcache.Decode(file, form)
		if err != nil || notes != nil {
			t.Errorf("%s: %s: %v, notes %q", name, form, err, notes)
			continue
		}
		if !form.HasHeader() {
			if again.Header != (calibcache.Header{}) {
				t.Errorf("%s: %s has the header %s", name, form, again.Header)
			}
			again.Header = c.Header
		}
		if !bytes.Equal(again.Bytes(), c.Bytes()) {
			t.Errorf("%s: %s gives other bytes back", name, form)
		}
	}
}

func TestEncodeRefusesWhatAFormCannotHold(t *testing.T) {
	t.Parallel()
	for bits, forms := range map[string]map[calibcache.Form]string{
		"7fc00001": {
			calibcache.FormJSON: "", calibcache.FormRanges: "NaN (7fc00001) can't be written", calibcache.FormNVDLA: "take the form json",
			calibcache.FormFlatbuffers: "can't be written in ONNX Runtime's calibration flatbuffers",
		},
		"ff800000": {calibcache.FormJSON: "", calibcache.FormORTJSON: "-Inf (ff800000)"},
		"bf800000": {calibcache.FormJSON: "", calibcache.FormNVDLA: "", calibcache.FormORTTable: "-1 is negative", calibcache.FormRangesJSON: "is negative"},
		"80000000": {calibcache.FormJSON: "", calibcache.FormNVDLA: "", calibcache.FormRanges: "is negative"},
	} {
		c := parse(t, "TRT-8501-EntropyCalibration2\na: "+bits+"\n")
		for form, want := range forms {
			b, _, err := c.Encode(form)
			if want == "" {
				again, _, decodeErr := calibcache.Decode(b, form)
				if err != nil || decodeErr != nil || again.Entries[0].Bits != c.Entries[0].Bits {
					t.Errorf("%s in %s: %v, %v", bits, form, err, decodeErr)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"a"`) || b != nil {
				t.Errorf("%s in %s: error %v, want …%s…", bits, form, err, want)
			}
		}
	}
}

func TestDecodeOfOtherWriters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file  string
		form  calibcache.Form
		want  map[string]float32 // scales
		notes []string           // parts
	}{
		"TensorRT's sample":           {"gpu_0/data_0: 1.00024\ngpu_0/conv1_1: 5.43116\n", calibcache.FormRanges, map[string]float32{"gpu_0/data_0": 1.00024 / 127, "gpu_0/conv1_1": 5.43116 / 127}, []string{"2 of 2 ranges are rounded"}},
		"ranges as a flat object":     {`{"a": 254, "b": 1.27e2}`, calibcache.FormRangesJSON, map[string]float32{"a": 2, "b": 1}, nil},
		"PPQ's":                       {`{"act_quant_info": {"a": 254}}`, calibcache.FormRangesJSON, map[string]float32{"a": 2}, nil},
		"MQBench's":                   {`{"tensorrt": {"blob_range": {"a": 254, "tensorrt": 127}}}`, calibcache.FormRangesJSON, map[string]float32{"a": 2, "tensorrt": 1}, nil},
		"NVDLA's":                     {"{\n    \"data\": {\n        \"scale\": 1.1892666816711426, \n        \"min\": 0, \n        \"max\": 0, \n        \"offset\": 0\n    }\n}", calibcache.FormNVDLA, map[string]float32{"data": 1.1892667}, nil},
		"NVDLA's with more":           {`{"data": {"scale": 1, "min": -3, "max": 4, "offset": 0}}`, calibcache.FormNVDLA, map[string]float32{"data": 1}, []string{"1 of 1 tensors have more than a scale"}},
		"ONNX Runtime's pairs":        {`{"a": [-254.0, 127.0], "b": [0.0, 127.0], "c": [-127, 127]}`, calibcache.FormORTJSON, map[string]float32{"a": 2, "b": 1, "c": 1}, []string{"2 of 3 tensors have a range that isn't the same on both sides"}},
		"ONNX Runtime's data":         {`{"data": [-254.0, 254.0]}`, calibcache.FormORTJSON, map[string]float32{"data": 2}, nil},
		"ONNX Runtime's objects":      {`{"CLS": "TensorsData", "data": {"a": {"lowest": {"data": -127.0, "dtype": "float32", "CLS": "numpy.array"}, "highest": {"data": [127.0], "dtype": "float32", "CLS": "numpy.array"}, "CLS": "TensorData"}}, "calibration_method": {"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"}}`, calibcache.FormORTJSON, map[string]float32{"a": 1}, nil},
		"ONNX Runtime's objects, too": {`{"a": {"CLS": "TensorData", "lowest": -127.0, "highest": 127}}`, calibcache.FormORTJSON, map[string]float32{"a": 1}, nil},
		"show's with its path":        {`{"path": "x", "header": "TRT-8501-MinMaxCalibration", "tensors": [{"name": "a", "scale": 2, "more": 1}]}`, calibcache.FormJSON, map[string]float32{"a": 2}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := calibcache.Detect([]byte(test.file)); got != test.form {
				t.Errorf("taken for %s", got)
			}
			c, notes, err := calibcache.Decode([]byte(test.file), test.form)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float32{}
			for _, e := range c.Entries {
				got[e.Name] = e.Scale()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if len(notes) != len(test.notes) {
				t.Errorf("notes %q, want %q", notes, test.notes)
			}
			for i := range min(len(notes), len(test.notes)) {
				if !strings.Contains(notes[i], test.notes[i]) {
					t.Errorf("notes %q, want %q", notes, test.notes)
				}
			}
		})
	}
}

func TestDecodeOfARealCalibrators(t *testing.T) {
	t.Parallel()
	dir := testenv.Material(t, "caches_odd")
	caches := map[string]*calibcache.Cache{}
	for file, form := range map[string]calibcache.Form{
		"shiyongming+onnxrt_trt_ep__calibration.cache": calibcache.FormORTTable,
		"shiyongming+onnxrt_trt_ep__calibration.json":  calibcache.FormORTJSON,
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if got := calibcache.Detect(b); got != form {
			t.Errorf("%s is taken for %s", file, got)
		}
		c, _, err := calibcache.Decode(b, form)
		if err != nil {
			t.Fatal(err)
		}
		caches[file] = c
	}
	// Both are of one calibration. The JSON has ranges of two sides, the table
	// was made of the greatest value.
	d := calibcache.Compare(caches["shiyongming+onnxrt_trt_ep__calibration.cache"], caches["shiyongming+onnxrt_trt_ep__calibration.json"])
	if len(d.Tensors) < 100 || d.OnlyLeft != nil || d.OnlyRight != nil || d.Identical != len(d.Tensors) {
		t.Errorf("%d tensors, %d of them the same, only in one: %q, %q", len(d.Tensors), d.Identical, d.OnlyLeft, d.OnlyRight)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	flat := flatbuffersOf("a", "254", "b", "1")
	for name, test := range map[string]struct {
		form calibcache.Form
		file string
		want string
	}{
		"an empty text":             {calibcache.FormRanges, "", "names no tensor"},
		"a line without a value":    {calibcache.FormRanges, "a: 1\nb\n", `line 2: "b", want ` + "`name: range`"},
		"no number":                 {calibcache.FormORTTable, "a one\n", `line 1: tensor "a": "one" is no number`},
		"an empty line":             {calibcache.FormORTTable, "a 1\n\nb 2\n", "line 2: "},
		"a name twice":              {calibcache.FormORTTable, "a 1\nb 1\na 2\n", `line 3: tensor "a" stands on line 1 already`},
		"NaN":                       {calibcache.FormRanges, "a: nan\n", "the range NaN is no number that a scale can have"},
		"beyond binary32":           {calibcache.FormRanges, "a: 1e300\n", "the range 1e+300"},
		"a negative range":          {calibcache.FormRanges, "a: -1\n", "the range -1 is negative"},
		"no name":                   {calibcache.FormRanges, ": 1\n", "line 1: a tensor without a name"},
		"a long name":               {calibcache.FormRanges, strings.Repeat("n", 4097) + ": 1\n", "name of 4097 bytes"},
		"a control character":       {calibcache.FormRanges, "a\x1b[2J: 1\n", "characters that a cache can't hold"},
		"Windows line ends":         {calibcache.FormORTTable, "a 1\r\nb\r\n", "line 2"},
		"Latin 1":                   {calibcache.FormORTTable, "\xe9 1\n", "UTF-8"},
		"too large":                 {calibcache.FormORTTable, strings.Repeat("a", calibcache.MaxSize+1), "larger than 16 MiB"},
		"JSON cut off":              {calibcache.FormORTJSON, `{"a": [-1, 1], "b": [`, "was it cut off"},
		"JSON of another kind":      {calibcache.FormORTJSON, `[1, 2]`, "want an object"},
		"JSON with more behind it":  {calibcache.FormORTJSON, `{"a": [-1, 1]} {}`, "more behind its end"},
		"a pair of one":             {calibcache.FormORTJSON, `{"a": [1]}`, `tensor "a": has 1 numbers, want [lowest, highest]`},
		"a pair of many":            {calibcache.FormORTJSON, `{"a": [` + strings.Repeat("1, ", 5000) + `1]}`, `tensor "a": has many numbers`},
		"more than are taken":       {calibcache.FormJSON, `{"header": "TRT-8501-MinMaxCalibration", "tensors": [` + manyTensors(calibcache.MaxEntries+1) + `]}`, "more than 100000 tensors"},
		"tensors that are no list":  {calibcache.FormJSON, `{"header": "TRT-8501-MinMaxCalibration", "tensors": 1}`, "want an array"},
		"a pair of words":           {calibcache.FormORTJSON, `{"a": ["1", 2]}`, "is no number"},
		"an object without a range": {calibcache.FormORTJSON, `{"a": {"avg": 1}}`, "has no number, want its lowest"},
		"JSON with a name twice":    {calibcache.FormORTJSON, `{"a": [-1, 1], "a": [-2, 2]}`, `tensor "a" is there twice`},
		"no tensor":                 {calibcache.FormORTJSON, `{}`, "names no tensor"},
		"a range of words":          {calibcache.FormRangesJSON, `{"a": "one"}`, `tensor "a": "\"one\"" is no number, want its range`},
		"a range beyond binary64":   {calibcache.FormRangesJSON, `{"a": 1e999}`, "beyond binary64"},
		"an NVDLA offset":           {calibcache.FormNVDLA, `{"a": {"scale": 1, "min": 0, "max": 0, "offset": 3}}`, "has the offset 3"},
		"an NVDLA without a scale":  {calibcache.FormNVDLA, `{"a": {"min": 0}}`, `tensor "a": has no number, want its scale`},
		"an NVDLA number":           {calibcache.FormNVDLA, `{"a": 1}`, `tensor "a": `},
		"an NVDLA scale too large":  {calibcache.FormNVDLA, `{"a": {"scale": 1e300}}`, "beyond binary32"},
		"JSON without a header":     {calibcache.FormJSON, `{"tensors": []}`, `header ""`},
		"JSON without a value":      {calibcache.FormJSON, `{"header": "TRT-8501-MinMaxCalibration", "tensors": [{"name": "a"}]}`, `tensor "a": value ""`},
		"JSON with a null byte":     {calibcache.FormNVDLA, `{"a\u0000": {"scale": 1}}`, "characters that a cache can't hold"},
		"flatbuffers of nothing":    {calibcache.FormFlatbuffers, "", "leads out of the file"},
		"flatbuffers cut off":       {calibcache.FormFlatbuffers, flat[:len(flat)/2], "leads out of the file"},
		"flatbuffers of no number":  {calibcache.FormFlatbuffers, flatbuffersOf("a", "one"), `tensor "a": "one" is no number`},
		"flatbuffers without names": {calibcache.FormFlatbuffers, flatbuffersOf(), "names no tensor"},
		"flatbuffers, a long name":  {calibcache.FormFlatbuffers, flatbuffersOf(strings.Repeat("n", 4097), "1"), "name of tensor 1: has 4097 bytes"},
		"flatbuffers, a long range": {calibcache.FormFlatbuffers, flatbuffersOf("a", strings.Repeat("1", 65)), `range of tensor "a": has 65 bytes`},
		"flatbuffers, a name twice": {calibcache.FormFlatbuffers, flatbuffersOf("a", "1", "a", "2"), "there twice"},
		"a cache as flatbuffers":    {calibcache.FormFlatbuffers, small, "not ONNX Runtime's calibration flatbuffers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _, err := calibcache.Decode([]byte(test.file), test.form)
			var syntax *calibcache.SyntaxError
			if c != nil || !errors.As(err, &syntax) || syntax.Form != test.form || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, error %v; want …%s…", c, err, test.want)
			}
			if err != nil && (len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\n\x00\x1b")) {
				t.Errorf("error is no short line: %q", err.Error())
			}
		})
	}
}

func manyTensors(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `%s{"name": "t%d", "bits": "1"}`, map[bool]string{true: "", false: ", "}[i == 0], i)
	}
	return b.String()
}

// Wherever a flatbuffers file is cut, it is refused.
func TestFlatbuffersCutAnywhere(t *testing.T) {
	t.Parallel()
	whole := flatbuffersOf("input", "254", "conv", "127")
	for n := range len(whole) {
		if c, _, err := calibcache.Decode([]byte(whole[:n]), calibcache.FormFlatbuffers); err == nil && len(c.Entries) == 2 && n < len(whole)-3 {
			t.Errorf("%d of %d bytes are taken", n, len(whole))
		}
	}
}

// flatbuffersOf makes a file of names and values.
func flatbuffersOf(pairs ...string) string {
	b := flatbuffers.NewBuilder(0)
	var tables []flatbuffers.UOffsetT
	for i := 0; i < len(pairs); i += 2 {
		key, value := b.CreateString(pairs[i]), b.CreateString(pairs[i+1])
		b.StartObject(2)
		b.PrependUOffsetTSlot(0, key, 0)
		b.PrependUOffsetTSlot(1, value, 0)
		tables = append(tables, b.EndObject())
	}
	dict := b.CreateVectorOfTables(tables)
	b.StartObject(1)
	b.PrependUOffsetTSlot(0, dict, 0)
	b.Finish(b.EndObject())
	return string(b.FinishedBytes())
}

func TestDetectLeavesTheRestToTheCachesParser(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"nothing":                  "",
		"a cache":                  small,
		"a cache without header":   "conv: 3c010a14\npool: 30000000\n",
		"a legacy table":           "0 3ff0000000000000 3fefffeb074a771d\ninput: 3d97aca7\n",
		"a model":                  "\x08\x07\x12\x01\x00abc",
		"prose":                    "Dear reader,\nthis is version 1.5.\n",
		"a JSON list":              "[1, 2]",
		"a JSON object of nothing": "{}",
		"broken JSON":              `{"a`,
	} {
		if got := calibcache.Detect([]byte(file)); got != calibcache.FormCache {
			t.Errorf("%s is taken for %s", name, got)
		}
	}
}

func TestParseForm(t *testing.T) {
	t.Parallel()
	for _, f := range calibcache.Forms {
		if got, err := calibcache.ParseForm(string(f)); got != f || err != nil {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := calibcache.ParseForm("yaml"); err == nil || !strings.Contains(err.Error(), `unknown form "yaml", known are cache, json,`) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	c, err := calibcache.Parse([]byte(twoTensors))
	if err != nil {
		f.Fatal(err)
	}
	for _, form := range calibcache.Forms {
		b, _, err := c.Encode(form)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"CLS": "TensorsData", "data": {"a": {"lowest": {"data": [-1]}, "highest": 1}}}`))
	f.Add([]byte(`{"tensorrt": {"blob_range": {"a": 1.5}}}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		found := calibcache.Detect(file)
		for _, form := range calibcache.Forms {
			c, _, err := calibcache.Decode(file, form)
			var syntax *calibcache.SyntaxError
			if err != nil {
				if c != nil || !errors.As(err, &syntax) {
					t.Fatalf("%s: %v with error %v", form, c, err)
				}
				continue
			}
			if found == form && form != calibcache.FormCache && len(c.Entries) > calibcache.MaxEntries {
				t.Fatalf("%d entries", len(c.Entries))
			}
			b, _, err := c.Encode(form)
			if err != nil {
				t.Fatalf("%s: what was read can't be written: %v", form, err)
			}
			again, _, err := calibcache.Decode(b, form)
			if err != nil {
				t.Fatalf("%s: what was written can't be read: %v: %q", form, err, b)
			}
			if !calibcache.Compare(c, again).Same() {
				t.Fatalf("%s: %q became %q", form, file, b)
			}
		}
	})
}
