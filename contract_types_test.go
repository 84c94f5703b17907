package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release/inbox"
)

// The schemas are written by hand, since they say more than the types do; what
// both say is the same.
func TestTheSchemasHaveTheFieldsOfThePayloads(t *testing.T) {
	t.Parallel()
	sameShape(t, "event", schema(t, "event.json"), reflect.TypeFor[mqtt.Event]())
	sameShape(t, "attributes", schema(t, "attributes.json"), reflect.TypeFor[mqtt.Attributes]())
	sameShape(t, "health", schema(t, "health.json"), reflect.TypeFor[mqtt.Health]())
	sameShape(t, "release", schema(t, "release.json"), reflect.TypeFor[mqtt.Release]())
	sameShape(t, "inbox.drops[]", schema(t, "inbox.json").Properties["drops"].Items.(*jsonschema.Schema), reflect.TypeFor[inbox.Result]())
}

// sameShape holds a schema against a Go type: the fields both ways, which may be
// absent, their types, and what is in lists and maps.
func sameShape(t *testing.T, at string, s *jsonschema.Schema, typ reflect.Type) {
	t.Helper()
	for s.Ref != nil {
		s = s.Ref
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := jsonType(typ)
	if s.Types == nil || !slices.Equal(s.Types.ToStrings(), []string{want}) {
		t.Errorf("%s: the schema has the type %v, the payload %s", at, s.Types, want)
		return
	}
	switch {
	case isTime(typ):
		if s.Format == nil || s.Format.Name != "date-time" {
			t.Errorf("%s: the schema has not the format date-time", at)
		}
	case typ.Kind() == reflect.Slice:
		sameShape(t, at+"[]", s.Items.(*jsonschema.Schema), typ.Elem())
	case typ.Kind() == reflect.Map:
		sameShape(t, at+"{}", s.AdditionalProperties.(*jsonschema.Schema), typ.Elem())
	case typ.Kind() == reflect.Struct:
		sameFields(t, at, s, typ)
	}
}

func sameFields(t *testing.T, at string, s *jsonschema.Schema, typ reflect.Type) {
	t.Helper()
	if open, ok := s.AdditionalProperties.(bool); !ok || !open {
		t.Errorf("%s: the schema doesn't say additionalProperties: true, so that a field may come", at)
	}
	fields := map[string]bool{}
	for i := range typ.NumField() {
		tag, tagged := typ.Field(i).Tag.Lookup("json")
		if !tagged {
			continue // not exported
		}
		name, option, _ := strings.Cut(tag, ",")
		fields[name] = true
		property := s.Properties[name]
		if property == nil {
			t.Errorf("%s.%s: the schema lacks it", at, name)
			continue
		}
		if may, must := option == "omitempty" || option == "omitzero", slices.Contains(s.Required, name); may == must {
			t.Errorf("%s.%s: required in the schema: %v; may be absent in the payload: %v", at, name, must, may)
		}
		sameShape(t, at+"."+name, property, typ.Field(i).Type)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !fields[name] {
			t.Errorf("%s.%s: the payload lacks it", at, name)
		}
	}
}

func isTime(typ reflect.Type) bool {
	return typ == reflect.TypeFor[time.Time]() || typ == reflect.TypeFor[mqtt.Time]()
}

func jsonType(typ reflect.Type) string {
	switch {
	case isTime(typ):
		return "string"
	case typ == reflect.TypeFor[mqtt.Millis]():
		return "number"
	case typ == reflect.TypeFor[json.RawMessage]():
		return "object"
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

func TestTheSchemasHaveTheWordsOfTheSource(t *testing.T) {
	t.Parallel()
	for file, words := range map[string][]string{
		"status.json":        {mqtt.Online, mqtt.Offline},
		"camera-status.json": {mqtt.Online, mqtt.Stalled, mqtt.Offline},
		"release-state.json": constants(t, "release/state.go", "State"),
	} {
		var have []string
		for _, v := range schema(t, file).Enum.Values {
			have = append(have, v.(string))
		}
		slices.Sort(have)
		slices.Sort(words)
		if !slices.Equal(have, words) {
			t.Errorf("%s has %q, the source %q", file, have, words)
		}
	}
	if typ := *schema(t, "event.json").Properties["type"].Const; typ != mqtt.EventType {
		t.Errorf("event.json has the type %v, the source %s", typ, mqtt.EventType)
	}
}

// constants are the texts of a file's constants of a type.
func constants(t *testing.T, file, typ string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if name, ok := v.Type.(*ast.Ident); !ok || name.Name != typ {
			return true
		}
		if literal, ok := v.Values[0].(*ast.BasicLit); ok {
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text)
		}
		return true
	})
	if len(all) == 0 {
		t.Fatalf("%s has no constants of type %s", file, typ)
	}
	return all
}
