package mqtt

import "time"

// timing is what tests make shorter.
type timing struct {
	connect     time.Duration // for TCP, TLS and CONNACK together
	write       time.Duration // for one packet
	ack         time.Duration // for a PUBACK
	keepAlive   time.Duration // whole seconds
	ping        time.Duration // for the reply to a ping
	stop        time.Duration // for the last messages
	reassert    time.Duration // until `online` is said once more
	stable      time.Duration // a session this long starts the back-off anew
	first       time.Duration // before the first session, at most
	least, most time.Duration // back-off
	repeat      time.Duration // of the same failure in the log
	look        time.Duration // between looks at the files while a session lasts
	suspect     time.Duration // a message isn't given up as refused within less

	kicked                        time.Duration // a session that the broker ends within it may have been taken over
	alone                         time.Duration // a session this long shows that nobody else has the client id
	leastDuplicate, mostDuplicate time.Duration // back-off while somebody seems to have
}

var defaultTiming = timing{
	connect:   10 * time.Second,
	write:     5 * time.Second,
	ack:       20 * time.Second,
	keepAlive: 30 * time.Second,
	ping:      10 * time.Second,
	stop:      time.Second,
	reassert:  5 * time.Second,
	stable:    30 * time.Second,
	first:     500 * time.Millisecond,
	least:     2 * time.Second,
	most:      30 * time.Second,
	repeat:    10 * time.Minute,
	look:      time.Hour,
	suspect:   30 * time.Second,

	kicked:         time.Minute,
	alone:          15 * time.Minute,
	leastDuplicate: 30 * time.Second,
	mostDuplicate:  5 * time.Minute,
}
