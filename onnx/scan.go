package onnx

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sightd/sightd/onnx/internal/pb"
)

const (
	// maxParts bounds the messages and strings in a model: each takes some 200
	// bytes in memory and may take but 2 in the file. Models of a thousand
	// nodes have some ten thousand.
	maxParts = 1 << 21
	// maxDepth bounds messages inside messages. A graph inside a graph is
	// three deeper.
	maxDepth = 32
)

// errCutShort is what scan's error wraps where the bytes end too early.
var errCutShort = errors.New("the model is cut short")

// scan walks a serialised ModelProto before it is unmarshalled, to see that it
// is whole and that it doesn't grow beyond all bounds in memory.
func scan(b []byte) error {
	s := scanner{whole: b}
	return s.message(b, (*pb.ModelProto)(nil).ProtoReflect().Descriptor(), 0)
}

type scanner struct {
	whole []byte
	parts int
}

func (s *scanner) message(b []byte, d protoreflect.MessageDescriptor, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("the model nests messages more than %d deep, such as a graph in a graph in a graph: "+
			"that is no classifier", maxDepth)
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return s.broken(b, depth, n)
		}
		b = b[n:]
		f := d.Fields().ByNumber(num)
		if depth == 0 && f == nil {
			return fmt.Errorf("not an ONNX model: it has a field %d, which no model has", num)
		}
		if typ == protowire.BytesType {
			size, m := protowire.ConsumeVarint(b)
			if m >= 0 && size > uint64(len(b)-m) {
				missing := size - uint64(len(b)-m)
				if missing > MaxSize {
					return fmt.Errorf("not an ONNX model: a field claims %d bytes", size)
				}
				return fmt.Errorf("%w: it has %d bytes and should have at least %d; copy or export it again",
					errCutShort, len(s.whole), uint64(len(s.whole))+missing)
			}
		}
		m := protowire.ConsumeFieldValue(num, typ, b)
		if m < 0 {
			return s.broken(b, depth, m)
		}
		value := b[:m]
		b = b[m:]
		if typ != protowire.BytesType || f == nil {
			continue
		}
		value, _ = protowire.ConsumeBytes(value)
		if f.Kind() != protoreflect.MessageKind && f.Kind() != protoreflect.StringKind && f.Kind() != protoreflect.BytesKind {
			continue // packed numbers
		}
		if s.parts++; s.parts > maxParts {
			return fmt.Errorf("the model has more than %d parts: that is no model of an image classifier", maxParts)
		}
		if f.Kind() == protoreflect.MessageKind {
			if err := s.message(value, f.Message(), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// broken explains what protowire couldn't parse at the beginning of rest.
func (s *scanner) broken(rest []byte, depth, code int) error {
	err := protowire.ParseError(code)
	if depth == 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in the middle of a field, after %d bytes; copy or export it again",
			errCutShort, len(s.whole))
	}
	// Every slice reaches to the end of the same array, so the rest tells where it starts.
	return fmt.Errorf("not an ONNX model, or a damaged one: at byte %d: %w", cap(s.whole)-cap(rest), err)
}
