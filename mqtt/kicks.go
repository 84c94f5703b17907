package mqtt

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// kicksSay is after how many sessions in a row, each ended by the broker soon
// after it began, somebody else is taken to have the same client id. MQTT has
// the broker end the older of two sessions, so two clones take turns, and
// nothing in the protocol says why: mosquitto, EMQX, NATS and mochi alike just
// close the connection.
const kicksSay = 4

// kicks counts them. What else ends sessions doesn't look the same: an outage
// has attempts that fail in between, a lost network time-outs or resets; a
// refused message stays unacknowledged, and who is refused everything has nothing
// acknowledged at all.
type kicks struct {
	inRow int
	found bool
}

// failed is told of every attempt without a session, and every session, that
// ended, with how long it lasted. It tells whether somebody else seems to have
// the client id.
func (k *kicks) failed(f *failure, lasted, soon, alone time.Duration) bool {
	switch {
	case k.found && lasted >= alone:
		*k = kicks{}
	case f.stage == running && f.proven && f.message == "" && atEnd(f.err) && (k.found || lasted < soon):
		k.inRow++
		k.found = k.found || k.inRow >= kicksSay
		return k.found
	case k.found: // it stays so until a session lasts
	case f.stage == running && isClosed(f.err) && !atEnd(f.err): // a reset tells neither
	default:
		k.inRow = 0
	}
	return false
}

// atEnd tells whether the other side closed the connection in good order.
func atEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "websocket: close")
}

// duplicate says what to do about it.
func duplicate(clientID string) reason {
	return reason{"duplicate", fmt.Sprintf("the broker ends each session soon after it began: another client seems to connect as %q. Was this device's image cloned? Every device needs a name of its own: set device, for example to {serial} or {machine-id}, or another mqtt.prefix", clientID)}
}
