package calibcache

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"

	flatbuffers "github.com/google/flatbuffers/go"
)

// ONNX Runtime's schema, whose values are ranges in decimal:
//
//	table KeyValue { key: string; value: string; }
//	table TrtTable { dict: [KeyValue]; }
//	root_type TrtTable;
//
// These are the offsets of the fields in their tables' vtables.
const (
	fieldDict  = 4
	fieldKey   = 4
	fieldValue = 6
)

func (c *Cache) flatbuffers() []byte {
	b := flatbuffers.NewBuilder(64 * (1 + len(c.Entries)))
	var pairs []flatbuffers.UOffsetT
	for _, e := range c.Entries {
		key, value := b.CreateString(e.Name), b.CreateString(number(e.Range()))
		b.StartObject(2)
		b.PrependUOffsetTSlot(0, key, 0)
		b.PrependUOffsetTSlot(1, value, 0)
		pairs = append(pairs, b.EndObject())
	}
	dict := b.CreateVectorOfTables(pairs)
	b.StartObject(1)
	b.PrependUOffsetTSlot(0, dict, 0)
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}

// flatbuffers reads a file of that schema. The library follows offsets without
// looking where they lead and panics where that is outside of the file; within
// it, nothing bad can come of a wrong one.
func (t *table) flatbuffers(b []byte) (err error) {
	defer func() {
		panicked := recover()
		if _, ofBounds := panicked.(runtime.Error); ofBounds {
			err = t.errorf(0, "an offset leads out of the file: it is damaged, cut off or something else")
		} else if panicked != nil {
			panic(panicked)
		}
	}()
	root := flatbuffers.Table{Bytes: b, Pos: flatbuffers.GetUOffsetT(b)}
	at := flatbuffers.UOffsetT(root.Offset(fieldDict))
	if at == 0 {
		return t.errorf(0, "it has no dictionary")
	}
	n := root.VectorLen(at)
	if n > MaxEntries {
		return t.errorf(0, "more than %d tensors, the most that is taken", MaxEntries)
	}
	start := root.Vector(at)
	for i := range n {
		pair := flatbuffers.Table{Bytes: b, Pos: root.Indirect(start + flatbuffers.UOffsetT(i)*flatbuffers.SizeUOffsetT)}
		name, err := stringOf(pair, fieldKey, MaxName)
		if err != nil {
			return t.errorf(0, "name of tensor %d: %v", i+1, err)
		}
		const longest = 64 // of a number
		value, err := stringOf(pair, fieldValue, longest)
		if err != nil {
			return t.errorf(0, "range of tensor %.200q: %v", name, err)
		}
		reach, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return t.errorf(0, "tensor %.200q: %.32q is no number", name, value)
		}
		if err := t.addRange(0, name, reach); err != nil {
			return err
		}
	}
	return nil
}

// stringOf is a string field of a table.
func stringOf(table flatbuffers.Table, field flatbuffers.VOffsetT, longest int) (string, error) {
	at := flatbuffers.UOffsetT(table.Offset(field))
	if at == 0 {
		return "", errors.New("is not there")
	}
	b := table.ByteVector(at + table.Pos)
	if len(b) > longest {
		return "", fmt.Errorf("has %d bytes, at most %d are taken", len(b), longest)
	}
	return string(b), nil
}
