package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// checkFiles says which of the options for files contradict each other.
func (o *Options) checkFiles(t target) error {
	if (o.CertFile == "") != (o.KeyFile == "") {
		return errors.New("mqtt.cert_file and mqtt.key_file belong together: give both or neither")
	}
	if !t.secure() && (o.CAFile != "" || o.CertFile != "") {
		return fmt.Errorf("mqtt.ca_file, cert_file and key_file need an encrypted connection: mqtt.url has %s, want mqtts or wss", t.scheme)
	}
	if o.PasswordFile != "" && o.Username == "" {
		return errors.New("mqtt.password_file needs mqtt.username: MQTT 3.1.1 has no password without a user name")
	}
	return nil
}

// password reads mqtt.password_file, without the line's end. It is read for
// every session, so that a rotated one is taken up.
func (o *Options) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	b, err := readSmall(o.PasswordFile, 64<<10-1) // MQTT has two bytes for its length
	if err != nil {
		return "", fmt.Errorf("mqtt.password_file: %w", err)
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", fmt.Errorf("mqtt.password_file: %s holds no password", o.PasswordFile)
	}
	return p, nil
}

// tlsConfig reads the certificates. It is nil for connections without TLS.
func (o *Options) tlsConfig(t target) (*tls.Config, error) {
	if !t.secure() {
		return nil, nil
	}
	c := &tls.Config{ServerName: t.host, MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := readSmall(o.CAFile, 4<<20)
		if err != nil {
			return nil, fmt.Errorf("mqtt.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mqtt.ca_file: %s holds no PEM certificate", o.CAFile)
		}
	}
	if o.CertFile != "" {
		cert, err := readSmall(o.CertFile, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("mqtt.cert_file: %w", err)
		}
		key, err := readSmall(o.KeyFile, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("mqtt.key_file: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("mqtt.cert_file %s with key_file %s: %w", o.CertFile, o.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
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
