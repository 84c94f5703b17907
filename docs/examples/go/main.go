// Command go is a subscriber of sightd that misses nothing and takes each event
// once: go run ./docs/examples/go -broker tcp://broker:1883 -id my-subscriber.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// An event holds what this program wants of a CloudEvent of sightd; see
// docs/schemas/event.json for the rest.
type event struct {
	ID     string `json:"id"`
	Source string `json:"source"` // /PREFIX/DEVICE/CAMERA
	Data   struct {
		Camera string `json:"camera"`
		Label  string `json:"label"`
	} `json:"data"`
}

func main() {
	broker := flag.String("broker", "tcp://127.0.0.1:1883", "URL of the broker")
	id := flag.String("id", "sightd-subscriber", "client id: one for each subscriber, the same at each start")
	prefix := flag.String("prefix", "sightd", "mqtt.prefix of the devices")
	file := flag.String("store", "events.jsonl", "file that the events are appended to")
	flag.Parse()

	s, err := openStore(*file)
	if err != nil {
		log.Fatal(err)
	}
	o := mqtt.NewClientOptions().AddBroker(*broker).SetClientID(*id).
		SetCleanSession(false). // the broker keeps what comes while this program is away
		SetOrderMatters(true).  // one message after the other
		SetConnectRetry(true).  // at the start, too
		SetMaxReconnectInterval(time.Minute)
	// What the session has kept comes before any Subscribe is called, so it is the
	// handler for all topics that takes it. A message is acknowledged when the
	// handler returns: by then the event must be safe.
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { handle(s, *prefix, m) })
	o.SetOnConnectHandler(func(c mqtt.Client) {
		token := c.SubscribeMultiple(map[string]byte{
			*prefix + "/+/+/events":           1,
			*prefix + "/+/status":             1,
			*prefix + "/+/+/status":           1,
			*prefix + "/+/+/classification/+": 1,
		}, nil)
		go func() { // a handler mustn't wait
			if token.Wait(); token.Error() != nil {
				log.Print("subscribe: ", token.Error())
			}
		}()
	})
	client := mqtt.NewClient(o)
	client.Connect()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	client.Disconnect(250)
}

func handle(s *store, prefix string, m mqtt.Message) {
	levels := strings.Split(strings.TrimPrefix(m.Topic(), prefix+"/"), "/")
	switch {
	case len(levels) == 3 && levels[2] == "events":
		var e event
		if err := json.Unmarshal(m.Payload(), &e); err != nil || e.ID == "" {
			log.Printf("%s: no event: %q", m.Topic(), m.Payload())
			return
		}
		isNew, err := s.add(e, m.Payload())
		if err != nil {
			// To end without having acknowledged is safe: it comes again.
			log.Fatal(err)
		}
		if isNew {
			fmt.Println("event", e.ID, levels[0], e.Data.Camera, e.Data.Label)
		}
	case len(m.Payload()) == 0:
		fmt.Println("gone", strings.Join(levels, "/")) // the camera or model was removed
	default: // a state; while the device is offline the others may be out of date
		fmt.Println("state", strings.Join(levels, "/"), string(m.Payload()))
	}
}

// remembered is how many ids are kept of each camera. Duplicates come within the
// last few hundred of its events, however long it was away in between.
const remembered = 1000

// A store appends each event once to a file.
type store struct {
	file  *os.File
	known map[string][]string // ids by source, oldest first
}

// openStore reads the ids of the events that are there.
func openStore(path string) (*store, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	s := &store{file: file, known: map[string][]string{}}
	var whole int64
	for r := bufio.NewReader(file); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			// A line without its end was cut off by a crash. It wasn't acknowledged,
			// so its event comes again.
			if err := file.Truncate(whole); err != nil {
				return nil, err
			}
			_, err = file.Seek(whole, 0)
			return s, err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s, byte %d: %w", path, whole, err)
		}
		whole += int64(len(line))
		s.remember(e)
	}
}

// add reports whether the event wasn't there. It is on the disk when add returns.
func (s *store) add(e event, payload []byte) (bool, error) {
	if slices.Contains(s.known[e.Source], e.ID) {
		return false, nil
	}
	if bytes.ContainsRune(payload, '\n') {
		return false, errors.New("an event of several lines")
	}
	if _, err := s.file.Write(append(payload, '\n')); err != nil {
		return false, err
	}
	if err := s.file.Sync(); err != nil {
		return false, err
	}
	s.remember(e)
	return true, nil
}

func (s *store) remember(e event) {
	ids := append(s.known[e.Source], e.ID)
	s.known[e.Source] = ids[max(0, len(ids)-remembered):]
}
