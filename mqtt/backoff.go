package mqtt

import "time"

// backoff is how long to wait after the attempt-th failure in a row, counted
// from 0: least, doubled each time up to most, the upper half of it by chance
// (r from 0 to 1), so that a fleet doesn't come back all at once.
func backoff(attempt int, least, most time.Duration, r float64) time.Duration {
	d := most
	if attempt < 32 && least<<attempt < most && least<<attempt > 0 {
		d = least << attempt
	}
	return d/2 + time.Duration(r*float64(d/2))
}
