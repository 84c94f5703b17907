package mqtt

import (
	"net"
	"sync"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A scripted is a server that misbehaves as a test says.
type scripted struct {
	listener net.Listener
	all      sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
	accepted int
}

// script starts a server whose connections are each given to handle.
func script(t *testing.T, handle func(net.Conn)) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{listener: l}
	s.all.Add(1)
	go func() {
		defer s.all.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.accepted++
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.all.Add(1)
			go func() {
				defer s.all.Done()
				defer c.Close()
				handle(c)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.all.Wait()
	})
	return s
}

func (s *scripted) url() string { return "mqtt://" + s.listener.Addr().String() }

func (s *scripted) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// connack answers a CONNECT with a return code.
func connack(c net.Conn, code byte) bool {
	if _, err := packets.ReadPacket(c); err != nil {
		return false
	}
	reply := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	reply.ReturnCode = code
	return reply.Write(c) == nil
}

// receive reads what a client sends until its connection ends; publish decides
// whether a message is acknowledged. Pings are answered.
func receive(c net.Conn, publish func(*packets.PublishPacket) bool) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.PublishPacket:
			if publish(p) {
				ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				ack.MessageID = p.MessageID
				if ack.Write(c) != nil {
					return
				}
			}
		case *packets.PingreqPacket:
			if packets.NewControlPacket(packets.Pingresp).Write(c) != nil {
				return
			}
		case *packets.DisconnectPacket:
			return
		}
	}
}
