package camera

import (
	"math/rand/v2"
	"time"
)

// backoff is how long to wait before a worker is started again: twice as long
// after each failure, a quarter more or less, so that the cameras of a machine
// don't all come back at the same moment.
type backoff struct{ first, most time.Duration }

var defaultBackoff = backoff{first: 250 * time.Millisecond, most: 30 * time.Second}

// after is the pause after so many failures in a row, from 1.
func (b backoff) after(failures int) time.Duration {
	d := b.most
	if shift := failures - 1; shift < 20 {
		d = min(b.first<<shift, b.most)
	}
	return d*3/4 + rand.N(d/2+1)
}
