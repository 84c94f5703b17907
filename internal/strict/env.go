package strict

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Override sets what environment variables say over the document, before it is
// decoded into a struct of into's type. A variable is named after its path,
// PREFIX_MQTT_OUTBOX_MAX_AGE or PREFIX_CAMERAS_0_SOURCE. Its value is YAML, so
// that lists can be given, but is taken as it is where text is wanted. Each
// element of environ is NAME=VALUE; those that don't start with prefix and an
// underscore are passed over, as are the names in others.
func (d *Document) Override(environ []string, prefix string, others []string, into any, limit int) {
	known := append(variables(prefix, reflect.TypeOf(into).Elem()), others...)
next:
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(name, prefix+"_")
		for _, other := range others {
			if name == other {
				continue next
			}
		}
		if !ours {
			continue
		}
		src := &source{name: name}
		path, t := resolve(reflect.TypeOf(into).Elem(), rest)
		if t == nil {
			why := ""
			if near := Closest(name, known); near != "" {
				why = ": did you mean " + near + "?"
			}
			d.errorf(&node{src: src}, "", "no key of the configuration has this name%s", why)
			continue
		}
		v := &node{kind: text, text: value, src: src}
		if t.Kind() != reflect.String {
			parsed, err := read(name, []byte(value), limit, parseYAML, true)
			if err != nil {
				d.errorf(&node{src: src}, "", "%v", strings.TrimPrefix(err.Error(), name+":"))
				continue
			}
			v = parsed.root
			v.unplace(src)
		}
		d.root.put(d, path, v)
	}
}

// unplace takes line numbers away: a variable has none.
func (n *node) unplace(src *source) {
	n.src, n.line, n.col = src, 0, 0
	for i := range n.keys {
		n.keys[i].line, n.keys[i].col = 0, 0
		n.keys[i].value.unplace(src)
	}
	for _, item := range n.items {
		item.unplace(src)
	}
}

// put sets the value at path, making the mappings on the way. A list has to be
// there already.
func (n *node) put(d *Document, path []string, v *node) {
	for i, name := range path {
		last := i == len(path)-1
		if at, err := strconv.Atoi(name); err == nil && n.kind != mapping {
			if n.kind != list || at > len(n.items) {
				d.errorf(&node{src: v.src}, "", "%s has %d elements, number %d isn't one of them (the first is 0)",
					strings.Join(path[:i], "."), len(n.items), at)
				return
			}
			if at == len(n.items) {
				n.items = append(n.items, &node{kind: mapping, src: v.src})
			}
			if last {
				n.items[at] = v
			}
			n = n.items[at]
			continue
		}
		if n.kind == null {
			n.kind = mapping
		}
		if n.kind != mapping { // decoding says what is wrong with it
			return
		}
		if last {
			n.set(name, v)
			return
		}
		child := n.get(name)
		if child == nil {
			child = &node{kind: null, src: v.src}
			n.set(name, child)
		}
		n = child
	}
}

// resolve finds the path of keys that an upper-case name stands for, and the
// type of what is there; nil when there is none.
func resolve(t reflect.Type, name string) ([]string, reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			key := nameOf(f)
			upper := strings.ToUpper(key)
			if key == "" {
				continue
			}
			if name == upper {
				return []string{key}, f.Type
			}
			if rest, ok := strings.CutPrefix(name, upper+"_"); ok {
				if path, t := resolve(f.Type, rest); t != nil {
					return append([]string{key}, path...), t
				}
			}
		}
	case reflect.Slice:
		number, rest, more := strings.Cut(name, "_")
		if _, err := strconv.ParseUint(number, 10, 16); err != nil {
			return nil, nil
		}
		if !more {
			return []string{number}, t.Elem()
		}
		if path, t := resolve(t.Elem(), rest); t != nil {
			return append([]string{number}, path...), t
		}
	}
	return nil, nil
}

// variables are the names of all variables, lists taken whole.
func variables(prefix string, t reflect.Type) (all []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		key := nameOf(f)
		if key == "" {
			continue
		}
		name := fmt.Sprintf("%s_%s", prefix, strings.ToUpper(key))
		all = append(all, name)
		all = append(all, variables(name, f.Type)...)
	}
	return all
}
