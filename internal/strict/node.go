package strict

import (
	"fmt"
	"regexp"
)

// kind is what a node is, by the rules of YAML's core schema narrowed to what
// JSON can say too: no octal, no 0x, no "yes" for true.
type kind int

const (
	null kind = iota
	boolean
	number
	text
	list
	mapping
)

func (k kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "text", "a list", "a mapping"}[k]
}

// node is one value of a document and where it stands.
type node struct {
	kind  kind
	text  string // of a scalar, unquoted and unescaped
	items []*node
	keys  []key // in the order of the document, each name once

	src       *source
	line, col int // from 1; 0: the value has no place in a file
}

type key struct {
	name      string
	line, col int
	value     *node
}

// get is the value under name, nil when there is none.
func (n *node) get(name string) *node {
	for _, k := range n.keys {
		if k.name == name {
			return k.value
		}
	}
	return nil
}

// set puts v under name, over what is there.
func (n *node) set(name string, v *node) {
	for i, k := range n.keys {
		if k.name == name {
			n.keys[i].value = v
			return
		}
	}
	n.keys = append(n.keys, key{name: name, line: v.line, col: v.col, value: v})
}

// found is how an error names the node.
func (n *node) found() string {
	switch n.kind {
	case boolean, number:
		return n.text
	case text:
		return quote(n.text)
	}
	return n.kind.String()
}

var numberForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// plain is the kind of an unquoted scalar.
func plain(s string) kind {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return null
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return boolean
	}
	if numberForm.MatchString(s) {
		return number
	}
	return text
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
