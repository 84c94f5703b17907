package mqtt

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ids makes ULIDs that grow for the life of the process, also when the clock is
// set back, as it is on a device that boots without a battery-backed one.
type ids struct {
	mu      sync.Mutex
	last    uint64
	entropy *ulid.MonotonicEntropy
}

func newIDs() *ids {
	return &ids{entropy: ulid.Monotonic(rand.Reader, 0)}
}

func (g *ids) next(t time.Time) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ms := t.UnixMilli(); ms > 0 {
		g.last = max(g.last, uint64(ms))
	}
	id, err := ulid.New(g.last, g.entropy)
	if err != nil {
		return "", err
	}
	return id.String(), nil
}
