package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// A watcher subscribes to all events, with a session that its broker keeps.
type watcher struct {
	client  paho.Client
	devices map[string]*device
	start   time.Time

	arrived    atomic.Int64 // each event once
	duplicates atomic.Int64
	disordered atomic.Int64 // came after a later one of its camera

	mu    sync.Mutex
	last  map[string]int // the highest number so far, by device
	wrong []error
	said  []string
}

func (w *watcher) subscribe(urls []string, patience time.Duration) error {
	o := paho.NewClientOptions().SetClientID("fleet-bench").SetUsername("dashboard").SetPassword("dashboard-password")
	for _, u := range urls {
		o.AddBroker(u)
	}
	o.SetCleanSession(false).SetMaxReconnectInterval(time.Second).SetConnectRetry(true).SetConnectRetryInterval(time.Second)
	w.last = map[string]int{}
	o.SetDefaultPublishHandler(w.take)
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { w.say("lost its session: %v", err) })
	o.SetOnConnectHandler(func(paho.Client) { w.say("has a session") })
	w.client = paho.NewClient(o)
	if t := w.client.Connect(); !t.WaitTimeout(patience) || t.Error() != nil {
		return fmt.Errorf("connect the subscriber: %w", errors.Join(t.Error(), errLate))
	}
	const filter = "sightd/+/+/events"
	t := w.client.Subscribe(filter, 1, nil)
	if !t.WaitTimeout(patience) || t.Error() != nil {
		return fmt.Errorf("subscribe: %w", errors.Join(t.Error(), errLate))
	}
	if t.(*paho.SubscribeToken).Result()[filter] > 2 {
		return fmt.Errorf("the broker refuses the subscription to %s", filter)
	}
	return nil
}

// say notes what became of the subscriber.
func (w *watcher) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf("%v ", time.Since(w.start).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

var errLate = errors.New("not within the time that it has")

func (w *watcher) take(_ paho.Client, m paho.Message) {
	now := time.Since(w.start)
	var e struct {
		ID   string
		Data struct{ Frame struct{ Seq int } }
	}
	err := json.Unmarshal(m.Payload(), &e)
	levels := strings.Split(m.Topic(), "/")
	var d *device
	if err == nil {
		if d = w.devices[levels[1]]; d == nil {
			err = fmt.Errorf("an event of %s, which isn't there", levels[1])
		}
	}
	again := false
	if err == nil {
		again, err = d.arrive(e.Data.Frame.Seq, e.ID, now)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil:
		w.wrong = append(w.wrong, err)
	case again:
		w.duplicates.Add(1)
	default:
		w.arrived.Add(1)
		if e.Data.Frame.Seq < w.last[d.name] {
			w.disordered.Add(1)
		} else {
			w.last[d.name] = e.Data.Frame.Seq
		}
	}
}
