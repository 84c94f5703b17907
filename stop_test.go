package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/mqtt"
)

func online(s *daemon.Status) bool { return s.Ready && s.MQTT.Connected }

func TestASignalStopsTheDaemonInOrder(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			broker, err := mqtt.StartBroker("127.0.0.1:0", nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { broker.Close() })
			config, _ := serviceConfig(t, "test:bars", fmt.Sprintf("mqtt: {url: %q}\n", broker.URL()))
			said := subscribe(t, broker.URL(), "sightd/here/status")

			s := startService(t, config)
			s.when("serving", online)
			if status := s.stop(signal); status != 0 {
				t.Errorf("exit status %d", status)
			}
			for _, want := range []string{mqtt.Online, mqtt.Offline} {
				for got := ""; got != want; {
					select {
					case got = <-said:
					case <-time.After(time.Minute):
						t.Fatalf("%s wasn't published", want)
					}
				}
			}
		})
	}
}

// subscribe gives what a broker has on a topic, and gets from now on.
func subscribe(t *testing.T, url, topic string) <-chan string {
	t.Helper()
	said := make(chan string, 100)
	c := paho.NewClient(paho.NewClientOptions().AddBroker(url).SetClientID("subscriber"))
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(50) })
	token := c.Subscribe(topic, 1, func(_ paho.Client, m paho.Message) { said <- string(m.Payload()) })
	if token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	return said
}

func TestASecondDaemonOnTheSameStateIsRefused(t *testing.T) {
	t.Parallel()
	config, state := serviceConfig(t, "test:bars", "")
	first := startService(t, config)
	first.when("serving", func(s *daemon.Status) bool { return s.Ready })
	before := listing(t, state)

	wantRefusal(t, command(t, "run", "-c", config), 1,
		"state directory "+state+" is in use by process "+fmt.Sprint(first.process.Pid))
	if first.when("answering", func(s *daemon.Status) bool { return s.Ready }); len(before) != len(listing(t, state)) {
		t.Errorf("the state directory has changed: %v", listing(t, state))
	}
	if status := first.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
