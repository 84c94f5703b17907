package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// How far a session came before it failed.
type stage int

const (
	preparing  stage = iota // reading files
	dialling                // TCP, TLS, websocket
	connecting              // CONNECT is sent, CONNACK awaited
	running
)

// A failure is why a session ended.
type failure struct {
	stage   stage
	err     error
	message string // in words, where one message may be why
	proven  bool   // the broker had acknowledged something in the session
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Reasons of our own for ending a session.
var (
	errNoAck  = errors.New("no acknowledgement")
	errNoPing = errors.New("no reply to a ping")
)

// A codeError is a CONNACK with a code that MQTT 3.1.1 doesn't have. Brokers
// for MQTT 5 have their own.
type codeError byte

func (e codeError) Error() string { return fmt.Sprintf("refused with code 0x%02x", byte(e)) }

// meaning is what the code stands for in MQTT 3.1.1, or the error itself.
func (e codeError) meaning() error {
	switch e {
	case 0x84: // unsupported protocol version
		return packets.ErrorRefusedBadProtocolVersion
	case 0x85: // client identifier not valid
		return packets.ErrorRefusedIDRejected
	case 0x86: // bad user name or password
		return packets.ErrorRefusedBadUsernameOrPassword
	case 0x87, 0x8a: // not authorised, banned
		return packets.ErrorRefusedNotAuthorised
	case 0x88, 0x89, 0x97, 0x9f: // unavailable, busy, quota exceeded, connection rate exceeded
		return packets.ErrorRefusedServerUnavailable
	}
	return e
}

// A reason says in words why there is no connection and what to do about it.
// Two failures of one kind are the same news.
type reason struct{ kind, words string }

// explain finds the reason behind a failure. identity names this client to the
// operator.
func explain(t target, clientID string, f *failure) reason {
	if f.stage == preparing {
		return reason{"files", f.err.Error()}
	}
	if f.message != "" {
		return reason{"refused message", f.message}
	}
	r, ok := explainRefusal(clientID, f.err)
	if !ok {
		r, ok = explainTLS(t, f.err)
	}
	if !ok {
		r, ok = explainNetwork(t, f)
	}
	if !ok {
		r = reason{"other", fmt.Sprintf("%s: %v", t, f.err)}
	}
	var tried triedError
	if errors.As(f.err, &tried) {
		r.words += fmt.Sprintf(" (%d addresses were tried: %v)", len(tried), tried)
	}
	return r
}

// explainRefusal is about what the other side said.
func explainRefusal(clientID string, err error) (reason, bool) {
	var refused httpError
	var code codeError
	if errors.As(err, &code) {
		err = code.meaning()
	}
	switch {
	case errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return reason{"not authorised", "the broker refuses this client as not authorised: check mqtt.username, mqtt.password_file and the broker's access list"}, true
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		return reason{"bad password", "the broker refuses the user name or password: check mqtt.username and mqtt.password_file"}, true
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return reason{"client id", fmt.Sprintf("the broker rejects the client id %q: it is made of mqtt.prefix and device, change one of them", clientID)}, true
	case errors.As(err, &code):
		return reason{"odd code", fmt.Sprintf("the broker refuses this client with the code 0x%02x, which MQTT 3.1.1 doesn't have: see its log", byte(code))}, true
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return reason{"version", "the broker doesn't speak MQTT 3.1.1, perhaps MQTT 5 only: enable 3.1.1 there"}, true
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return reason{"unavailable", "the broker says that it is unavailable: has it reached a limit?"}, true
	case errors.Is(err, errNotMQTT):
		return reason{"not mqtt", err.Error()[strings.Index(err.Error(), errNotMQTT.Error()):]}, true
	case errors.As(err, &refused):
		return reason{"websocket", refused.Error() + ": check port and path of mqtt.url"}, true
	case errors.Is(err, errNoAck):
		return reason{"no acknowledgement", "the broker takes messages and doesn't acknowledge them; connecting anew"}, true
	case errors.Is(err, errNoPing):
		return reason{"silent", "the broker has fallen silent: is the network up?"}, true
	}
	return reason{}, false
}

func explainTLS(t target, err error) (reason, bool) {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		op       *net.OpError
	)
	switch {
	case errors.As(err, &unknown):
		return reason{"tls authority", "the broker's certificate is signed by an authority that isn't trusted: name its certificate in mqtt.ca_file"}, true
	case errors.As(err, &hostname):
		return reason{"tls name", fmt.Sprintf("the broker's certificate isn't for %s: %v; use the name that it was made for in mqtt.url", t.host, hostname)}, true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return reason{"tls expired", fmt.Sprintf("the broker's certificate isn't valid at this device's time: valid from %s to %s, the clock says %s; renew it or set the clock",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))}, true
	case errors.As(err, &invalid):
		return reason{"tls certificate", fmt.Sprintf("the broker's certificate can't be used: %v", invalid)}, true
	case errors.As(err, &record):
		return reason{"no tls", fmt.Sprintf("%s doesn't speak TLS: use mqtt:// or ws://, or the broker's port for TLS", t.address())}, true
	case errors.As(err, &op) && op.Op == "remote error" && !strings.Contains(op.Err.Error(), "certificate"):
		return reason{"tls alert", fmt.Sprintf("the broker ends the TLS handshake (%v): does it speak TLS 1.2 or later?", op.Err)}, true
	case errors.As(err, &op) && op.Op == "remote error":
		return reason{"tls refused", fmt.Sprintf("the broker ends the TLS handshake (%v): check mqtt.cert_file and mqtt.key_file", op.Err)}, true
	}
	return reason{}, false
}

func explainNetwork(t target, f *failure) (reason, bool) {
	var (
		dns     *net.DNSError
		timeout net.Error
	)
	switch {
	case errors.As(f.err, &dns) && dns.IsNotFound:
		return reason{"unknown host", fmt.Sprintf("unknown host %s: check mqtt.url and the device's name service", t.host)}, true
	case errors.As(f.err, &dns):
		return reason{"name service", fmt.Sprintf("the name service doesn't tell the address of %s: check the device's network", t.host)}, true
	case errors.Is(f.err, syscall.ECONNREFUSED):
		return reason{"refused", fmt.Sprintf("connection refused by %s: is the broker started, and is the port right?", t.address())}, true
	case errors.Is(f.err, syscall.ENETUNREACH), errors.Is(f.err, syscall.EHOSTUNREACH):
		return reason{"unreachable", fmt.Sprintf("no way to %s: check the device's network", t.address())}, true
	case errors.Is(f.err, os.ErrDeadlineExceeded), errors.As(f.err, &timeout) && timeout.Timeout():
		switch f.stage {
		case dialling:
			return reason{"no answer", fmt.Sprintf("no answer from %s: check address, port and firewall", t.address())}, true
		case connecting:
			return reason{"mute", fmt.Sprintf("%s takes the connection and doesn't answer: is it an MQTT broker?", t.address())}, true
		default:
			return reason{"stuck", "the broker no longer takes what is sent: is the network up?"}, true
		}
	case isClosed(f.err):
		switch {
		case f.stage == dialling && t.secure():
			return reason{"closed in tls", fmt.Sprintf("%s ends the connection during the TLS handshake: is it the broker's port for TLS?", t.address())}, true
		case f.stage == connecting && t.secure():
			return reason{"closed after tls", fmt.Sprintf("%s closes the encrypted connection without a reply: does it want a client certificate, and does it accept that of mqtt.cert_file?", t.address())}, true
		case f.stage != running:
			return reason{"closed early", fmt.Sprintf("%s closes the connection without a reply: is it an MQTT broker, and does it want TLS (mqtts://)?", t.address())}, true
		case !f.proven:
			return reason{"lost at once", "the broker closed the connection before it acknowledged anything: was it stopped, or does its access list keep this client from its topics?"}, true
		default:
			return reason{"lost", "the broker closed the connection: was it stopped, or is there another client with the same prefix and device?"}, true
		}
	}
	return reason{}, false
}

func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "websocket: close")
}
