package mqtt

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// listen subscribes to the commands that are allowed, and to no other topic. The
// session doesn't wait for it: a broker that refuses gets the events all the
// same.
func (s *session) listen() (end func()) {
	c := s.c.commands
	if len(c.all) == 0 {
		return func() {}
	}
	over := make(chan struct{})
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	filters := map[string]byte{}
	for name := range c.all {
		filters[s.c.Topic(TopicCommand(name))] = 1
	}
	// Subscribe can block for the write timeout.
	go func() {
		token := s.client.SubscribeMultiple(filters, s.c.arrived)
		late := time.NewTimer(s.c.timing.ack)
		defer late.Stop()
		select {
		case <-token.Done():
			c.said(s, granted(token, filters))
		case <-late.C:
			c.said(s, fmt.Errorf("the broker doesn't answer SUBSCRIBE within %v", s.c.timing.ack))
		case <-over:
		}
	}()
	return func() {
		close(over)
		c.mu.Lock()
		c.session, c.stats.Listening = nil, false
		c.mu.Unlock()
	}
}

// granted says what the broker refused of a subscription.
func granted(token paho.Token, filters map[string]byte) error {
	if err := token.Error(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	var refused []string
	result := token.(*paho.SubscribeToken).Result()
	for _, topic := range slices.Sorted(maps.Keys(filters)) {
		if code, ok := result[topic]; !ok || code > 2 {
			refused = append(refused, topic)
		}
	}
	if len(refused) > 0 {
		return fmt.Errorf("the broker refuses the subscription to %s: its access list has to let this device read there", strings.Join(refused, ", "))
	}
	return nil
}

// arrived is paho's handler; it may not wait.
func (c *Client) arrived(_ paho.Client, m paho.Message) {
	c.commands.arrive(c.commandOf(m.Topic()), m.Retained(), len(m.Payload()), m.Payload())
}

// skipped is told of a message that was too large to be read.
func (c *Client) skipped(topic string, retained bool, size int) {
	c.commands.arrive(c.commandOf(topic), retained, size, nil)
}

// commandOf is the command's name in a topic; empty where it is none.
func (c *Client) commandOf(topic string) string {
	name, ok := strings.CutPrefix(topic, c.Topic(TopicCommand("")))
	if !ok {
		return ""
	}
	return name
}

// reply has a payload sent in this session or the next. The oldest goes where
// many wait: who misses it repeats the id.
func (c *commands) reply(name string, payload []byte) {
	c.mu.Lock()
	if len(c.replies) == maxReplies {
		c.replies = append(c.replies[:0], c.replies[1:]...)
		c.stats.RepliesLost++
	}
	c.replies = append(c.replies, outgoing{TopicReply(name), payload})
	c.mu.Unlock()
	c.stir()
}

// next gives the reply to send.
func (c *commands) next() (outgoing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.replies) == 0 {
		return outgoing{}, false
	}
	r := c.replies[0]
	c.replies[0] = outgoing{}
	c.replies = c.replies[1:]
	return r, true
}

// said sets whether the session listens, and logs what changes.
func (c *commands) said(s *session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s {
		return // it has ended meanwhile
	}
	before := c.stats.Error
	c.stats.Listening, c.stats.Error = err == nil, ""
	if err != nil {
		c.stats.Error = err.Error()
	}
	switch {
	case err != nil && before != c.stats.Error:
		c.log.Error("commands can't be received; everything else goes on", "err", err)
	case err == nil && before != "":
		c.log.Info("commands are received again", "before", before)
	}
}
