package strict

import (
	"reflect"
	"strings"
)

// fieldsOf are a struct's fields by their json names, those of embedded structs
// among them.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if name := nameOf(f); name != "" {
			fields[name] = f
		}
	}
	return fields
}

// names are the keys of a struct in the order of its fields.
func names(t reflect.Type) (all []string) {
	for _, f := range reflect.VisibleFields(t) {
		if name := nameOf(f); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// nameOf is empty for a field that no key sets.
func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" || !f.IsExported() {
		return ""
	}
	return name
}
