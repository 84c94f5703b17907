package ort

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"github.com/sightd/sightd/internal/strict"

	"google.golang.org/protobuf/encoding/protowire"
)

// A stored engine is the optimised graph as an ordinary ONNX file with one more
// entry of metadata_props at its end, "sightd.engine". Its value is, in this
// order up to the file's last byte:
//
//	the description  JSON
//	its length       8 hexadecimal digits
//	CRC-32C          8 hexadecimal digits, over all bytes of the file before them
//
// ONNX Runtime doesn't notice a flipped bit in a weight, and runs an engine
// made for another processor or by another version with wrong answers or worse:
// so all this is checked before it gets the file.
const (
	descriptionKey = "sightd.engine"
	digits         = 8

	maxDescription = 64 << 10
	// maxStored is protobuf's limit, and so ONNX Runtime's for a whole model.
	maxStored = 1<<31 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is of a file that isn't as Build left it.
var errDamaged = errors.New("damaged, cut short, or no engine of sightd's: build it again")

// description is what Load must know of an engine before the library has it,
// or can't ask the library for without making a second session.
type description struct {
	Runtime  string `json:"runtime"`  // the Version that built it
	Features string `json:"features"` // the Features that it was built for
	Input    string `json:"input"`
	Batch    int    `json:"batch"` // 0: any
	Height   int    `json:"height"`
	Width    int    `json:"width"`
	Output   string `json:"output"`
	Classes  int    `json:"classes"`
	Ones     int    `json:"ones"` // dimensions of 1 behind the output's classes
}

// describe appends d and the checksum to the optimised graph at path, and syncs
// the file.
func describe(path string, d description) (err error) {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return strict.Bare(err)
	}
	defer func() {
		if e := file.Close(); err == nil {
			err = strict.Bare(e)
		}
	}()
	sum := crc32.New(castagnoli)
	size, err := io.Copy(sum, file)
	if err != nil {
		return strict.Bare(err)
	}
	value := fmt.Appendf(text, "%0*x%0*x", digits, len(text), digits, 0)
	tail := metadata(descriptionKey, value)
	if size += int64(len(tail)); size > maxStored {
		return fmt.Errorf("%d bytes: wanted at most %d", size, maxStored)
	}
	sum.Write(tail[:len(tail)-digits])
	tail = fmt.Appendf(tail[:len(tail)-digits], "%0*x", digits, sum.Sum32())
	if _, err := file.Write(tail); err != nil {
		return strict.Bare(err)
	}
	return strict.Bare(file.Sync())
}

// metadata is an encoded entry of a ModelProto's metadata_props.
func metadata(key string, value []byte) []byte {
	var entry []byte // StringStringEntryProto
	entry = protowire.AppendTag(entry, 1, protowire.BytesType)
	entry = protowire.AppendString(entry, key)
	entry = protowire.AppendTag(entry, 2, protowire.BytesType)
	entry = protowire.AppendBytes(entry, value)
	const metadataProps = 14
	return protowire.AppendBytes(protowire.AppendTag(nil, metadataProps, protowire.BytesType), entry)
}

// examine compares a stored engine's checksum and returns its description.
func examine(stored []byte) (d description, err error) {
	if len(stored) < 2*digits || len(stored) > maxStored {
		return d, errDamaged
	}
	rest, sum := cutEnd(stored, digits)
	if string(sum) != fmt.Sprintf("%0*x", digits, crc32.Checksum(rest, castagnoli)) {
		return d, errDamaged
	}
	rest, size := cutEnd(rest, digits)
	length, err := strconv.ParseInt(string(size), 16, 64)
	if err != nil || length < 0 || length > min(maxDescription, int64(len(rest))) {
		return d, errDamaged
	}
	_, text := cutEnd(rest, int(length))
	if err := json.Unmarshal(text, &d); err != nil || !d.sane() {
		return d, errDamaged
	}
	return d, nil
}

// cutEnd cuts the last n bytes off.
func cutEnd(b []byte, n int) (rest, end []byte) { return b[:len(b)-n], b[len(b)-n:] }

// sane tells whether the numbers are within what Build takes.
func (d description) sane() bool {
	return (d.Batch == 0 || fits(d.Batch)) && fits(d.Height) && fits(d.Width) && fits(d.Classes) && d.Ones >= 0 && d.Ones <= maxOnes
}

// fits tells whether a dimension is a fixed one, within what this package
// multiplies without a thought of overflow.
func fits[T int | int64](dimension T) bool { return dimension >= 1 && dimension <= maxDimension }

const (
	maxDimension = 1<<16 - 1
	maxOnes      = 8
)
