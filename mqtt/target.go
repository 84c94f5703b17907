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

// schemes have these ports where a URL names none.
var schemes = map[string]int{"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}

// parseTarget reads a URL. Its errors don't repeat it, since it may hold a
// password, and leave it to the caller to say where it stands.
func parseTarget(raw string) (target, error) {
	if raw == "" {
		return target{}, errors.New("is empty: want something like mqtt://broker:1883")
	}
	u, err := url.Parse(raw)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return target{}, fmt.Errorf("%w; want something like mqtt://broker:1883", err)
	}
	port, ok := schemes[u.Scheme]
	if !ok {
		return target{}, fmt.Errorf("scheme %q: want mqtt, mqtts, ws or wss, as in mqtt://broker:1883", u.Scheme)
	}
	t := target{scheme: u.Scheme, host: u.Hostname(), port: port}
	switch {
	case u.User != nil:
		return target{}, errors.New("it holds a user name or password: put them in mqtt.username and mqtt.password_file")
	case t.host == "":
		return target{}, fmt.Errorf("no host: want something like %s://broker", u.Scheme)
	case strings.Contains(t.host, ","):
		return target{}, fmt.Errorf("host %q: want one host; each of several brokers is a whole URL", t.host)
	case u.Fragment != "":
		return target{}, errors.New("it has a #fragment: leave it out")
	}
	if p := u.Port(); p != "" {
		t.port, err = strconv.Atoi(p)
		if err != nil || t.port < 1 || t.port > 65535 {
			return target{}, fmt.Errorf("port %q: want 1 to 65535", p)
		}
	}
	if strings.HasPrefix(t.scheme, "ws") {
		t.path = u.RequestURI()
	} else if u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return target{}, fmt.Errorf("a path or query means nothing to %s: leave it out, or use ws or wss", u.Scheme)
	}
	return t, nil
}

// secure tells whether the connection is encrypted.
func (t target) secure() bool { return t.scheme == "mqtts" || t.scheme == "wss" }

// address is host:port.
func (t target) address() string { return net.JoinHostPort(t.host, strconv.Itoa(t.port)) }

// String leaves path and query out, which may hold a token.
func (t target) String() string { return t.scheme + "://" + t.address() }
