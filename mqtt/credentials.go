package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
)

// password reads mqtt.password_file, without the line's end. It is read for
// every session, so that a rotated one is taken up.
func (o *Options) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	b, err := readSmall(o.PasswordFile, 64<<10-1) // MQTT has two bytes for its length
	if err != nil {
		return "", optionErrorf("mqtt.password_file", "%w", err)
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", optionErrorf("mqtt.password_file", "%s holds no password", o.PasswordFile)
	}
	return p, nil
}

// tlsConfig reads the certificates. It is nil for connections without TLS.
func (o *Options) tlsConfig(t target) (*tls.Config, error) {
	if !t.secure() {
		return nil, nil
	}
	authorities, err := o.authorities()
	if err != nil {
		return nil, err
	}
	own, err := o.certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{ServerName: t.host, MinVersion: tls.VersionTLS12, RootCAs: authorities, Certificates: own}, nil
}

// authorities are those of mqtt.ca_file; nil: the system's.
func (o *Options) authorities() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	pem, err := readSmall(o.CAFile, 4<<20)
	if err != nil {
		return nil, optionErrorf("mqtt.ca_file", "%w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, optionErrorf("mqtt.ca_file", "%s holds no PEM certificate", o.CAFile)
	}
	return pool, nil
}

// certificate is the client's own; empty: it has none.
func (o *Options) certificate() ([]tls.Certificate, error) {
	if o.CertFile == "" {
		return nil, nil
	}
	cert, err := readSmall(o.CertFile, 1<<20)
	if err != nil {
		return nil, optionErrorf("mqtt.cert_file", "%w", err)
	}
	key, err := readSmall(o.KeyFile, 1<<20)
	if err != nil {
		return nil, optionErrorf("mqtt.key_file", "%w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, optionErrorf("mqtt.cert_file", "%s with key_file %s: %w", o.CertFile, o.KeyFile, err)
	}
	return []tls.Certificate{pair}, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, nil
}
