package mqtt

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A dialer opens connections to a name's addresses, one after the other. It is
// used by one goroutine at a time.
type dialer struct {
	resolve  func(ctx context.Context, host string) ([]string, error)
	failures map[string]int // of an address, since it last worked
}

const (
	// maxAddresses of a name are tried in one attempt; with the usual time-out
	// each then has two seconds, as net.Dialer gives at least. The others have
	// their turn in the next attempt.
	maxAddresses = 5
	// maxFailures bounds the addresses that are remembered.
	maxFailures = 256
)

// dial opens the connection of t's kind, TLS and websocket handshakes included,
// and tells the address that it leads to. Addresses that failed least come
// first, so the one that worked is kept to; each has its share of the time that
// ctx leaves, so one that is dead doesn't cost the others theirs. [net.Dialer]
// does so too, but only for TCP: it would never leave an address where somebody
// takes the connection and goes no further.
func (d *dialer) dial(ctx context.Context, t target, config *tls.Config) (net.Conn, string, error) {
	addresses, err := d.addresses(ctx, t)
	if err != nil {
		return nil, "", err
	}
	var tried triedError
	for i, address := range addresses {
		c, err := dialShare(ctx, len(addresses)-i, t, address, config)
		if err == nil {
			return c, address, nil
		}
		d.failed(address)
		tried = append(tried, addressError{address, err})
		if ctx.Err() != nil {
			break
		}
	}
	if len(tried) == 1 {
		return nil, "", tried[0].err
	}
	return nil, "", tried
}

// dialShare dials one address in its share of the time that is left to so many.
func dialShare(ctx context.Context, left int, t target, address string, config *tls.Config) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	return dial(ctx, t, net.JoinHostPort(address, strconv.Itoa(t.port)), config)
}

// addresses of t's host, in the order in which they are to be tried. Where a
// proxy stands between, the name is its business.
func (d *dialer) addresses(ctx context.Context, t target) ([]string, error) {
	if net.ParseIP(t.host) != nil || strings.Contains(t.host, "%") || t.proxied() {
		return []string{t.host}, nil
	}
	all, err := d.resolve(ctx, t.host)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: t.host, IsNotFound: true}
	}
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(d.failures[a], d.failures[b]) })
	return all[:min(len(all), maxAddresses)], nil
}

// failed is told of an address that didn't lead to a session.
func (d *dialer) failed(address string) {
	if d.failures == nil || len(d.failures) >= maxFailures {
		d.failures = map[string]int{}
	}
	d.failures[address]++
}

// worked is told of one that did.
func (d *dialer) worked(address string) { delete(d.failures, address) }

// proxied tells whether a web proxy stands between.
func (t target) proxied() bool {
	scheme, ws := map[string]string{"ws": "http", "wss": "https"}[t.scheme]
	if !ws {
		return false
	}
	p, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: t.address()}})
	return p != nil || err != nil
}

// A triedError is what became of each address of a name.
type triedError []addressError

type addressError struct {
	address string
	err     error
}

func (e triedError) Error() string {
	all := make([]string, len(e))
	for i, a := range e {
		all[i] = fmt.Sprintf("%s: %v", a.address, a.err)
	}
	return strings.Join(all, "; ")
}

func (e triedError) Unwrap() []error {
	all := make([]error, len(e))
	for i, a := range e {
		all[i] = a.err
	}
	return all
}
