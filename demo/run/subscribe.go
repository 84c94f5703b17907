package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

const (
	topics = "sightd/demo/#"

	brokerTime = 15 * time.Second // for the daemon to open its broker
)

// message is what the broker passed on.
type message struct {
	topic   string
	payload []byte
}

// subscribe connects to the broker as soon as the daemon has opened it.
func subscribe(ctx context.Context, d *daemonProcess, broker string) (<-chan message, error) {
	messages := make(chan message, 256)
	options := paho.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("sightd-demo").
		SetConnectTimeout(time.Second)
	client := paho.NewClient(options)
	deadline := time.After(brokerTime)
	for {
		token := client.Connect()
		token.Wait()
		if token.Error() == nil {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			return nil, fmt.Errorf("connect to the broker at %s: %w", broker, token.Error())
		case <-d.ended:
			return nil, errors.New("sightd ended at once")
		case <-ctx.Done():
			return nil, errInterrupted
		}
	}
	token := client.Subscribe(topics, 1, func(_ paho.Client, m paho.Message) {
		select {
		case messages <- message{m.Topic(), m.Payload()}:
		case <-ctx.Done():
		}
	})
	if token.Wait(); token.Error() != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topics, token.Error())
	}
	return messages, nil
}
