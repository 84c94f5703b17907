package mqtt

import "time"

// backoff is how long to wait after the attempt-th failure in a row, counted
// from 0: anything (r from 0 to 1) up to least, which doubles each time up to
// most. A fleet that loses its broker at one moment so comes back spread over
// the whole of that time; the tenth that is always waited keeps a single device
// from hammering.
func backoff(attempt int, least, most time.Duration, r float64) time.Duration {
	d := most
	if attempt < 32 && least<<attempt < most && least<<attempt > 0 {
		d = least << attempt
	}
	return d/10 + time.Duration(r*float64(d-d/10))
}
