package mqtt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/natscluster"
)

// A node is killed while devices publish. Its devices go to the nodes that are
// left. Whatever was published arrives, in order for each camera as it comes
// first, and what comes twice has one id. (Of a node that comes back under load
// docs/fleet.md tells.)
func TestNATSLosesANode(t *testing.T) {
	t.Parallel()
	const devices = 6
	c := startCluster(t, false, func(o *natscluster.Options) { o.Users = fleetUsers(t, o.Configs, devices) })
	seen := c.watch("dashboard", 2, "sightd/+/+/events", "sightd/+/status")
	clients := make([]*Client, devices)
	var publishing sync.WaitGroup
	stop := make(chan struct{})
	published := make([]int, devices) // by each camera of a device
	for i := range clients {
		clients[i], _ = c.run(c.device(fmt.Sprint("hall-", i), i%len(c.Nodes)))
		publishing.Add(1)
		go func() {
			defer publishing.Done()
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-pace.C:
				case <-stop:
					return
				}
				published[i]++
				for _, camera := range []string{"cam0", "cam1"} {
					if err := clients[i].Publish(event(camera, published[i])); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	acked := func(more uint64) {
		t.Helper()
		var from []uint64
		for _, d := range clients {
			from = append(from, d.Stats().Acked)
		}
		c.eventually("events of each device to be acknowledged", func() bool {
			for i, d := range clients {
				if d.Stats().Acked < from[i]+more {
					return false
				}
			}
			return true
		})
	}
	acked(50)
	killed := c.Nodes[0]
	if err := killed.Kill(); err != nil {
		t.Fatal(err)
	}
	c.eventually("the devices of the killed node to be at another", func() bool {
		for _, d := range clients {
			if s := d.Status(); !s.Connected || strings.Contains(s.Broker, killed.Address) {
				return false
			}
		}
		return true
	})
	acked(50)
	close(stop)
	publishing.Wait()
	for _, d := range clients {
		c.drain(d)
	}
	for i, d := range clients {
		for _, camera := range []string{"cam0", "cam1"} {
			topic := fmt.Sprintf("sightd/hall-%d/%s/events", i, camera)
			var seqs []uint64
			parsed := 0
			deadline := time.Now().Add(clusterPatience)
			for len(seqs) < published[i] && time.Now().Before(deadline) {
				time.Sleep(50 * time.Millisecond)
				if all := seen.on(topic); len(all) > parsed {
					seqs, parsed = sequence(t, all), len(all)
				}
			}
			if missing := gaps(seqs, published[i]); len(missing) > 0 {
				t.Errorf("%s: %d of %d events arrived in %d messages, not %v", topic, len(seqs), published[i], parsed, missing)
				continue
			}
			wantSequence(t, seqs, published[i])
		}
		c.eventually("online", func() bool { return seen.last(fmt.Sprintf("sightd/hall-%d/status", i)) == Online })
		if s := d.Stats(); s.Acked != uint64(2*published[i]) {
			t.Errorf("hall-%d has %d events acknowledged of %d", i, s.Acked, 2*published[i])
		}
	}
}

// gaps are those of 1 to n that seqs hasn't.
func gaps(seqs []uint64, n int) (missing []uint64) {
	have := make([]bool, n+1)
	for _, s := range seqs {
		have[s] = true
	}
	for i := 1; i <= n; i++ {
		if !have[i] {
			missing = append(missing, uint64(i))
		}
	}
	return missing
}

// fleetUsers is what nats-users.conf says, with hall-0, hall-1 and so on for the
// devices.
func fleetUsers(t *testing.T, configs string, devices int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(configs, "nats-users.conf"))
	if err != nil {
		t.Fatal(err)
	}
	users, err := natscluster.Fleet(string(b), "hall-", devices)
	if err != nil {
		t.Fatal(err)
	}
	return users
}
