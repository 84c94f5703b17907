package calibcache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// jsonDocument is what FormJSON files have; others add fields.
type jsonDocument struct {
	Header    string       `json:"header"`
	Version   string       `json:"version"`
	Algorithm Algorithm    `json:"algorithm"`
	Tensors   []jsonTensor `json:"tensors"`
}

type jsonTensor struct {
	Name  string   `json:"name"`
	Scale *float64 `json:"scale"` // null where JSON has no number for it
	Range *float64 `json:"range"`
	Bits  string   `json:"bits"` // eight hexadecimal digits; Scale is read only without them
}

func (c *Cache) document() ([]byte, error) {
	d := jsonDocument{
		Header: c.Header.String(), Version: c.Header.Version(), Algorithm: c.Header.Algorithm,
		Tensors: make([]jsonTensor, 0, len(c.Entries)),
	}
	for _, e := range c.Entries {
		t := jsonTensor{Name: e.Name, Bits: fmt.Sprintf("%08x", e.Bits)}
		if scale := float64(e.Scale()); !math.IsNaN(scale) && !math.IsInf(scale, 0) {
			reach := e.Range()
			t.Scale, t.Range = &scale, &reach
		}
		d.Tensors = append(d.Tensors, t)
	}
	var b bytes.Buffer
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false)
	if err := w.Encode(d); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// object writes an object with a member a tensor, in the cache's order.
func (c *Cache) object(head, indent, tail string, value func(Entry) string) []byte {
	b := []byte(head)
	for i, e := range c.Entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, indent...)
		b = append(b, quoted(e.Name)...)
		b = append(b, ": "...)
		b = append(b, value(e)...)
	}
	return append(b, tail...)
}

// quoted is a string in JSON, its < and & as they are.
func quoted(s string) []byte {
	var b bytes.Buffer
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false)
	_ = w.Encode(s) // a string can be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// nvdlaValue is a tensor in the way of NVDLA's calib_txt_to_json.py.
func nvdlaValue(e Entry) string {
	return "{\n        \"scale\": " + number(float64(e.Scale())) + ",\n        \"min\": 0,\n        \"max\": 0,\n        \"offset\": 0\n    }"
}

// detectJSON tells a JSON file's form by its first members.
func detectJSON(b []byte) Form {
	found := FormCache
	_ = members(b, func(name string, value json.RawMessage) error {
		value = bytes.TrimSpace(value)
		switch {
		case name == "header", name == "tensors":
			found = FormJSON
		case name == "act_quant_info", name == "tensorrt":
			found = FormRangesJSON
		case name == "CLS" && bytes.Equal(value, []byte(`"TensorsData"`)), value[0] == '[':
			found = FormORTJSON
		case value[0] == '-', value[0] >= '0' && value[0] <= '9':
			found = FormRangesJSON
		case value[0] == '{':
			found = FormORTJSON
			var v struct{ Scale *json.RawMessage }
			if json.Unmarshal(value, &v) == nil && v.Scale != nil {
				found = FormNVDLA
			}
		default: // such as "path", which says nothing
			return nil
		}
		return errEnough
	})
	return found
}

var errEnough = errors.New("enough was seen")

// members calls each for the members of an object, in their order.
func members(b []byte, each func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return orWant(err, "want an object, {…}")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if err := each(name.(string), value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return orWant(err, "there is more behind its end")
	}
	return nil
}

func orWant(err error, want string) error {
	if err != nil {
		return err
	}
	return errors.New(want)
}

// json reads a file of one of the JSON forms.
func (t *table) json(b []byte) error {
	if !utf8.Valid(b) {
		return t.errorf(0, "it isn't UTF-8")
	}
	var err error
	switch t.form {
	case FormJSON:
		err = t.jsonCache(b)
	case FormRangesJSON:
		err = t.jsonRanges(b, 0)
	case FormNVDLA:
		err = members(b, t.jsonNVDLA)
	case FormORTJSON:
		err = t.jsonORT(b)
	}
	var syntax *SyntaxError
	if err == nil || errors.As(err, &syntax) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return t.errorf(0, "it ends in the middle: was it cut off?")
	}
	return t.errorf(0, "%.300s", err.Error())
}

func (t *table) jsonCache(b []byte) error {
	header, tensors := "", json.RawMessage("[]")
	err := members(b, func(name string, value json.RawMessage) error {
		switch name {
		case "header":
			return json.Unmarshal(value, &header)
		case "tensors":
			tensors = value
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.cache.Header, err = parseHeader(header); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(tensors)) // one by one, so that a long list is refused early
	if start, err := d.Token(); err != nil || start != json.Delim('[') {
		return orWant(err, `want an array as "tensors"`)
	}
	for d.More() {
		var v jsonTensor
		if err := d.Decode(&v); err != nil {
			return err
		}
		bits, err := parseBits(v.Bits)
		switch {
		case v.Bits == "" && v.Scale != nil:
			bits = math.Float32bits(float32(*v.Scale))
		case err != nil:
			return t.errorf(0, "tensor %.200q: %v", v.Name, err)
		}
		if err := t.add(0, v.Name, math.Float32frombits(bits)); err != nil {
			return err
		}
		t.cache.Entries[len(t.cache.Entries)-1].Bits = bits // those of a NaN, too
	}
	return nil
}

// jsonRanges reads ranges by name, which exporters put below at most two names
// of their own.
func (t *table) jsonRanges(b []byte, depth int) error {
	return members(b, func(name string, value json.RawMessage) error {
		if depth < 2 && bytes.HasPrefix(value, []byte("{")) && (name == "act_quant_info" || name == "tensorrt" || name == "blob_range") {
			return t.jsonRanges(value, depth+1)
		}
		reach, err := float(value)
		if err != nil {
			return t.errorf(0, "tensor %.200q: %v, want its range", name, err)
		}
		return t.addRange(0, name, reach)
	})
}

func (t *table) jsonNVDLA(name string, value json.RawMessage) error {
	var v struct {
		Scale    json.RawMessage `json:"scale"`
		Min, Max float64
		Offset   float64
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return t.errorf(0, "tensor %.200q: %.200s", name, err.Error())
	}
	scale, err := float(v.Scale)
	switch {
	case err != nil:
		return t.errorf(0, "tensor %.200q: %v, want its scale", name, err)
	case v.Offset != 0:
		return t.errorf(0, "tensor %.200q has the offset %v: a cache has only grids that are the same on both sides of zero", name, v.Offset)
	case math.Abs(scale) > math.MaxFloat32:
		return t.errorf(0, "tensor %.200q: the scale %v is beyond binary32", name, scale)
	}
	if v.Min != 0 || v.Max != 0 {
		t.dropped++
	}
	if float64(float32(scale)) != scale {
		t.rounded++
	}
	return t.add(0, name, float32(scale))
}
