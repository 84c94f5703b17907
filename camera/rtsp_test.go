package camera

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rtspServer is just enough of an RTSP server to be a camera: raw video
// (RFC 4175) over the TCP connection, with a user and a password.
type rtspServer struct {
	listener net.Listener
	auth     string
	stopped  atomic.Bool // sends no more frames, and keeps the connection
	done     sync.WaitGroup
	quit     chan struct{}
}

const rtspWidth, rtspHeight = 64, 48

func serveRTSP(t *testing.T, user, password string) *rtspServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rtspServer{
		listener: listener, quit: make(chan struct{}),
		auth: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)),
	}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.done.Add(1)
			go func() {
				defer s.done.Done()
				s.serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		close(s.quit)
		s.done.Wait()
	})
	return s
}

func (s *rtspServer) serve(conn net.Conn) {
	defer conn.Close()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-s.quit:
			conn.Close()
		case <-over:
		}
	}()
	in := textproto.NewReader(bufio.NewReader(conn))
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		head, err := in.ReadMIMEHeader()
		if err != nil {
			return
		}
		method, _, _ := strings.Cut(line, " ")
		status, headers, body := "200 OK", "", ""
		switch {
		case method == "OPTIONS":
			headers = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
		case head.Get("Authorization") != s.auth:
			status, headers = "401 Unauthorized", "WWW-Authenticate: Basic realm=\"camera\"\r\n"
		case method == "DESCRIBE":
			headers = "Content-Type: application/sdp\r\n"
			body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 raw/90000\r\n" +
				fmt.Sprintf("a=fmtp:96 sampling=YCbCr-4:2:2; width=%d; height=%d; depth=8; colorimetry=BT601-5\r\n", rtspWidth, rtspHeight) +
				"a=framerate:25\r\na=control:0\r\n"
		case method == "SETUP":
			headers = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
		default:
			headers = "Session: 1\r\n"
		}
		fmt.Fprintf(conn, "RTSP/1.0 %s\r\nCSeq: %s\r\n%sContent-Length: %d\r\n\r\n%s", status, head.Get("CSeq"), headers, len(body), body)
		if method == "PLAY" {
			s.play(conn)
			return
		}
	}
}

// play sends grey frames, a packet a row, until the connection breaks.
func (s *rtspServer) play(conn net.Conn) {
	seq := uint16(0)
	for frame := uint32(0); ; frame++ {
		for y := 0; y < rtspHeight && !s.stopped.Load(); y++ {
			marker := byte(0)
			if y == rtspHeight-1 {
				marker = 0x80
			}
			p := []byte{0x80, 96 | marker}
			p = binary.BigEndian.AppendUint16(p, seq)
			p = binary.BigEndian.AppendUint32(p, frame*3600)
			p = append(p, 0, 0, 0, 9, 0, 0) // source, high half of the sequence
			p = binary.BigEndian.AppendUint16(p, 2*rtspWidth)
			p = binary.BigEndian.AppendUint16(p, uint16(y))
			p = append(p, 0, 0)
			for range rtspWidth {
				p = append(p, 128, 126) // U or V, Y
			}
			seq++
			packet := append([]byte{'$', 0, 0, 0}, p...)
			binary.BigEndian.PutUint16(packet[2:], uint16(len(p)))
			if _, err := conn.Write(packet); err != nil {
				return
			}
		}
		select {
		case <-s.quit:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *rtspServer) url(userinfo string) string {
	return fmt.Sprintf("rtsp://%s@%s/stream", userinfo, s.listener.Addr())
}

func TestRTSP(t *testing.T) {
	t.Parallel()
	s := serveRTSP(t, "user", "s3cret!")
	var log lines
	c := open(t, Options{Source: s.url("user:s3cret%21"), Stall: time.Second, Log: log.logger()})
	c.delays = backoff{first: time.Millisecond, most: time.Millisecond}
	l := lane(t, c, small, 1)
	run(t, c)
	f, _ := next(t, l)
	if got := l.Slots()[f.Slot][0]; f.Width != rtspWidth || f.Height != rtspHeight || got < 126 || got > 130 {
		t.Errorf("frame %+v of level %d, wanted 128", f, got)
	}
	l.Release(f)

	s.stopped.Store(true)
	until(t, "stalled", func() bool { return c.Status().State == Stalled })
	s.stopped.Store(false)
	until(t, "online again", func() bool { return c.Status().State == Online })
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log shows the password:\n%s", log.String())
	}
}

func TestRTSPWithAWrongPassword(t *testing.T) {
	t.Parallel()
	s := serveRTSP(t, "user", "right")
	c := open(t, Options{Source: s.url("user:s3cret"), Attempts: 1})
	err := c.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "401 Unauthorized") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %v, wanted one of 401 Unauthorized, without the password", err)
	}
}
