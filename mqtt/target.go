package mqtt

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// A target is the broker's address, from mqtt.url.
type target struct {
	scheme string // mqtt, mqtts, ws or wss
	host   string
	port   int
	path   string // of ws and wss, with the query
}

var schemes = map[string]struct {
	name string
	port int
}{
	"mqtt":  {"mqtt", 1883},
	"tcp":   {"mqtt", 1883},
	"mqtts": {"mqtts", 8883},
	"ssl":   {"mqtts", 8883},
	"tls":   {"mqtts", 8883},
	"ws":    {"ws", 80},
	"wss":   {"wss", 443},
}

// parseTarget reads mqtt.url. Its errors don't repeat the URL: it may hold a
// password.
func parseTarget(raw string) (target, error) {
	if raw == "" {
		return target{}, errors.New("mqtt.url is empty: want something like mqtt://broker:1883")
	}
	u, err := url.Parse(raw)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return target{}, fmt.Errorf("mqtt.url: %w; want something like mqtt://broker:1883", err)
	}
	s, ok := schemes[u.Scheme]
	if !ok {
		return target{}, fmt.Errorf("mqtt.url: scheme %q: want mqtt, mqtts, ws or wss, as in mqtt://broker:1883", u.Scheme)
	}
	t := target{scheme: s.name, host: u.Hostname(), port: s.port}
	switch {
	case u.User != nil:
		return target{}, errors.New("mqtt.url holds a user name or password: put them in mqtt.username and mqtt.password_file")
	case t.host == "":
		return target{}, fmt.Errorf("mqtt.url has no host: want something like %s://broker", u.Scheme)
	case u.Fragment != "":
		return target{}, errors.New("mqtt.url has a #fragment: leave it out")
	}
	if p := u.Port(); p != "" {
		t.port, err = strconv.Atoi(p)
		if err != nil || t.port < 1 || t.port > 65535 {
			return target{}, fmt.Errorf("mqtt.url: port %q: want 1 to 65535", p)
		}
	}
	if strings.HasPrefix(t.scheme, "ws") {
		t.path = u.RequestURI()
	} else if u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return target{}, fmt.Errorf("mqtt.url: a path or query means nothing to %s: leave it out, or use ws or wss", u.Scheme)
	}
	return t, nil
}

// secure tells whether the connection is encrypted.
func (t target) secure() bool { return t.scheme == "mqtts" || t.scheme == "wss" }

// address is host:port.
func (t target) address() string { return net.JoinHostPort(t.host, strconv.Itoa(t.port)) }

// String leaves path and query out, which may hold a token.
func (t target) String() string { return t.scheme + "://" + t.address() }
