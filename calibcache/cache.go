// Package calibcache reads and writes TensorRT's INT8 calibration caches,
// compares them, and checks them against the network that they are to be used
// with.
//
// A cache is a short text file: a header that says which TensorRT and which
// calibration algorithm made it, and one scale for each tensor. FORMAT.md
// describes it byte by byte. What [Parse] takes, [Cache.Bytes] gives back to
// the byte; everything else it refuses with a [SyntaxError] that says where
// and why.
//
// Before a cache is used, three questions: does TensorRT take it
// ([Header.CheckCalibrator]), does it name what the network needs, with values
// that can be right ([Check]), and what are its entries in the network
// ([Describe]). [Compare] tells what changed between two. [Decode] and
// [Cache.Encode] are for the other files that hold such scales.
//
// What is read from files is bounded and can't be made to panic. Nothing here
// runs a network, and a Cache isn't safe for concurrent changes.
package calibcache

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
)

// Limits of what Parse takes. The largest of the real caches that this was
// made with has 19 KB, 509 entries and names of up to 96 bytes.
const (
	MaxSize    = 16 << 20 // bytes
	MaxEntries = 100_000
	MaxName    = 4096 // bytes
)

// Cache is a calibration cache: the scales of a network's tensors.
type Cache struct {
	Header  Header
	Entries []Entry // in the file's order; no name twice

	unended bool // the file's last line has no line end
}

// Entry is the scale of one tensor.
type Entry struct {
	Name string
	Bits uint32 // of the scale, an IEEE 754 binary32

	// digits is how the file writes Bits, to write it the same way again. It is
	// not used where it says something else.
	digits string
}

// Scale is the step of the tensor's INT8 grid: value = scale × q, q in
// -127…127. In a file it can be anything, NaN too.
func (e Entry) Scale() float32 { return math.Float32frombits(e.Bits) }

// Range is the largest magnitude that the grid reaches: exactly 127 scales.
func (e Entry) Range() float64 { return float64(e.Scale()) * 127 }

func (e Entry) appendTo(b []byte) []byte {
	b = append(b, e.Name...)
	b = append(b, ": "...)
	if bits, err := parseBits(e.digits); err == nil && bits == e.Bits {
		return append(b, e.digits...)
	}
	return strconv.AppendUint(b, uint64(e.Bits), 16) // not padded: TensorRT writes "0" for 0
}

// Bytes is the cache as a file: the same bytes that Parse took, but for what
// was changed since.
func (c *Cache) Bytes() []byte {
	b := []byte(c.Header.String())
	for _, e := range c.Entries {
		b = e.appendTo(append(b, '\n'))
	}
	if c.unended {
		return b
	}
	return append(b, '\n')
}

// SyntaxError says why a file is no calibration cache, or not of another form.
type SyntaxError struct {
	Form   Form // that the file isn't; "" means FormCache
	Line   int  // counted from 1; 0 where the file as a whole is meant
	Reason string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("not %s: %s", e.Form.describe(), e.Reason)
	}
	return fmt.Sprintf("not %s: line %d: %s", e.Form.describe(), e.Line, e.Reason)
}

// Read reads and parses the cache in the file at path.
func Read(path string) (*Cache, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ReadForm reads the file at path, which is of the given form; of the one that
// its content tells, where that is "". Form and notes are as [Decode] has them.
func ReadForm(path string, f Form) (*Cache, Form, []string, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, "", nil, err
	}
	if f == "" {
		f = Detect(b)
	}
	c, notes, err := Decode(b, f)
	if err != nil {
		return nil, "", nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, f, notes, nil
}

// readFile reads a file, and of one that is too large only enough to see it.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}

// EntryOf makes the entry of a tensor with that scale.
func EntryOf(name string, scale float32) Entry {
	return Entry{Name: name, Bits: math.Float32bits(scale)}
}
