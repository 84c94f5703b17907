package daemon

import (
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sightd/sightd/camera"
)

func testFrame(at time.Duration) camera.Frame { return camera.Frame{Captured: int64(at)} }

// subscriber keeps what a broker sends it, by topic.
type subscriber struct {
	mu       sync.Mutex
	payloads map[string][]string
}

// subscribe keeps trying until the broker is there, so that it can be called
// before the daemon that holds it starts. It sees all of sightd, and what else is
// asked for.
func subscribe(t *testing.T, url string, also ...string) *subscriber {
	t.Helper()
	s := &subscriber{payloads: map[string][]string{}}
	o := paho.NewClientOptions().AddBroker(url).SetClientID("test-subscriber").
		SetConnectRetry(true).SetConnectRetryInterval(5 * time.Millisecond).SetOrderMatters(true).
		SetAutoReconnect(false).
		SetOnConnectHandler(func(c paho.Client) {
			filters := map[string]byte{"sightd/#": 1}
			for _, filter := range also {
				filters[filter] = 1
			}
			c.SubscribeMultiple(filters, func(_ paho.Client, m paho.Message) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.payloads[m.Topic()] = append(s.payloads[m.Topic()], string(m.Payload()))
			})
		})
	c := paho.NewClient(o)
	c.Connect()
	t.Cleanup(func() { c.Disconnect(50) })
	return s
}

func (s *subscriber) on(topic string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.payloads[topic]...)
}

func (s *subscriber) last(topic string) string {
	all := s.on(topic)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}
