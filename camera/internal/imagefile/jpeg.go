package imagefile

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// jpegHeader walks the markers from SOI to EOI, over the entropy-coded data of
// each scan.
func jpegHeader(b []byte) (w, h int, err error) {
	b = b[2:]
	scans := 0
	for {
		for len(b) > 1 && b[0] == 0xff && b[1] == 0xff { // fill bytes
			b = b[1:]
		}
		if len(b) < 2 {
			return w, h, errShort
		}
		if b[0] != 0xff {
			return w, h, fmt.Errorf("byte %#02x where a marker should be", b[0])
		}
		marker := b[1]
		b = b[2:]
		if marker == 0xd9 { // EOI
			if scans == 0 {
				return w, h, fmt.Errorf("it has no picture data")
			}
			return w, h, nil
		}
		if marker == 0x01 || marker >= 0xd0 && marker <= 0xd7 { // without a length
			continue
		}
		if len(b) < 2 {
			return w, h, errShort
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 2 {
			return w, h, fmt.Errorf("marker %#02x has a length of %d", marker, n)
		}
		if len(b) < n {
			return w, h, errShort
		}
		switch {
		case marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc: // SOF
			if n < 8 {
				return w, h, fmt.Errorf("frame header of %d bytes", n)
			}
			h, w = int(binary.BigEndian.Uint16(b[3:])), int(binary.BigEndian.Uint16(b[5:]))
		case marker == 0xda: // SOS
			scans++
			if b = entropy(b[n:]); b == nil {
				return w, h, errShort
			}
			continue
		}
		b = b[n:]
	}
}

// entropy skips a scan's data: it ends at the first marker that isn't a stuffed
// zero or a restart. nil: it doesn't end.
func entropy(b []byte) []byte {
	for {
		i := bytes.IndexByte(b, 0xff)
		if i < 0 || i+1 >= len(b) {
			return nil
		}
		if m := b[i+1]; m != 0 && m != 0xff && (m < 0xd0 || m > 0xd7) {
			return b[i:]
		}
		if b[i+1] == 0xff {
			b = b[i+1:]
			continue
		}
		b = b[i+2:]
	}
}
