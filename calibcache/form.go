package calibcache

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Form is a kind of file that holds the scales of a calibration. FORMAT.md
// describes each.
type Form string

const (
	FormCache       Form = "cache"           // TensorRT's calibration cache
	FormJSON        Form = "json"            // all of a cache: what `sightd cache show --json` prints
	FormRanges      Form = "trt-ranges"      // the text that TensorRT's sampleINT8API reads, `name: range`
	FormRangesJSON  Form = "trt-json"        // the same as JSON, for scripts that set dynamic ranges
	FormNVDLA       Form = "nvdla"           // NVDLA's calibration table, JSON
	FormORTTable    Form = "ort-table"       // ONNX Runtime's calibration.cache, `name range`
	FormORTJSON     Form = "ort-json"        // ONNX Runtime's calibration.json
	FormFlatbuffers Form = "ort-flatbuffers" // ONNX Runtime's calibration.flatbuffers
)

// Forms are all of them.
var Forms = []Form{FormCache, FormJSON, FormRanges, FormRangesJSON, FormNVDLA, FormORTTable, FormORTJSON, FormFlatbuffers}

// ParseForm finds a form by its name.
func ParseForm(name string) (Form, error) {
	names := make([]string, len(Forms))
	for i, f := range Forms {
		if name == string(f) {
			return f, nil
		}
		names[i] = string(f)
	}
	return "", fmt.Errorf("unknown form %.64q, known are %s", name, strings.Join(names, ", "))
}

// HasHeader says whether files of the form name TensorRT's version and the
// algorithm, which a cache has to.
func (f Form) HasHeader() bool { return f == FormCache || f == FormJSON }

// describe names what a file of the form is.
func (f Form) describe() string {
	switch f {
	case FormJSON:
		return "a calibration cache as JSON"
	case FormRanges:
		return "a table of ranges for TensorRT's sampleINT8API"
	case FormRangesJSON:
		return "JSON with dynamic ranges for TensorRT"
	case FormNVDLA:
		return "an NVDLA calibration table"
	case FormORTTable:
		return "ONNX Runtime's calibration table"
	case FormORTJSON:
		return "ONNX Runtime's calibration JSON"
	case FormFlatbuffers:
		return "ONNX Runtime's calibration flatbuffers"
	}
	return "a TensorRT calibration cache"
}

// Decode reads a file of any form. Where the form has no header, the cache's is
// zero, for the caller to fill in before Bytes. The notes say, for people, what
// of the file a cache can't hold. An error of the file's content is a
// [*SyntaxError].
func Decode(b []byte, f Form) (c *Cache, notes []string, err error) {
	if f == FormCache {
		c, err = Parse(b)
		return c, nil, err
	}
	if len(b) > MaxSize {
		return nil, nil, &SyntaxError{Form: f, Reason: fmt.Sprintf("it is larger than %d MiB, the most that is taken", MaxSize>>20)}
	}
	t := &table{form: f, lines: make(map[string]int)}
	switch f {
	case FormRanges, FormORTTable:
		err = t.text(b)
	case FormFlatbuffers:
		err = t.flatbuffers(b)
	case FormJSON, FormRangesJSON, FormNVDLA, FormORTJSON:
		err = t.json(b)
	default:
		return nil, nil, fmt.Errorf("unknown form %.64q", f)
	}
	if err == nil && len(t.cache.Entries) == 0 && f != FormJSON {
		err = &SyntaxError{Form: f, Reason: "it names no tensor"}
	}
	if err != nil {
		return nil, nil, err
	}
	return &t.cache, t.notes(), nil
}

// Encode writes the cache as a file of any form: for each, Decode gives the same
// bits back in the same order. The notes say, for people, what of the cache the
// form can't hold; a scale that it can't hold is an error.
func (c *Cache) Encode(f Form) (b []byte, notes []string, err error) {
	if !f.HasHeader() {
		notes = append(notes, fmt.Sprintf("%s has no place for the header %s", f.describe(), c.Header))
		if err := c.holdable(f); err != nil {
			return nil, nil, err
		}
	}
	switch f {
	case FormCache:
		return c.Bytes(), nil, nil
	case FormJSON:
		b, err = c.document()
	case FormRanges:
		b = c.text(": ")
		if n := c.having(":"); n > 0 {
			notes = append(notes, fmt.Sprintf("%d names have a colon, where TensorRT's sample ends a name", n))
		}
	case FormORTTable:
		b = c.text(" ")
	case FormRangesJSON:
		b = c.object("{\n  \"act_quant_info\": {", "\n    ", "\n  }\n}\n", func(e Entry) string { return number(e.Range()) })
	case FormNVDLA:
		b = c.object("{", "\n    ", "\n}\n", nvdlaValue)
	case FormORTJSON:
		b = c.object("{", "\n  ", "\n}\n", func(e Entry) string {
			return "[" + number(-e.Range()) + ", " + number(e.Range()) + "]"
		})
	case FormFlatbuffers:
		b = c.flatbuffers()
	default:
		return nil, nil, fmt.Errorf("unknown form %.64q", f)
	}
	return b, notes, err
}

// holdable says whether a form without bits can hold all scales.
func (c *Cache) holdable(f Form) error {
	for _, e := range c.Entries {
		switch scale := float64(e.Scale()); {
		case math.IsNaN(scale) || math.IsInf(scale, 0):
			return fmt.Errorf("tensor %.200q: the scale %v (%08x) can't be written in %s: take the form %s, which has the bits",
				e.Name, scale, e.Bits, f.describe(), FormJSON)
		case math.Signbit(scale) && f != FormNVDLA:
			return fmt.Errorf("tensor %.200q: the scale %v is negative, which a range isn't: take the form %s or %s",
				e.Name, scale, FormJSON, FormNVDLA)
		}
	}
	return nil
}

// having counts the names with a part.
func (c *Cache) having(part string) int {
	n := 0
	for _, e := range c.Entries {
		if strings.Contains(e.Name, part) {
			n++
		}
	}
	return n
}

// Detect tells a file's form by its content. What is of no known form is a
// FormCache, whose parser explains best what else a file is.
func Detect(b []byte) Form {
	head := b[:min(len(b), MaxSize)]
	trimmed := bytes.TrimSpace(head)
	switch {
	case bytes.HasPrefix(head, []byte("TRT-")), len(trimmed) == 0:
		return FormCache
	case trimmed[0] == '{':
		return detectJSON(trimmed)
	case bytes.IndexByte(head[:min(len(head), 64)], 0) >= 0:
		if _, _, err := Decode(head, FormFlatbuffers); err == nil {
			return FormFlatbuffers
		}
		return FormCache
	}
	for _, f := range []Form{FormRanges, FormORTTable} {
		if isTable(trimmed, f) {
			return f
		}
	}
	return FormCache
}

// table collects what a file of another form says.
type table struct {
	form  Form
	cache Cache
	lines map[string]int // of the names; 0 where the form has no lines

	rounded    int // ranges that no binary32 scale has
	asymmetric int // tensors whose range isn't the same on both sides of zero
	dropped    int // tensors with further values that a cache has no place for
}

func (t *table) errorf(line int, format string, args ...any) error {
	return &SyntaxError{Form: t.form, Line: line, Reason: fmt.Sprintf(format, args...)}
}

// add takes a tensor.
func (t *table) add(line int, name string, scale float32) error {
	before, again := t.lines[name]
	switch {
	case name == "":
		return t.errorf(line, "a tensor without a name")
	case len(name) > MaxName:
		return t.errorf(line, "name of %d bytes, at most %d are taken", len(name), MaxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return t.errorf(line, "the name %.64q has characters that a cache can't hold", name)
	case again && before > 0:
		return t.errorf(line, "tensor %.200q stands on line %d already: remove one of the two", name, before)
	case again:
		return t.errorf(line, "tensor %.200q is there twice: remove one of the two", name)
	case len(t.cache.Entries) == MaxEntries:
		return t.errorf(line, "more than %d tensors, the most that is taken", MaxEntries)
	}
	t.lines[name] = line
	t.cache.Entries = append(t.cache.Entries, EntryOf(name, scale))
	return nil
}

// addRange takes a tensor with the magnitude that its grid reaches.
func (t *table) addRange(line int, name string, reach float64) error {
	scale := float32(reach / 127) // exact, where the range is 127 scales
	switch {
	case math.IsNaN(reach) || math.IsInf(float64(scale), 0):
		return t.errorf(line, "tensor %.200q: the range %v is no number that a scale can have", name, reach)
	case math.Signbit(reach):
		return t.errorf(line, "tensor %.200q: the range %v is negative", name, reach)
	}
	if float64(scale)*127 != reach {
		t.rounded++
	}
	return t.add(line, name, scale)
}

func (t *table) notes() []string {
	var notes []string
	if t.rounded > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d ranges are rounded: a cache has range ÷ 127 as a binary32 number", t.rounded, len(t.cache.Entries)))
	}
	if t.asymmetric > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d tensors have a range that isn't the same on both sides of zero: a cache has the larger side", t.asymmetric, len(t.cache.Entries)))
	}
	if t.dropped > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d tensors have more than a scale: a cache has no place for it", t.dropped, len(t.cache.Entries)))
	}
	return notes
}
