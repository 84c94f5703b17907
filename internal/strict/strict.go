// Package strict reads YAML and JSON from outside into Go structs, and says of
// everything that is wrong where it stands: file, line, column, key, what was
// found and what was wanted, with the line itself.
//
// It is stricter than the libraries below it. An unknown key is an error, as is
// a key that stands twice, a fraction for a whole number, or a quoted number;
// numbers and booleans are JSON's in YAML too. Text may stay unquoted in YAML
// even where it looks like a number. Keys are the names of the json tags, in
// their exact case. What is absent (or empty, in YAML) keeps the value that the
// struct holds already, its default.
//
// Passwords of URLs are masked in all messages.
package strict

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const maxDepth = 32

// Defaulter is implemented by the elements of lists and maps that have defaults.
type Defaulter interface{ SetDefaults() }

// Document is a document that was read, and the faults that were found in it.
type Document struct {
	root  *node
	yaml  bool
	nodes map[string]*node // by path, once decoded
	errs  Errors
}

// YAML reads one YAML document of at most limit bytes. The name stands in
// messages. The error is an [Errors].
func YAML(name string, data []byte, limit int) (*Document, error) {
	return read(name, data, limit, parseYAML, true)
}

// JSON reads one JSON value of at most limit bytes.
func JSON(name string, data []byte, limit int) (*Document, error) {
	return read(name, data, limit, parseJSON, false)
}

// Bare is a file error without operation and path, for a caller that names them.
func Bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// ReadFile reads a file of at most limit bytes.
func ReadFile(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, wanted a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%s is larger than %d KiB, the most that is read", path, limit>>10)
	}
	return data, err
}

func read(name string, data []byte, limit int, parse func(*source, []byte) (*node, error), isYAML bool) (*Document, error) {
	if len(data) > limit {
		return nil, Errors{{Source: name, Message: fmt.Sprintf("larger than %d KiB, the most that is read", limit>>10)}}
	}
	if isYAML {
		data = bytes.TrimPrefix(data, []byte("\ufeff"))
	}
	src := newSource(name, data)
	if line, col := badText(data); line > 0 {
		return nil, Errors{src.errorf(line, col, "", "not text in UTF-8")}
	}
	root, err := parse(src, data)
	if err != nil {
		var one *Error
		if errors.As(err, &one) {
			return nil, Errors{one}
		}
		return nil, err
	}
	return &Document{root: root, yaml: isYAML, nodes: map[string]*node{}}, nil
}

// badText is the place of the first byte that is not UTF-8, or is NUL.
func badText(data []byte) (line, col int) {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == 0 || r == utf8.RuneError && size == 1 {
			start := bytes.LastIndexByte(data[:i], '\n') + 1
			return bytes.Count(data[:i], []byte("\n")) + 1, utf8.RuneCount(data[start:i]) + 1
		}
		i += size
	}
	return 0, 0
}

// Decode stores the document in *into, over the defaults that it holds. Faults
// are kept for [Document.Err].
func (d *Document) Decode(into any) {
	d.decode("", d.root, reflect.ValueOf(into).Elem())
}

// Errorf adds a fault found after decoding, such as a value out of range, at the
// place of path or of the nearest thing around it. Where decoding has found one
// at path, that one is enough.
func (d *Document) Errorf(path, format string, args ...any) {
	if slices.ContainsFunc(d.errs, func(e *Error) bool { return e.Path == path && path != "" }) {
		return
	}
	n := d.nodes[path]
	for at := path; n == nil; {
		cut := strings.LastIndexAny(at, ".[")
		if cut < 0 {
			n = d.root
			break
		}
		at = at[:cut]
		n = d.nodes[at]
	}
	d.errorf(n, path, format, args...)
}

// Has tells whether the document gives path a value.
func (d *Document) Has(path string) bool { return d.nodes[path] != nil }

// Err is nil, or all faults as [Errors].
func (d *Document) Err() error {
	if len(d.errs) == 0 {
		return nil
	}
	return d.errs.sorted()
}

func (d *Document) errorf(n *node, path, format string, args ...any) {
	d.errs = append(d.errs, n.src.errorf(n.line, n.col, path, format, args...))
}

func (d *Document) decode(path string, n *node, into reflect.Value) {
	d.nodes[path] = n
	if n.kind == null {
		return
	}
	scalar := n.kind == boolean || n.kind == number || n.kind == text
	if t, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok && (scalar || into.Kind() != reflect.Struct && !(into.Kind() == reflect.Slice && n.kind == list)) {
		if !scalar {
			d.errorf(n, path, "found %s, wanted one value", n.kind)
		} else if err := t.UnmarshalText([]byte(n.text)); err != nil {
			d.errorf(n, path, "found %s, wanted %v", n.found(), err)
		}
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		if into.IsNil() {
			into.Set(fresh(into.Type().Elem()).Addr())
		}
		d.decode(path, n, into.Elem())
	case reflect.Struct:
		d.decodeStruct(path, n, into)
	case reflect.Map:
		d.decodeMap(path, n, into)
	case reflect.Slice, reflect.Array:
		d.decodeList(path, n, into)
	default:
		d.decodeScalar(path, n, into)
	}
}

func (d *Document) decodeStruct(path string, n *node, into reflect.Value) {
	if n.kind != mapping {
		d.errorf(n, path, "found %s, wanted a mapping", n.found())
		return
	}
	fields := fieldsOf(into.Type())
	for _, k := range n.keys {
		f, known := fields[k.name]
		if !known {
			at := &node{src: k.value.src, line: k.line, col: k.col}
			d.errorf(at, path, "unknown key %s%s", quote(k.name), hint(k.name, names(into.Type())))
			continue
		}
		d.decode(join(path, k.name), k.value, into.FieldByIndex(f.Index))
	}
}

func hint(name string, known []string) string {
	if near := Closest(name, known); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ": known are " + strings.Join(known, ", ")
}

func (d *Document) decodeMap(path string, n *node, into reflect.Value) {
	if n.kind != mapping {
		d.errorf(n, path, "found %s, wanted a mapping", n.found())
		return
	}
	m := reflect.MakeMapWithSize(into.Type(), len(n.keys))
	for _, k := range n.keys {
		v := fresh(into.Type().Elem())
		d.decode(join(path, k.name), k.value, v)
		m.SetMapIndex(reflect.ValueOf(k.name).Convert(into.Type().Key()), v)
	}
	into.Set(m)
}

func (d *Document) decodeList(path string, n *node, into reflect.Value) {
	if n.kind != list {
		d.errorf(n, path, "found %s, wanted a list", n.found())
		return
	}
	if into.Kind() == reflect.Array {
		if len(n.items) != into.Len() {
			d.errorf(n, path, "found a list of %d, wanted one of %d", len(n.items), into.Len())
			return
		}
	} else {
		into.Set(reflect.MakeSlice(into.Type(), len(n.items), len(n.items)))
	}
	for i, item := range n.items {
		setDefaults(into.Index(i))
		if item.kind == null {
			d.errorf(item, index(path, i), "found nothing, wanted a value")
			continue
		}
		d.decode(index(path, i), item, into.Index(i))
	}
}

func (d *Document) decodeScalar(path string, n *node, into reflect.Value) {
	wrong := func(wanted string) { d.errorf(n, path, "found %s, wanted %s", n.found(), wanted) }
	switch kind := into.Kind(); kind {
	case reflect.String:
		switch {
		case n.kind == mapping && d.yaml:
			wrong("text: put it in quotes if it starts with a brace")
		case n.kind == text, d.yaml && (n.kind == number || n.kind == boolean):
			into.SetString(n.text)
		default:
			wrong("text")
		}
	case reflect.Bool:
		if n.kind != boolean {
			wrong("true or false")
			return
		}
		into.SetBool(strings.EqualFold(n.text, "true"))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v, err := strconv.ParseInt(n.text, 10, into.Type().Bits())
		if n.kind != number || err != nil {
			wrong(wholeNumber(err))
			return
		}
		into.SetInt(v)
	case reflect.Float32, reflect.Float64:
		v, err := strconv.ParseFloat(n.text, into.Type().Bits())
		if n.kind != number || err != nil || math.IsInf(v, 0) {
			wrong("a number")
			return
		}
		into.SetFloat(v)
	default: // a mistake in the program
		panic(fmt.Sprintf("strict: no way to read a %s into %s", n.kind, into.Type()))
	}
}

func wholeNumber(err error) string {
	if errors.Is(err, strconv.ErrRange) {
		return "a smaller number"
	}
	return "a whole number"
}

func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	setDefaults(v)
	return v
}

func setDefaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(Defaulter); ok {
		d.SetDefaults()
	}
}

// Duration is a time.Duration written as 500ms or 72h, never negative.
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return errors.New("a duration such as 500ms, 2s or 72h")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration without its zero units: 72h, not 72h0m0s.
func (d Duration) MarshalText() ([]byte, error) {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return []byte(s), nil
}
