package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestPacketReader(t *testing.T) {
	t.Parallel()
	connack := "\x20\x02\x00\x00"
	for _, tc := range []struct{ name, in, out, err string }{
		{"a session", connack + "\x40\x02\x00\x01\xd0\x00", connack + "\x40\x02\x00\x01\xd0\x00", ""},
		{"a long packet", connack + "\x30\x80\x01" + strings.Repeat("x", 128), connack + "\x30\x80\x01" + strings.Repeat("x", 128), ""},
		{"a web server", "HTTP/1.1 400 Bad Request\r\n", "", "HTTP"},
		{"TLS", "\x15\x03\x01\x00\x02\x02\x46", "", "mqtts://"},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", "", "SSH"},
		{"something else", "220 mail\r\n", "", `answers with "220`},
		{"one byte of something else", "?", "", `"?"`},
		{"a packet of 256 MB", connack + "\x30\xff\xff\xff\x7f", connack, "268435455 bytes: at most 262144"},
		{"a length without end", connack + "\x30\xff\xff\xff\xff\x01", connack, "more than 4 bytes"},
		{"cut short", connack + "\x30", connack, "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, one := range []bool{false, true} {
				var in io.Reader = strings.NewReader(tc.in)
				if one {
					in = iotest.OneByteReader(in)
				}
				got, err := io.ReadAll(&packetReader{r: bufio.NewReader(in)})
				if string(got) != tc.out {
					t.Errorf("passed on %q, want %q", got, tc.out)
				}
				if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error is %v, want %q", err, tc.err)
				}
			}
		})
	}
}

func FuzzPacketReader(f *testing.F) {
	f.Add([]byte("\x20\x02\x00\x00\x40\x02\x00\x01"))
	f.Add([]byte("HTTP/1.1 400 Bad Request"))
	f.Add([]byte("\x20\x02\x00\x00\x30\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := io.ReadAll(&packetReader{r: bufio.NewReader(bytes.NewReader(b))})
		if !bytes.HasPrefix(b, got) {
			t.Errorf("%q is passed on as %q", b, got)
		}
		if err == nil && len(got) != len(b) {
			t.Errorf("%d of %d bytes passed on, without an error", len(got), len(b))
		}
		if errors.Is(err, errNotMQTT) && len(err.Error()) > 250 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	})
}
