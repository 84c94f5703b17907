package mqtt

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWarningsAboutFiles(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	day := 24 * time.Hour
	write := func(mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Certificates of tests are a day old.
	issue := func(name string, left time.Duration, mode os.FileMode) (cert, key string) {
		cert, key = ca.issue(t, name, time.Now().Add(left), x509.ExtKeyUsageClientAuth)
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	for name, tc := range map[string]struct {
		password       os.FileMode
		left           time.Duration
		key            os.FileMode
		want, unwanted []string
	}{
		"all is well":           {0o600, 365 * day, 0o600, nil, []string{"mqtt"}},
		"the group may read":    {0o640, 365 * day, 0o640, nil, []string{"mqtt"}},
		"all may read":          {0o644, 365 * day, 0o604, []string{"mqtt.password_file", "chmod o=", "mqtt.key_file", "0604"}, []string{"cert_file"}},
		"it is a short one":     {0o600, 12 * time.Hour, 0o600, nil, []string{"mqtt"}},
		"a short one ends soon": {0o600, time.Hour, 0o600, []string{"mqtt.cert_file", "ends on"}, nil},
		"it ended":              {0o600, -time.Hour, 0o600, []string{"mqtt.cert_file", "ended on", "set the clock"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert, key := issue(strings.ReplaceAll(name, " ", "-"), tc.left, tc.key)
			o := Options{URL: "mqtts://localhost:1", Device: "d", Username: "u", PasswordFile: write(tc.password), CertFile: cert, KeyFile: key}
			found, err := o.Check()
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(found, "; ")
			for _, w := range tc.want {
				if !strings.Contains(all, w) {
					t.Errorf("warnings are %q, want %q among them", all, w)
				}
			}
			for _, w := range tc.unwanted {
				if strings.Contains(all, w) {
					t.Errorf("warnings are %q, want no %q", all, w)
				}
			}
			c := newClient(t, o, quick())
			run(t, c)
			eventually(t, "the same in the status", func() bool { return slices.Equal(sorted(c.Status().Warnings), sorted(found)) })
		})
	}
	year, _ := issue("year", 365*day, 0o600)
	for left, want := range map[time.Duration]bool{31 * day: false, 29 * day: true} {
		if words := ending(year, time.Now().Add(365*day-left)); (words != "") != want {
			t.Errorf("%v before its end, it is said %q", left, words)
		}
	}
	missing := Options{URL: "mqtt://b", Device: "d", Username: "u", PasswordFile: filepath.Join(t.TempDir(), "missing")}
	if _, err := missing.Check(); err == nil || !strings.Contains(err.Error(), "mqtt.password_file: open "+missing.PasswordFile) {
		t.Errorf("a missing file is %v", err)
	}
	broken := Options{URL: "nonsense", Device: "d"}
	if _, err := broken.Check(); err == nil {
		t.Error("a URL that is none has no error")
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// A certificate that is renewed on disk while a session lasts stops the warning,
// and the next session uses it.
func TestClientCertificateIsRotated(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	server, serverKey := ca.issue(t, "server", time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
	m := newMosquitto(t, "cafile "+ca.file, "certfile "+server, "keyfile "+serverKey, "require_certificate true", "allow_anonymous true").start()
	p := startProxy(t, m.address())
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	put := func(name string, until time.Time) {
		newCert, newKey := ca.issue(t, name, until, x509.ExtKeyUsageClientAuth)
		for from, to := range map[string]string{newCert: cert, newKey: key} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to+".new", b, 0o600)
			}
			if err == nil {
				err = os.Rename(to+".new", to)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	put("expired", time.Now().Add(-time.Minute))
	tm := quick()
	tm.look = 10 * time.Millisecond
	c := newClient(t, Options{URL: "mqtts" + strings.TrimPrefix(p.url(), "mqtt"), CAFile: ca.file, CertFile: cert, KeyFile: key}, tm)
	run(t, c)
	eventually(t, "a refusal", func() bool { return strings.Contains(c.Status().Error, "mqtt.cert_file") })
	warned := func(what string) func() bool {
		return func() bool { return strings.Contains(strings.Join(c.Status().Warnings, ";"), what) }
	}
	eventually(t, "the warning", warned("ended on"))
	put("short", time.Now().Add(time.Hour))
	eventually(t, "a session", func() bool { return c.Status().Connected })
	eventually(t, "the next warning", warned("ends on"))
	put("long", time.Now().Add(1000*time.Hour))
	eventually(t, "no warning", func() bool { return len(c.Status().Warnings) == 0 })
	p.cut()
	eventually(t, "another session", func() bool { s := c.Status(); return s.Connected && s.Reconnects > 0 })
}
