package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// parseJSON reads one JSON value. encoding/json alone would take a key twice
// and in any case of letters.
func parseJSON(src *source, data []byte) (*node, error) {
	p := jsonParser{src: src, data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if line, col := p.next(); len(bytes.TrimLeft(data[p.dec.InputOffset():], " \t\r\n")) > 0 {
		return nil, src.errorf(line, col, "", "something follows the JSON value")
	}
	return n, nil
}

type jsonParser struct {
	src  *source
	data []byte
	dec  *json.Decoder

	offset, line, col int // of the last position asked for; line from 0, column in bytes
}

// next is the line and column of the token that comes next.
func (p *jsonParser) next() (line, col int) {
	to := int(p.dec.InputOffset())
	for to < len(p.data) && bytes.IndexByte([]byte(" \t\r\n,:"), p.data[to]) >= 0 {
		to++
	}
	return p.position(to)
}

func (p *jsonParser) position(to int) (line, col int) {
	for ; p.offset < to && p.offset < len(p.data); p.offset++ {
		p.col++
		if p.data[p.offset] == '\n' {
			p.line, p.col = p.line+1, 0
		}
	}
	return p.line + 1, p.col + 1
}

func (p *jsonParser) token() (json.Token, error) {
	t, err := p.dec.Token()
	if err == nil {
		return t, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		line, col := p.position(len(p.data))
		return nil, p.src.errorf(line, col, "", "the JSON ends too early")
	}
	line, col := p.next()
	return nil, p.src.errorf(line, col, "", "not JSON: %v", err)
}

func (p *jsonParser) value(depth int) (*node, error) {
	n := &node{src: p.src}
	n.line, n.col = p.next()
	if depth > maxDepth {
		return nil, p.src.errorf(n.line, n.col, "", "nested more than %d deep", maxDepth)
	}
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case nil:
		return nil, p.src.errorf(n.line, n.col, "", "found null: leave the field out instead")
	case bool:
		n.kind, n.text = boolean, "false"
		if t {
			n.text = "true"
		}
	case json.Number:
		n.kind, n.text = number, t.String()
	case string:
		n.kind, n.text = text, t
	case json.Delim:
		if t == '[' {
			n.kind = list
			err = p.list(n, depth)
		} else {
			n.kind = mapping
			err = p.object(n, depth)
		}
		if err != nil {
			return nil, err
		}
		if _, err := p.token(); err != nil { // the closing bracket
			return nil, err
		}
	}
	return n, nil
}

func (p *jsonParser) list(n *node, depth int) error {
	for p.dec.More() {
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	return nil
}

func (p *jsonParser) object(n *node, depth int) error {
	seen := map[string]bool{} // an object of files is long
	for p.dec.More() {
		line, col := p.next()
		t, err := p.token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return p.src.errorf(line, col, "", "found %v as a key, wanted text", t)
		}
		if seen[name] {
			return p.src.errorf(line, col, "", "the key %s stands here twice", quote(name))
		}
		seen[name] = true
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.keys = append(n.keys, key{name: name, line: line, col: col, value: v})
	}
	return nil
}
