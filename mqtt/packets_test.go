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

// oversized is a PUBLISH of QoS 0 or 1 with so many bytes of payload.
func oversized(first byte, topic string, payload int) string {
	body := string([]byte{byte(len(topic) >> 8), byte(len(topic))}) + topic
	if first>>1&3 > 0 {
		body += "\x12\x34"
	}
	n := len(body) + payload
	return string([]byte{first, byte(n) | 0x80, byte(n>>7) | 0x80, byte(n>>14) | 0x80, byte(n >> 21)}) + body + strings.Repeat("x", payload)
}

func TestMessagesThatAreTooLargeAreLeftOut(t *testing.T) {
	t.Parallel()
	const connack, puback = "\x20\x02\x00\x00", "\x40\x02\x00\x01"
	const size = 3 << 20
	long := strings.Repeat("t", 65535)
	for _, tc := range []struct{ name, in, topic, reply, err string }{
		{"QoS 0", oversized(0x30, "a/b", size), "a/b", "", ""},
		{"QoS 1", oversized(0x32, "a/b", size), "a/b", "\x40\x02\x12\x34", ""},
		{"sent again", oversized(0x3a, "a/b", size), "a/b", "\x40\x02\x12\x34", ""},
		{"retained", oversized(0x33, "a/b", size), "a/b", "\x40\x02\x12\x34", ""},
		{"the longest topic", oversized(0x32, long, size), "", "\x40\x02\x12\x34", ""},
		{"no topic", oversized(0x32, "", size), "", "\x40\x02\x12\x34", ""},
		{"QoS 2, which nobody subscribed to", oversized(0x34, "a", size), "", "", "at most 262144"},
		{"another packet", "\x90" + oversized(0x30, "a", size)[1:], "", "", "at most 262144"},
		{"cut short", oversized(0x32, "a", size)[:size], "", "", "unexpected EOF"},
		{"cut in its topic", oversized(0x32, "abc", size)[:8], "", "", "unexpected EOF"},
		{"cut in its id", oversized(0x32, "abc", size)[:11], "", "", "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var reply strings.Builder
			told := 0
			p := &packetReader{r: bufio.NewReader(strings.NewReader(connack + tc.in + puback)), reply: &reply}
			if strings.HasPrefix(tc.name, "cut") {
				p.r = bufio.NewReader(strings.NewReader(connack + tc.in))
			}
			p.skipped = func(topic string, retained bool, payload int) {
				told++
				if topic != tc.topic || retained != (tc.name == "retained") || payload != size {
					t.Errorf("told of %q, retained %v, %d bytes", topic, retained, payload)
				}
			}
			got, err := io.ReadAll(p)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || told > 0 {
					t.Errorf("error %v, told %d times, want %q", err, told, tc.err)
				}
				return
			}
			if err != nil || string(got) != connack+puback || reply.String() != tc.reply || told != 1 {
				t.Errorf("passed on %q, replied %q, told %d times: %v", got, reply.String(), told, err)
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
		skips := &packetReader{r: bufio.NewReader(bytes.NewReader(b)), reply: io.Discard, skipped: func(string, bool, int) {}}
		if rest, err := io.ReadAll(skips); err == nil && len(rest) > len(b) {
			t.Errorf("%d of %d bytes passed on", len(rest), len(b))
		}
	})
}
