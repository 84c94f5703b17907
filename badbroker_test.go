package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/testenv"
)

// Whatever is wrong with the broker, frames are classified, the status and one
// line of the log say why nothing arrives, and what is to be delivered waits
// until somebody ends it.
func TestBrokersThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mqtt func(*testing.T) string // of the configuration
		want []string
	}{
		"absent": {
			func(t *testing.T) string { return "url: mqtt://" + freeAddress(t) },
			[]string{"connection refused", "is the broker started"},
		},
		"a web server": {
			func(t *testing.T) string { return "url: mqtt://" + webServer(t) },
			[]string{"not an MQTT broker", "it answers with HTTP"},
		},
		"it wants a password": {
			func(t *testing.T) string { return "url: mqtt://" + strictBroker(t) },
			[]string{"refuses", "mqtt.username", "mqtt.password_file"},
		},
		"it wants another password": {
			func(t *testing.T) string {
				password := write(t, filepath.Join(t.TempDir(), "password"), []byte("wrong\n"))
				return fmt.Sprintf("url: mqtt://%s, username: door, password_file: %s", strictBroker(t), password)
			},
			[]string{"refuses", "mqtt.username", "mqtt.password_file"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, _ := serviceConfig(t, "test:bars?frames=5&each=true", "mqtt: {"+test.mqtt(t)+"}\n")
			s := startService(t, config, "--until-end")
			status := s.when("all classified", func(s *daemon.Status) bool {
				return s.MQTT.Error != "" && s.MQTT.Queued == 5 && s.Cameras[0].State == "ended"
			})
			if status.MQTT.Connected || status.Cameras[0].Classified != 5 {
				t.Errorf("%+v", status)
			}
			wantParts(t, status.MQTT.Error, test.want...)

			select {
			case status := <-s.ended:
				t.Errorf("it ended with status %d and 5 events undelivered", status)
			case <-time.After(time.Second): // and another attempt
			}
			if status := s.stop(syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d", status)
			}
			const line = `level=WARN msg="no connection to the broker`
			if n := strings.Count(s.log.String(), line); n != 1 {
				t.Errorf("%d lines of the log, wanted one", n)
			}
		})
	}
}

// webServer answers what isn't HTTP as web servers do.
func webServer(t *testing.T) (address string) {
	l := listener(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1024))
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request")
			c.Close()
		}
	}()
	return l.Addr().String()
}

// strictBroker is a mosquitto that takes the user door with the password right.
func strictBroker(t *testing.T) (address string) {
	mosquitto := "/usr/sbin/mosquitto"
	if path, err := exec.LookPath("mosquitto"); err == nil {
		mosquitto = path
	}
	dir := t.TempDir()
	users, config := filepath.Join(dir, "users"), filepath.Join(dir, "mosquitto.conf")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", users, "door", "right").CombinedOutput(); err != nil {
		t.Skipf("mosquitto isn't here, apt install mosquitto: %v: %s", err, out)
	}
	address = freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	write(t, config, fmt.Appendf(nil, "user root\nlistener %s 127.0.0.1\nallow_anonymous false\npassword_file %s\n", port, users))
	cmd := exec.Command(mosquitto, "-c", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatal("mosquitto doesn't start: ", err)
		}
	}
}

// Of several brokers the one that works is used, from a list or from the
// environment; status and log say which, the status and the doctor what is wrong
// with the files.
func TestOneOfSeveralBrokers(t *testing.T) {
	t.Parallel()
	good := strictBroker(t)
	password := write(t, filepath.Join(t.TempDir(), "password"), []byte("right\n"))
	config, _ := serviceConfig(t, "test:bars?frames=5&each=true", fmt.Sprintf("mqtt: {url: [%q, %q], username: door, password_file: %s}\n",
		"mqtt://"+freeAddress(t), "mqtt://"+good, password))
	if err := os.Chmod(password, 0o644); err != nil {
		t.Fatal(err)
	}
	s := startService(t, config)
	status := s.when("the events are delivered", func(s *daemon.Status) bool { return s.MQTT.Connected && s.MQTT.Published == 5 })
	if status.MQTT.Broker != "mqtt://"+good {
		t.Errorf("the status says %+v, wanted the broker %s", status.MQTT, good)
	}
	wantParts(t, strings.Join(status.MQTT.Warnings, "; "), "mqtt.password_file", password, "chmod o=")
	wantParts(t, s.log.String(), "connected to the broker", "broker=mqtt://"+good)

	found, _ := exec.Command(testenv.Sightd(t), "doctor", "-c", config).Output() // its status is about this machine
	wantParts(t, string(found), "warning", "mqtt.password_file", "chmod o=")
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	found, _ = exec.Command(testenv.Sightd(t), "doctor", "-c", config).Output()
	wantParts(t, string(found), "missing", "mqtt.password_file: open "+password)

	// A start without the file says so too.
	s.stop(syscall.SIGTERM)
	out, err := exec.Command(testenv.Sightd(t), "run", "-c", config).CombinedOutput()
	if err == nil {
		t.Error("it starts without its password")
	}
	wantParts(t, string(out), password)
}
