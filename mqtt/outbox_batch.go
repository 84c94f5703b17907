package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A batch is what the store keeps under one key:
//
//	8 bytes  milliseconds since 1970 at which its last message was appended; 0: not known
//	zstd     with a checksum: last Seq, number of messages, and for each its id,
//	         topic and payload with their lengths, all numbers as uvarints
//
// Events are alike, so that compressed together they take a fraction of their
// size: of the disk, of its wear, and of the time that an outage can last.

const (
	batchHeader = 8
	// maxBatch bounds a batch before compression, but for a single large message.
	maxBatch = 256 << 10
	// maxBatchRead bounds it when it is read: a message and its topic, and maxBatch.
	maxBatchRead = 1 << 20
)

var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(maxBatch), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are wrong
	}
	return e
})

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBatchRead), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err)
	}
	return d
})

// maxSpan bounds the time between a batch's messages, which become old together.
const maxSpan = time.Minute

// portion is how many of the messages one batch takes.
func portion(messages []queued) int {
	size := int64(0)
	for i := range messages {
		size += messages[i].size()
		if i > 0 && (size > maxBatch || i == group || messages[i].added.Sub(messages[0].added) > maxSpan) {
			return i
		}
	}
	return len(messages)
}

// encodeBatch writes messages down. Where the time isn't known, none is noted.
func encodeBatch(messages []queued, known bool) []byte {
	last := messages[len(messages)-1]
	raw := make([]byte, 0, 4096)
	raw = binary.AppendUvarint(raw, last.Seq)
	raw = binary.AppendUvarint(raw, uint64(len(messages)))
	for _, m := range messages {
		for _, field := range [][]byte{[]byte(m.ID), []byte(m.Topic), m.Payload} {
			raw = binary.AppendUvarint(raw, uint64(len(field)))
			raw = append(raw, field...)
		}
	}
	added := int64(0)
	if known {
		added = last.added.UnixMilli()
	}
	value := binary.BigEndian.AppendUint64(make([]byte, 0, batchHeader+len(raw)/4), uint64(added))
	return encoder().EncodeAll(raw, value)
}

// batchAdded is when a batch's last message was appended.
func batchAdded(v []byte) time.Time {
	if len(v) < batchHeader {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(v)))
}

var errBatch = errors.New("a batch of events is damaged")

// decodeBatch reads a batch whose last message is last. What it returns shares
// no memory with v.
func decodeBatch(v []byte, last uint64) ([]Message, error) {
	if len(v) < batchHeader {
		return nil, errBatch
	}
	raw, err := decoder().DecodeAll(v[batchHeader:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBatch, err)
	}
	number := func() uint64 {
		x, n := binary.Uvarint(raw)
		if n <= 0 {
			err = errBatch
			return 0
		}
		raw = raw[n:]
		return x
	}
	field := func() []byte {
		n := number()
		if n > uint64(len(raw)) {
			err = errBatch
			return nil
		}
		f := raw[:n:n]
		raw = raw[n:]
		return f
	}
	seq, n := number(), number()
	if err != nil || seq != last || n == 0 || n > last || n > uint64(len(raw)) {
		return nil, errBatch
	}
	messages := make([]Message, n)
	for i := range messages {
		messages[i] = Message{
			Seq: last - n + uint64(i) + 1, ID: string(field()), Topic: string(field()), Payload: field(),
		}
	}
	if err != nil || len(raw) > 0 {
		return nil, errBatch
	}
	return messages, nil
}
