package mqtt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"mqtt://broker":              "mqtt://broker:1883",
		"mqtt://broker:99":           "mqtt://broker:99",
		"MQTT://broker/":             "mqtt://broker:1883",
		"mqtts://broker":             "mqtts://broker:8883",
		"mqtts://10.0.0.1":           "mqtts://10.0.0.1:8883",
		"mqtts://[::1]:8884":         "mqtts://[::1]:8884",
		"ws://broker":                "ws://broker:80",
		"wss://broker/mqtt?token=s3": "wss://broker:443",
	} {
		got, err := parseTarget(raw)
		if err != nil || got.String() != want {
			t.Errorf("%s is %v (%v), want %s", raw, got, err, want)
		}
	}
	if got, _ := parseTarget("wss://broker/mqtt?token=s3"); got.path != "/mqtt?token=s3" {
		t.Errorf("path is %q", got.path)
	}
	for raw, want := range map[string]string{
		"":                          "is empty",
		"broker:1883":               "want mqtt",
		"//broker":                  "want mqtt",
		"http://broker":             `scheme "http": want mqtt, mqtts, ws or wss`,
		"mqtt://":                   "no host",
		"mqtt://:1883":              "no host",
		"mqtt://broker:0":           "want 1 to 65535",
		"mqtt://broker:65536":       "want 1 to 65535",
		"mqtt://broker:x":           "invalid port",
		"mqtt://u:hunter2@broker":   "mqtt.password_file",
		"mqtt://u:hunter2@broker:x": "invalid port",
		"mqtt://broker/topic":       "path or query",
		"mqtt://broker?x=1":         "path or query",
		"ws://broker/#a":            "#fragment",
		"mqtt://bro ker":            "invalid character",
		"mqtt://a,b":                "want one host",
		"tcp://broker":              "want mqtt, mqtts, ws or wss",
	} {
		_, err := parseTarget(raw)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", raw, err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the password: %v", raw, err)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"mqtt://broker", "wss://u:hunter2@[::1%25eth0]:1/p?q", "ssl://x:65536", "ws://%zz", "mqtt://\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseTarget(raw)
		if err != nil {
			if got != (target{}) {
				t.Errorf("%q: %v beside the error %v", raw, got, err)
			}
			return
		}
		if got.host == "" || got.port < 1 || got.port > 65535 {
			t.Errorf("%q is taken as %+v", raw, got)
		}
	})
}

func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(dir, "missing")
	junk := file("junk", "no certificate")
	for _, tc := range []struct {
		name, want string
		o          Options
	}{
		{"no device", "device: empty name", Options{URL: "mqtt://b"}},
		{"device with a slash", "separates the levels", Options{URL: "mqtt://b", Device: "a/b"}},
		{"device with a wildcard", "wildcards", Options{URL: "mqtt://b", Device: "a+"}},
		{"prefix with NUL", "mqtt.prefix", Options{URL: "mqtt://b", Device: "d", Prefix: "a\x00"}},
		{"certificate without key", "belong together", Options{URL: "mqtts://b", Device: "d", CertFile: junk}},
		{"key without certificate", "belong together", Options{URL: "mqtts://b", Device: "d", KeyFile: junk}},
		{"CA without TLS", "want mqtts or wss", Options{URL: "mqtt://b", Device: "d", CAFile: junk}},
		{"password without user", "mqtt.username", Options{URL: "mqtt://b", Device: "d", PasswordFile: junk}},
		{"missing password file", missing, Options{URL: "mqtt://b", Device: "d", Username: "u", PasswordFile: missing}},
		{"empty password file", "holds no password", Options{URL: "mqtt://b", Device: "d", Username: "u", PasswordFile: file("empty", "\r\n")}},
		{"huge password file", "larger than", Options{URL: "mqtt://b", Device: "d", Username: "u", PasswordFile: file("huge", strings.Repeat("x", 65536))}},
		{"missing CA", missing, Options{URL: "mqtts://b", Device: "d", CAFile: missing}},
		{"CA is junk", "no PEM certificate", Options{URL: "mqtts://b", Device: "d", CAFile: junk}},
		{"pair is junk", "mqtt.cert_file", Options{URL: "mqtts://b", Device: "d", CertFile: junk, KeyFile: junk}},
		{"CA is a folder", "mqtt.ca_file", Options{URL: "mqtts://b", Device: "d", CAFile: dir}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := New(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestPasswordIsWithoutItsLineEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(" pass word \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Username: "u", PasswordFile: path}
	if got, err := o.password(); err != nil || got != " pass word " {
		t.Errorf("password is %q (%v)", got, err)
	}
}

func TestClientIDsDiffer(t *testing.T) {
	t.Parallel()
	if a, b := clientID("a/b", "c"), clientID("a", "b-c"); a == b || strings.Contains(a, "/") {
		t.Errorf("client ids %q and %q", a, b)
	}
}
