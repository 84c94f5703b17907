package strict

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Name  string         `json:"name"`
	Count int            `json:"count"`
	Small int8           `json:"small"`
	Share float64        `json:"share"`
	On    bool           `json:"on"`
	Wait  Duration       `json:"wait"`
	List  []string       `json:"list"`
	Box   [2]int         `json:"box"`
	Items []item         `json:"items"`
	Map   map[string]int `json:"map"`
	Sub   struct {
		X *int `json:"x"`
	} `json:"sub"`
}

type item struct {
	Key  string `json:"key"`
	Size int    `json:"size"`
}

func (i *item) SetDefaults() { i.Size = 7 }

func decodeYAML(text string) (*sample, error) {
	doc, err := YAML("f.yaml", []byte(text), 1<<16)
	if err != nil {
		return nil, err
	}
	s := &sample{Count: 3, List: []string{"default"}}
	doc.Decode(s)
	return s, doc.Err()
}

func decodeJSON(text string) (*sample, error) {
	doc, err := JSON("f.json", []byte(text), 1<<16)
	if err != nil {
		return nil, err
	}
	s := &sample{Count: 3, List: []string{"default"}}
	doc.Decode(s)
	return s, doc.Err()
}

func TestValuesGoOverDefaults(t *testing.T) {
	t.Parallel()
	x := 5
	want := &sample{
		Name: "007", Count: 3, Small: -4, Share: 1e-3, On: true, Wait: 1500e6,
		List: []string{"a", "true", "3"}, Box: [2]int{1, 2},
		Items: []item{{"k", 7}, {"l", 1}}, Map: map[string]int{"one": 1},
	}
	want.Sub.X = &x
	got, err := decodeYAML(`
name: 007       # text may look like a number
count:          # nothing keeps the default
small: -4
share: 1e-3
on: true
wait: 1.5s
list: [a, true, "3"]
box: [1, 2]
items:
  - key: k
  - {key: l, size: 1}
map: {one: 1}
sub:
  x: 5
`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got, err = decodeJSON(`{"name": "007", "small": -4, "share": 1e-3, "on": true, "wait": "1.5s", "list": ["a", "true", "3"],
		"box": [1, 2], "items": [{"key": "k"}, {"key": "l", "size": 1}], "map": {"one": 1}, "sub": {"x": 5}}`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyDocumentsAreTheDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "\ufeff# a mark\n", "{}"} {
		s, err := decodeYAML(text)
		if err != nil || s.Count != 3 || s.List[0] != "default" {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

func TestFaultsOfYAML(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"name: a\ncuont: 4", "f.yaml:2:1: unknown key \"cuont\": did you mean \"count\"?\n     2 | cuont: 4\n       | ^"},
		{"zzzzzzzzz: 1", `unknown key "zzzzzzzzz": known are name, count,`},
		{"count: 1.5", `f.yaml:1:8: count: found 1.5, wanted a whole number`},
		{"count: \"3\"", `count: found "3", wanted a whole number`},
		{"count: 0x10", `count: found "0x10", wanted a whole number`},
		{"count: 1_000", `count: found "1_000", wanted a whole number`},
		{"small: 200", `small: found 200, wanted a smaller number`},
		{"share: much", `share: found "much", wanted a number`},
		{"share: .nan", `share: found ".nan", wanted a number`},
		{"share: 1e999", `share: found 1e999, wanted a number`},
		{"on: yes", `on: found "yes", wanted true or false`},
		{"wait: 5", `wait: found 5, wanted a duration such as 500ms, 2s or 72h`},
		{"wait: -5s", `wanted a duration`},
		{"wait: [1]", `wait: found a list, wanted one value`},
		{"name: [a]", `name: found a list, wanted text`},
		{"name: {hostname}", `name: found a mapping, wanted text: put it in quotes if it starts with a brace`},
		{"list: a", `list: found "a", wanted a list`},
		{"list: [a, null]", `list[1]: found nothing, wanted a value`},
		{"box: [1]", `box: found a list of 1, wanted one of 2`},
		{"items: [{key: a}, {kay: b}]", `f.yaml:1:20: items[1]: unknown key "kay": did you mean "key"?`},
		{"items:\n  - key: a\n    size: b", `f.yaml:3:11: items[0].size: found "b", wanted a whole number`},
		{"map: {a: b}", `map.a: found "b", wanted a whole number`},
		{"sub: 3", `sub: found 3, wanted a mapping`},
		{"- a", `f.yaml:1:1: found a list, wanted a mapping`},
		{"name: a\nname: b", `f.yaml:2:1: mapping key "name" already defined`},
		{"1: x", `unknown key "1"`},
		{"[a]: x", `f.yaml:1:4: found an invalid key`},
		{"name: &a b", `f.yaml:1:7: anchors, aliases, tags and merge keys are not read here`},
		{"name: *a", `anchors, aliases, tags`},
		{"name: !!str b", `anchors, aliases, tags`},
		{"<<: {name: a}", `anchors, aliases, tags`},
		{"name: a\n---\nname: b", `found 2 documents, wanted one`},
		{"name: [a", `f.yaml:1:`},
		{"a:\n\t- b", `f.yaml:2:1: found character`},
		{"name: \"\xff\"", `f.yaml:1:8: not text in UTF-8`},
		{"name: \x00", `f.yaml:1:7: not text in UTF-8`},
		{strings.Repeat("[", 1000), `nested more than 32 deep`},
		{strings.Repeat("- ", 1000), `nested more than 32 deep`},
		{strings.Repeat("x", 1<<16+1), `f.yaml: larger than 64 KiB`},
		{"name: a\r\ncount: b\r\n", "f.yaml:2:8: count: found \"b\", wanted a whole number\n     2 | count: b\n       |        ^"},
	} {
		wantError(t, decodeYAML, c.text, c.want)
	}
}

func TestFaultsOfJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{`{"count": 1, "count": 2}`, `f.json:1:14: the key "count" stands here twice`},
		{`{"Count": 1}`, `f.json:1:2: unknown key "Count": did you mean "count"?`},
		{"{\"count\":\n  \"1\"}", `f.json:2:3: count: found "1", wanted a whole number`},
		{`{"name": 1}`, `name: found 1, wanted text`},
		{`{"count": null}`, `f.json:1:11: found null: leave the field out instead`},
		{`{"count": 1} {}`, `f.json:1:14: something follows the JSON value`},
		{`{"count": 1`, `f.json:1:12: the JSON ends too early`},
		{``, `f.json:1:1: the JSON ends too early`},
		{`{"count": 01}`, `not JSON`},
		{`{count: 1}`, `f.json:1:2: not JSON`},
		{`{"list": ["a",]}`, `not JSON`},
		{`{"list": ["a"}`, `not JSON`},
		{`[]`, `found a list, wanted a mapping`},
		{"{\"name\": \"\xff\"}", `f.json:1:11: not text in UTF-8`},
		{strings.Repeat("[", 1000), `nested more than 32 deep`},
	} {
		wantError(t, decodeJSON, c.text, c.want)
	}
}

func wantError(t *testing.T, decode func(string) (*sample, error), text, want string) {
	t.Helper()
	_, err := decode(text)
	if err == nil {
		t.Errorf("%.60q is taken, wanted an error with %q", text, want)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("%.60q:\n%v\nwanted an error with\n%s", text, err, want)
	}
}

func TestAllFaultsAreReportedInTheirOrder(t *testing.T) {
	t.Parallel()
	doc, err := YAML("f.yaml", []byte("count: a\nsmall: b\nshare: 2\n"), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	doc.Decode(&s)
	doc.Errorf("share", "found %v, wanted less", s.Share)
	doc.Errorf("items[3].key", "missing") // at the nearest thing there is
	got := doc.Err().Error()
	at := -1
	for _, want := range []string{"f.yaml:1:1: items[3].key: missing", "f.yaml:1:8: count:", "f.yaml:2:8: small:", "f.yaml:3:8: share: found 2, wanted less"} {
		i := strings.Index(got, want)
		if i <= at {
			t.Errorf("%s\nlacks %s, or has it too early", got, want)
		}
		at = i
	}
}

func TestControlCharactersAreKeptOffTerminals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Zürich 12 °C, naïve": "Zürich 12 °C, naïve",
		"a\tb":                "a b",
		"a\x1b[2Jb\r\nc\x7f":  "a?[2Jb??c?",
		"\u009b2J":            "?2J", // as ESC [
		"a\u202eb\u2066":      "a?b?",
		"not UTF-8 \xff\xfe":  "not UTF-8 ??",
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
		if err := Plain(text); (err == nil) != (text == want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPasswordsOfURLsAreMasked(t *testing.T) {
	t.Parallel()
	_, err := decodeYAML("wait: rtsp://user:s3cret@host/x")
	if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Count(err.Error(), "rtsp://user:***@host/x") != 2 {
		t.Error(err)
	}
	for _, c := range [][2]string{
		{"mqtts://u:p@ss@h:1", "mqtts://u:***@h:1"},
		{"mqtts://:p@h", "mqtts://:***@h"},
		{"http://host:80/a@b", "http://host:80/a@b"},
		{"rtspsrc location=rtsp://a:b@c ! x", "rtspsrc location=rtsp://a:***@c ! x"},
	} {
		if got := Mask(c[0]); got != c[1] {
			t.Errorf("%s becomes %s, wanted %s", c[0], got, c[1])
		}
	}
}

func TestDurationsAreWrittenShort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"72h0m0s": "72h", "500ms": "500ms", "5m": "5m", "0s": "0s", "1h30m": "1h30m", "90s": "1m30s", "10s": "10s", "20m": "20m"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Error(err)
		}
		if got, _ := d.MarshalText(); string(got) != want {
			t.Errorf("%s is written %s, wanted %s", text, got, want)
		}
	}
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{"name: a\nitems:\n  - key: b\n", "{a: [b, {c: d}]}", "a: |\n  b\n", "? a\n: b", "a: &b c", "a: 'b''c'\n\"d\\u00e9\": 1e3", "- - -", ": :", "[", "#"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzz(t, data, YAML) })
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"name": "a", "items": [{"key": "b"}]}`, `{"box": [1, 2]}`, `{`, `[[[`, `{"a": {"b": null}}`, `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzz(t, data, JSON) })
}

// fuzz holds a parser to its promise: no panic, and an error that can be shown.
func fuzz(t *testing.T, data []byte, parse func(string, []byte, int) (*Document, error)) {
	doc, err := parse("f", data, 1<<14)
	if err == nil {
		var s sample
		doc.Decode(&s)
		doc.Errorf("items[0].key", "x")
		err = doc.Err()
	}
	if err == nil || err.Error() == "" {
		t.Fatal("no error")
	}
}
