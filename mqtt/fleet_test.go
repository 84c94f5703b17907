package mqtt

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// fleetMosquitto runs mosquitto under docs/fleet, with its folders moved beneath
// one of the test, and lines of its configuration replaced.
func fleetMosquitto(t *testing.T, ca *authority, lines ...string) *mosquitto {
	t.Helper()
	m := newMosquitto(t)
	etc, data := t.TempDir(), t.TempDir()
	conf, err := os.ReadFile("../docs/fleet/mosquitto.conf")
	if err != nil {
		t.Fatal(err)
	}
	acl, err := os.ReadFile("../docs/fleet/mosquitto.acl")
	if err != nil {
		t.Fatal(err)
	}
	text := string(conf)
	for i := 0; i < len(lines); i += 2 {
		if !strings.Contains(text, lines[i]) {
			t.Fatalf("docs/fleet/mosquitto.conf has no %q", lines[i])
		}
		text = strings.Replace(text, lines[i], lines[i+1], 1)
	}
	writeFile(t, m.config, "user root\nlog_dest stderr\n"+strings.NewReplacer("/etc/mosquitto/", etc+"/", "/var/lib/mosquitto/", data+"/",
		"listener 8883", fmt.Sprintf("listener %d 127.0.0.1", m.port)).Replace(text))
	cert, key := ca.issue(t, "server", time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
	for name, from := range map[string]string{"devices-ca.pem": ca.file, "server.pem": cert, "server.key": key} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(etc, name), string(b))
	}
	if err := os.WriteFile(filepath.Join(etc, "acl"), acl, 0o600); err != nil {
		t.Fatal(err)
	}
	passwords := filepath.Join(etc, "passwords")
	if err := os.WriteFile(passwords, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"hall-1", "hall-2", "dashboard", "operator"} {
		if out, err := exec.Command("mosquitto_passwd", "-b", passwords, user, user+"-password").CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd: %v: %s", err, out)
		}
	}
	return m.start()
}

// watchFleet subscribes as a user who isn't a device.
func watchFleet(t *testing.T, m *mosquitto, ca *authority, user, filter string) *subscriber {
	t.Helper()
	options := Options{CAFile: ca.file}
	config, err := options.tlsConfig(target{scheme: "mqtts", host: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	s := &subscriber{}
	o := paho.NewClientOptions().AddBroker(m.url("mqtts")).SetTLSConfig(config).SetClientID(fmt.Sprint("watch-", watchers.Add(1)))
	o.SetUsername(user).SetPassword(user + "-password").SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		s.mu.Lock()
		s.messages = append(s.messages, m)
		s.mu.Unlock()
	})
	s.client = paho.NewClient(o)
	if tok := s.client.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("connect as %s: %v", user, tok.Error())
	}
	t.Cleanup(func() { s.client.Disconnect(250) })
	if tok := s.client.Subscribe(filter, 1, nil); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("subscribe to %s: %v", filter, tok.Error())
	}
	return s
}

// With passwords: a device publishes for itself and for nobody else.
func TestMosquittoOfAFleet(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "fleet")
	m := fleetMosquitto(t, ca)
	seen := watchFleet(t, m, ca, "dashboard", "sightd/#")
	device := func(user, name string) Options {
		o := Options{URL: m.url("mqtts"), CAFile: ca.file, Username: user, Device: name}
		o.PasswordFile = filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(o.PasswordFile, []byte(user+"-password"), 0o600); err != nil {
			t.Fatal(err)
		}
		return o
	}
	deliver(t, device("hall-2", "hall-1")) // acknowledged and thrown away
	if all := seen.on("sightd/hall-1/cam0/events"); len(all) != 0 {
		t.Errorf("hall-2 spoke for hall-1: %q", all)
	}
	deliver(t, device("hall-1", "hall-1"))
	eventually(t, "the event", func() bool { return len(seen.on("sightd/hall-1/cam0/events")) == 1 })
	eventually(t, "the clean offline", func() bool { return seen.last("sightd/hall-1/status") == Offline })
	late := watchFleet(t, m, ca, "operator", "sightd/+/status")
	eventually(t, "the retained state", func() bool { return late.last("sightd/hall-1/status") == Offline })
}

// With certificates, whose name is the device's.
func TestMosquittoOfAFleetWithCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "fleet")
	m := fleetMosquitto(t, ca, "allow_anonymous false\npassword_file /etc/mosquitto/passwords\n", "",
		"#require_certificate true", "require_certificate true", "#use_identity_as_username true", "use_identity_as_username true")
	hour := time.Now().Add(time.Hour)
	o := Options{URL: m.url("mqtts"), CAFile: ca.file, Device: "hall-1"}
	wantWords(t, fails(t, o), "mqtt.cert_file")
	o.CertFile, o.KeyFile = ca.issue(t, "hall-1", hour, x509.ExtKeyUsageClientAuth)
	deliver(t, o)
}
