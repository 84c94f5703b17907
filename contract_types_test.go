package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release/inbox"
)

// The schemas are written by hand, since they say more than the types do; what
// both say is the same.
func TestTheSchemasHaveTheFieldsOfThePayloads(t *testing.T) {
	t.Parallel()
	testenv.SameShape(t, "event", testenv.Schema(t, "event.json"), reflect.TypeFor[mqtt.Event]())
	testenv.SameShape(t, "attributes", testenv.Schema(t, "attributes.json"), reflect.TypeFor[mqtt.Attributes]())
	testenv.SameShape(t, "health", testenv.Schema(t, "health.json"), reflect.TypeFor[mqtt.Health]())
	testenv.SameShape(t, "release", testenv.Schema(t, "release.json"), reflect.TypeFor[mqtt.Release]())
	testenv.SameShape(t, "reply", testenv.Schema(t, "command-reply.json"), reflect.TypeFor[mqtt.Reply]())
	testenv.SameShape(t, "inbox.drops[]", testenv.Schema(t, "inbox.json").Properties["drops"].Items.(*jsonschema.Schema), reflect.TypeFor[inbox.Result]())
}

func TestTheSchemasHaveTheWordsOfTheSource(t *testing.T) {
	t.Parallel()
	for file, words := range map[string][]string{
		"status.json":        {mqtt.Online, mqtt.Offline},
		"camera-status.json": {mqtt.Online, mqtt.Stalled, mqtt.Offline},
		"release-state.json": constants(t, "release/state.go", "State"),
	} {
		var have []string
		for _, v := range testenv.Schema(t, file).Enum.Values {
			have = append(have, v.(string))
		}
		slices.Sort(have)
		slices.Sort(words)
		if !slices.Equal(have, words) {
			t.Errorf("%s has %q, the source %q", file, have, words)
		}
	}
	if typ := *testenv.Schema(t, "event.json").Properties["type"].Const; typ != mqtt.EventType {
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
