package camera

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
)

// step is by how much a frame of y4m is brighter than the one before.
const step = 5

// y4m is a raw video of up to 44 grey frames, each brighter than the one before:
// shown tells which a pixel is from.
func y4m(w, h, frames int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n", w, h)
	for i := range frames {
		b.WriteString("FRAME\n")
		b.Write(bytes.Repeat([]byte{byte(16 + step*i)}, w*h))
		b.Write(bytes.Repeat([]byte{128}, w*h/2))
	}
	return b.Bytes()
}

func shown(value byte) int { return int(math.Round(float64(value) * 219 / 255 / step)) }

// lines is a log to look at.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(io.Writer(l), nil)) }
