package mqtt

import (
	"testing"
)

func TestClientDeliversEventsAndStates(t *testing.T) {
	t.Parallel()
	b := broker(t)
	seen := subscribe(t, b.URL(), "sightd/#")
	c := newClient(t, Options{URL: b.URL()}, quick())
	stop := run(t, c)
	for i := range 200 {
		if err := c.Publish(event("cam0", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	c.SetState(TopicClassification("cam0", "m"), []byte("person"))
	drain(t, c)
	eventually(t, "200 events", func() bool { return len(seen.on("sightd/dev1/cam0/events")) >= 200 })
	wantSequence(t, sequence(t, seen.on("sightd/dev1/cam0/events")), 200)
	eventually(t, "the label", func() bool { return seen.last("sightd/dev1/cam0/classification/m") == "person" })
	eventually(t, "online", func() bool { return seen.last("sightd/dev1/status") == Online })
	s := c.Stats()
	if s.Published != 200 || s.Acked != 200 || s.Queued != 0 || s.QueuedBytes != 0 || !s.Connected {
		t.Errorf("stats are %+v", s)
	}
	stop()
	eventually(t, "offline", func() bool { return seen.last("sightd/dev1/status") == Offline })
}
