package strict

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parseYAML reads one YAML document. Anchors, aliases, tags and merge keys are
// refused: a specification has no use for them, and they are how a small file
// becomes a large one.
func parseYAML(src *source, data []byte) (n *node, err error) {
	defer func() { // the parser has panicked on odd input before
		if r := recover(); r != nil {
			n, err = nil, src.errorf(0, 0, "", "not YAML: %v", r)
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if err := checkTokens(src, tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil {
			p := at.GetToken().Position
			return nil, src.errorf(p.Line, p.Column, "", "%s", at.GetMessage())
		}
		return nil, src.errorf(0, 0, "", "not YAML: %v", err)
	}
	if len(file.Docs) > 1 {
		p := file.Docs[1].GetToken()
		if p == nil {
			return nil, src.errorf(0, 0, "", "found %d documents, wanted one", len(file.Docs))
		}
		return nil, src.errorf(p.Position.Line, p.Position.Column, "", "found %d documents, wanted one", len(file.Docs))
	}
	empty := &node{kind: null, src: src}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return empty, nil
	}
	if _, onlyComments := file.Docs[0].Body.(*ast.CommentGroupNode); onlyComments {
		return empty, nil
	}
	return fromYAML(src, file.Docs[0].Body, 0)
}

// checkTokens refuses what the parser would spend more than linear time on.
func checkTokens(src *source, tokens token.Tokens) error {
	flow, block, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, block = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			block++
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType:
			return src.errorf(t.Position.Line, t.Position.Column, "",
				"anchors, aliases, tags and merge keys are not read here: write the value out, or put it in quotes if it is text")
		}
		if flow > maxDepth || block > maxDepth {
			return src.errorf(t.Position.Line, t.Position.Column, "", "nested more than %d deep", maxDepth)
		}
	}
	return nil
}

func fromYAML(src *source, from ast.Node, depth int) (*node, error) {
	at := from.GetToken().Position
	n := &node{src: src, line: at.Line, col: at.Column}
	if depth > maxDepth {
		return nil, src.errorf(n.line, n.col, "", "nested more than %d deep", maxDepth)
	}
	switch v := from.(type) {
	case *ast.MappingNode:
		if err := n.addYAML(v.Values, depth); err != nil {
			return nil, err
		}
		if len(n.keys) > 0 && !v.IsFlowStyle { // the token of a block mapping is its first colon
			n.line, n.col = n.keys[0].line, n.keys[0].col
		}
	case *ast.MappingValueNode:
		if err := n.addYAML([]*ast.MappingValueNode{v}, depth); err != nil {
			return nil, err
		}
		n.line, n.col = n.keys[0].line, n.keys[0].col
	case *ast.SequenceNode:
		n.kind = list
		for _, item := range v.Values {
			child, err := fromYAML(src, item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, child)
		}
	case *ast.LiteralNode:
		n.kind, n.text = text, v.Value.Value
	case *ast.StringNode:
		n.text = v.Value
		n.kind = text
		if v.Token.Type != token.SingleQuoteType && v.Token.Type != token.DoubleQuoteType {
			n.kind = plain(v.Value)
		}
	case ast.ScalarNode:
		n.text = v.GetToken().Value
		n.kind = plain(n.text)
		if v.Type() == ast.NullType {
			n.kind = null
		}
	default:
		return nil, src.errorf(n.line, n.col, "", "%s is not read here", from.Type().YAMLName())
	}
	return n, nil
}

func (n *node) addYAML(values []*ast.MappingValueNode, depth int) error {
	n.kind = mapping
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		at := v.Key.GetToken().Position
		scalar, ok := v.Key.(ast.ScalarNode)
		if !ok {
			return n.src.errorf(at.Line, at.Column, "", "found %s as a key, wanted a name", v.Key.Type().YAMLName())
		}
		name := fmt.Sprint(scalar.GetToken().Value)
		if seen[name] {
			return n.src.errorf(at.Line, at.Column, "", "the key %s stands here twice", quote(name))
		}
		seen[name] = true
		child, err := fromYAML(n.src, v.Value, depth+1)
		if err != nil {
			return err
		}
		n.keys = append(n.keys, key{name: name, line: at.Line, col: at.Column, value: child})
	}
	return nil
}
