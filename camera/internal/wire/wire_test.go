package wire

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t *testing.T) (*Conn, *Conn) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

func TestMessagesAndFilesComeThrough(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	event, err := Eventfd()
	if err != nil {
		t.Fatal(err)
	}
	defer event.Close()
	settings := Settings{Source: "rtsp://u:p@h", Files: []string{strings.Repeat("x", 1<<20)}, From: Position{Seq: 1 << 40}}
	file, err := WriteSettings(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := Message{Add: &Add{ID: 3, Slots: 4, Resize: "crop", Region: [4]float64{0, 0, 1, 0.5}}}
	if err := a.Send(want, file, event); err != nil {
		t.Fatal(err)
	}
	got, files, err := b.Receive()
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(files)
	if diff := cmp.Diff(want, got); diff != "" || len(files) != 2 {
		t.Fatalf("%d files, %s", len(files), diff)
	}
	if got, err := ReadSettings(files[0]); err != nil || !cmp.Equal(got, settings) {
		t.Errorf("settings did not come through: %v", err)
	}
	// The eventfd is the same at both ends, and waits in the poller.
	if _, err := event.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := files[1].Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := files[1].Read(make([]byte, 8))
		done <- err
	}()
	files[1].Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading from a closed eventfd: %v", err)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	t.Parallel()
	for name, packet := range map[string]string{
		"no JSON":       "hello",
		"another type":  `{"beat":{"captured":"many"}}`,
		"a number less": `{"beat":{"captured":-1}}`,
		"too long":      `{"error":{"text":"` + strings.Repeat("x", MaxPacket) + `"}}`,
		"far too long":  strings.Repeat(" ", 4*MaxPacket),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			if _, err := a.c.Write([]byte(packet)); err != nil {
				t.Fatal(err)
			}
			if m, _, err := b.Receive(); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("message %+v, error %v", m, err)
			}
		})
	}
	a, b := pair(t)
	a.Close()
	if _, _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the other side has closed: %v, wanted %v", err, io.EOF)
	}
	if err := b.Send(Message{Stop: &Stop{}}); err == nil {
		t.Error("sent to nobody")
	}
	if err := b.Send(Message{Error: &Error{Text: strings.Repeat("x", MaxPacket)}}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a message too long: %v", err)
	}
}

func TestSenderDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	for range 100_000 {
		if err := a.Send(Message{Error: &Error{Text: strings.Repeat("x", 20_000)}}); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			return
		}
	}
	t.Error("nobody reads, and yet everything was sent")
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"beat":{"captured":1}}`))
	f.Add([]byte(`{"error":{"text":"x","fatal":true}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decode(data, 0); err == nil && len(data) > MaxPacket {
			t.Error("a message too long was read")
		}
	})
}
