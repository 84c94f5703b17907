package strict

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func overridden(file string, environ ...string) (*sample, error) {
	doc, err := YAML("f.yaml", []byte(file), 1<<16)
	if err != nil {
		return nil, err
	}
	s := &sample{Count: 3}
	doc.Override(environ, "X", []string{"X_OTHER"}, s, 1<<16)
	doc.Decode(s)
	return s, doc.Err()
}

func TestVariablesGoOverTheFile(t *testing.T) {
	t.Parallel()
	x := 9
	want := &sample{
		Name: "a: [b", Count: 4, Wait: 2e9, List: []string{"p", "q"},
		Items: []item{{"k", 7}, {"new", 8}}, Map: map[string]int{"m": 1},
	}
	want.Sub.X = &x
	got, err := overridden("name: file\ncount: 1\nitems: [{key: file}]\n",
		"X_NAME=a: [b", "X_COUNT=4", "X_WAIT=2s", "X_LIST=[p, q]", "X_MAP={m: 1}", "X_SUB_X=9",
		"X_ITEMS_0_KEY=k", "X_ITEMS_1_KEY=new", "X_ITEMS_1_SIZE=8", "X_OTHER=?", "HOME=/", "XNAME=no")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsOfVariables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ entry, want string }{
		{"X_COUTN=1", "X_COUTN: no key of the configuration has this name: did you mean X_COUNT?"},
		{"X_COUNT=many", `X_COUNT: count: found "many", wanted a whole number`},
		{"X_SUB={y: 1}", `X_SUB: sub: unknown key "y"`},
		{"X_LIST=[a", "X_LIST: 1:"},
		{"X_ITEMS_3_KEY=a", "X_ITEMS_3_KEY: items has 0 elements, number 3 isn't one of them (the first is 0)"},
	} {
		_, err := overridden("items: []", c.entry)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwanted %s", c.entry, err, c.want)
		}
	}
}
