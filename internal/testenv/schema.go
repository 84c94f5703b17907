package testenv

import (
	"encoding"
	"encoding/json"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema compiles that of a file in docs/schemas.
func Schema(t testing.TB, file string) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	s, err := compiler.Compile(filepath.Join(Root(), "docs/schemas", file))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// SameShape holds the schema of what is published against its Go type: the fields
// both ways and whether they may be absent, their types, and what is in lists and
// maps. Every object has to be open to fields that come later.
func SameShape(t testing.TB, at string, s *jsonschema.Schema, typ reflect.Type) {
	t.Helper()
	sameShape(t, at, s, typ, true)
}

// SameArguments is SameShape for what is received, where what may be absent
// doesn't show in the type and a field that isn't known is an error.
func SameArguments(t testing.TB, at string, s *jsonschema.Schema, typ reflect.Type) {
	t.Helper()
	if open, ok := s.AdditionalProperties.(bool); !ok || open {
		t.Errorf("%s: the schema doesn't say additionalProperties: false", at)
	}
	sameShape(t, at, s, typ, false)
}

func sameShape(t testing.TB, at string, s *jsonschema.Schema, typ reflect.Type, published bool) {
	t.Helper()
	for s.Ref != nil {
		s = s.Ref
	}
	if typ == reflect.TypeFor[json.RawMessage]() {
		return // anything
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := jsonType(typ)
	if s.Types == nil || !slices.Contains(s.Types.ToStrings(), want) {
		t.Errorf("%s: the schema has the type %v, the payload %s", at, s.Types, want)
		return
	}
	switch {
	case isTime(typ):
		if s.Format == nil || s.Format.Name != "date-time" {
			t.Errorf("%s: the schema has not the format date-time", at)
		}
	case want == "array":
		sameShape(t, at+"[]", s.Items.(*jsonschema.Schema), typ.Elem(), published)
	case typ.Kind() == reflect.Map:
		sameShape(t, at+"{}", s.AdditionalProperties.(*jsonschema.Schema), typ.Elem(), published)
	case want == "object":
		sameFields(t, at, s, typ, published)
	}
}

func sameFields(t testing.TB, at string, s *jsonschema.Schema, typ reflect.Type, published bool) {
	t.Helper()
	if open, ok := s.AdditionalProperties.(bool); published && (!ok || !open) {
		t.Errorf("%s: the schema doesn't say additionalProperties: true, so that a field may come", at)
	}
	fields := map[string]bool{}
	for _, field := range reflect.VisibleFields(typ) {
		tag, tagged := field.Tag.Lookup("json")
		if !tagged {
			continue // not exported, or a struct whose fields follow
		}
		name, option, _ := strings.Cut(tag, ",")
		fields[name] = true
		property := s.Properties[name]
		if property == nil {
			t.Errorf("%s.%s: the schema lacks it", at, name)
			continue
		}
		may, must := option == "omitempty" || option == "omitzero", slices.Contains(s.Required, name)
		if published && may == must {
			t.Errorf("%s.%s: required in the schema: %v; may be absent in the payload: %v", at, name, must, may)
		}
		sameShape(t, at+"."+name, property, field.Type, published)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !fields[name] {
			t.Errorf("%s.%s: the payload lacks it", at, name)
		}
	}
}

// isTime is whether a type is a time, or wraps one to write it.
func isTime(typ reflect.Type) bool {
	if typ.Kind() == reflect.Struct && typ.NumField() == 1 {
		typ = typ.Field(0).Type
	}
	return typ == reflect.TypeFor[time.Time]()
}

// jsonType is what a type is written as.
func jsonType(typ reflect.Type) string {
	switch {
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()), typ == reflect.TypeFor[[]byte]():
		return "string"
	case typ.Implements(reflect.TypeFor[json.Marshaler]()):
		return "number" // a duration
	}
	switch typ.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	case reflect.Map, reflect.Struct:
		return "object"
	}
	return "integer"
}
