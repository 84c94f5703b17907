package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// bePublisher is the process that publishes: it says on its standard output up to
// which number each camera's events are in the file.
func bePublisher() error {
	life, err := strconv.ParseUint(os.Getenv("PUBLISHER_LIFE"), 10, 31)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	o, err := OpenOutbox(os.Getenv("PUBLISHER_OUTBOX"), Limits{}, Always, log)
	if err != nil {
		return err
	}
	c, err := New(Options{URL: os.Getenv("PUBLISHER_URL"), Device: "dev1", Outbox: o, Log: log})
	if err != nil {
		return err
	}
	c.timing = quick()
	c.timing.connect, c.timing.ack, c.timing.write = 2*time.Second, 2*time.Second, 2*time.Second
	c.timing.keepAlive, c.timing.ping = time.Second, time.Second
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	if os.Getenv("PUBLISHER_LAST") != "" {
		ctx, stop := context.WithTimeout(ctx, 5*time.Minute)
		defer stop()
		if err := c.Drain(ctx); err != nil {
			return err
		}
		cancel()
		return <-ran
	}
	return publishForever(c, o, life)
}

func publishForever(c *Client, o *Outbox, life uint64) error {
	type appended struct {
		seq    uint64 // in the outbox
		camera int
		number uint64
	}
	var waiting []appended
	var numbers [3]uint64
	for i := range numbers {
		numbers[i] = life << lifeBits
	}
	for {
		if c.Stats().Queued < 3000 {
			for range rand.IntN(12) {
				camera := rand.IntN(len(numbers))
				e := event(fmt.Sprint("cam", camera), int(numbers[camera]+1))
				if err := c.Publish(e); err != nil {
					return err
				}
				numbers[camera]++
				o.mu.Lock()
				waiting = append(waiting, appended{o.last, camera, numbers[camera]})
				o.mu.Unlock()
			}
		}
		time.Sleep(10 * time.Millisecond)
		o.mu.Lock()
		split, failing := o.split, o.failing
		o.mu.Unlock()
		if failing != nil {
			return failing
		}
		safe := [len(numbers)]uint64{}
		for len(waiting) > 0 && waiting[0].seq <= split {
			safe[waiting[0].camera] = waiting[0].number
			waiting = waiting[1:]
		}
		for camera, n := range safe {
			if n > 0 {
				fmt.Printf("cam%d %d\n", camera, n)
			}
		}
		for cause, n := range c.Stats().Dropped {
			if n > 0 {
				return fmt.Errorf("%d events dropped: %s", n, cause)
			}
		}
	}
}
