package mqtt

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sightd/sightd/internal/natscluster"
	"github.com/sightd/sightd/internal/testenv"
)

// clusterPatience is how long a test waits for three servers that elect a leader
// for each of their streams, on a machine that does much else.
const clusterPatience = 3 * time.Minute

// A cluster is three NATS servers under docs/fleet, and what their users need to
// log in.
type cluster struct {
	*natscluster.Cluster
	t      *testing.T
	scheme string
	ca     *authority // nil: no TLS
}

// startCluster starts one. With TLS, change may ask for more.
func startCluster(t *testing.T, secure bool, change func(*natscluster.Options)) *cluster {
	t.Helper()
	program := testenv.NATSServer(t)
	hosts, err := natscluster.Hosts()
	if err != nil {
		t.Fatal(err)
	}
	o := natscluster.Options{Program: program, Configs: filepath.Join(testenv.Root(), "docs", "fleet"), Dir: t.TempDir()}
	c := &cluster{t: t, scheme: "mqtt"}
	if secure {
		c.scheme, c.ca = "mqtts", newAuthority(t, "fleet")
		o.ServerCert, o.ServerKey = c.ca.issue(t, "broker", time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth, hosts...)
		o.DeviceCA = c.ca.file
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), clusterPatience)
	defer cancel()
	if c.Cluster, err = natscluster.Start(ctx, o, hosts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, n := range c.Nodes {
				t.Logf("%s: %s", n.Name, n.LastWords())
			}
		}
	})
	return c
}

// device gives the options of one of the fleet, whose list of brokers starts
// with node first.
func (c *cluster) device(name string, first int) Options {
	c.t.Helper()
	urls := c.URLs(c.scheme)
	urls = append(urls[first:], urls[:first]...)
	o := Options{URL: urls[0], Others: urls[1:], Device: name, Username: name}
	o.PasswordFile = filepath.Join(c.t.TempDir(), "password")
	if err := os.WriteFile(o.PasswordFile, []byte("device-password"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if c.ca != nil {
		o.CAFile = c.ca.file
	}
	return o
}

// run runs a device with the limits for hanging that a busy cluster needs.
func (c *cluster) run(o Options) (*Client, func()) {
	c.t.Helper()
	tm := quick()
	tm.connect, tm.ack = 30*time.Second, time.Minute
	d := newClient(c.t, o, tm)
	return d, run(c.t, d)
}

// watch subscribes as a user who isn't a device, at a node and then at those
// that are left.
func (c *cluster) watch(user string, first int, filters ...string) *subscriber {
	c.t.Helper()
	s := &subscriber{}
	o := paho.NewClientOptions().SetClientID(fmt.Sprint("watch-", watchers.Add(1))).SetUsername(user).SetPassword(user + "-password")
	for i := range c.Nodes {
		o.AddBroker(c.URLs(c.scheme)[(first+i)%len(c.Nodes)])
	}
	if c.ca != nil {
		options := Options{CAFile: c.ca.file}
		config, err := options.tlsConfig(target{scheme: "mqtts", host: strings.Split(c.Nodes[0].Address, ":")[0]})
		if err != nil {
			c.t.Fatal(err)
		}
		config.ServerName = "" // each node's own address
		o.SetTLSConfig(config)
	}
	o.SetCleanSession(false).SetMaxReconnectInterval(100 * time.Millisecond).SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		s.mu.Lock()
		s.messages = append(s.messages, m)
		s.mu.Unlock()
	})
	s.client = paho.NewClient(o)
	if tok := s.client.Connect(); !tok.WaitTimeout(clusterPatience) || tok.Error() != nil {
		c.t.Fatalf("connect %s to the cluster: %v", user, tok.Error())
	}
	c.t.Cleanup(func() { s.client.Disconnect(250) })
	for _, f := range filters {
		tok := s.client.Subscribe(f, 1, nil)
		if !tok.WaitTimeout(clusterPatience) || tok.Error() != nil {
			c.t.Fatalf("subscribe to %s: %v", f, tok.Error())
		}
		if code := tok.(*paho.SubscribeToken).Result()[f]; code > 2 {
			c.t.Fatalf("subscribe to %s as %s: the broker refuses", f, user)
		}
	}
	return s
}

func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	within(c.t, clusterPatience, what, ok)
}

func (c *cluster) drain(d *Client) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clusterPatience)
	defer cancel()
	if err := d.Drain(ctx); err != nil {
		c.t.Fatal(err)
	}
}

// log is what a node has logged.
func (c *cluster) log(node int) string {
	b, err := os.ReadFile(c.Nodes[node].Log)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// The contract of docs/asyncapi.yaml, with a password over TLS; who publishes and
// who subscribes are at different nodes.
func TestNATSCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, true, nil)
	seen := c.watch("dashboard", 1, "sightd/#")
	d, stop := c.run(c.device("hall-1", 0))
	const n = 50
	for i := range n {
		for _, camera := range []string{"cam0", "cam1"} {
			if err := d.Publish(event(camera, i+1)); err != nil {
				t.Fatal(err)
			}
		}
		d.SetState(TopicClassification("cam0", "m"), []byte(fmt.Sprint("person ", i+1)))
	}
	c.drain(d)
	for _, camera := range []string{"cam0", "cam1"} {
		topic := "sightd/hall-1/" + camera + "/events"
		c.eventually("the events of "+camera, func() bool { return len(seen.on(topic)) >= n })
		wantSequence(t, sequence(t, seen.on(topic)), n)
	}
	const label = "sightd/hall-1/cam0/classification/m"
	c.eventually("the last state", func() bool { return seen.last(label) == fmt.Sprint("person ", n) })
	c.eventually("online", func() bool { return seen.last("sightd/hall-1/status") == Online })

	late := c.watch("dashboard", 2, "sightd/+/status", "sightd/+/+/classification/+")
	c.eventually("the retained states", func() bool {
		return late.last("sightd/hall-1/status") == Online && late.last(label) == fmt.Sprint("person ", n)
	})
	stop()
	c.eventually("the clean offline", func() bool { return late.last("sightd/hall-1/status") == Offline })
	if s := d.Stats(); s.Reconnects != 0 {
		t.Errorf("stats are %+v, want one session", s)
	}
}

func TestNATSPublishesTheWill(t *testing.T) {
	t.Parallel()
	c := startCluster(t, false, nil)
	seen := c.watch("dashboard", 1, "sightd/+/status")
	p := startProxy(t, c.Nodes[0].Address)
	o := c.device("hall-1", 0)
	o.URL, o.Others = p.url(), nil
	c.run(o)
	c.eventually("online", func() bool { return seen.last("sightd/hall-1/status") == Online })
	p.block(true)
	p.cut()
	c.eventually("the will", func() bool { return seen.last("sightd/hall-1/status") == Offline })
	late := c.watch("dashboard", 2, "sightd/+/status")
	c.eventually("the will, retained", func() bool { return late.last("sightd/hall-1/status") == Offline })
	p.block(false)
	c.eventually("online again", func() bool { return late.last("sightd/hall-1/status") == Online })
}

// Each device has its own topics. What it publishes elsewhere the broker
// acknowledges and throws away, which only the broker's log tells; a
// subscription elsewhere it refuses.
func TestNATSKeepsDevicesApart(t *testing.T) {
	t.Parallel()
	c := startCluster(t, false, nil)
	seen := c.watch("dashboard", 1, "sightd/#")
	honest := &echo{}
	commanded := func(o Options, e *echo) Options {
		o.Commands, o.CommandDir = map[string]Command{"echo": e.command()}, t.TempDir()
		o.Clock = func() error { return nil }
		return o
	}
	own, _ := c.run(commanded(c.device("hall-1", 0), honest))
	c.eventually("the subscription", func() bool { return own.Stats().Commands.Listening })
	operator := c.watch("operator", 2, "sightd/+/command/+/reply")
	command := func(device string) {
		tok := operator.client.Publish("sightd/"+device+"/command/echo", 1, false, saying("a", "hello"))
		if !tok.WaitTimeout(clusterPatience) || tok.Error() != nil {
			t.Fatalf("publish a command: %v", tok.Error())
		}
	}
	command("hall-1")
	c.eventually("the reply", func() bool { return len(operator.on("sightd/hall-1/command/echo/reply")) == 1 })

	// hall-1's password, hall-2's name.
	o := c.device("hall-1", 0)
	o.Device = "hall-2"
	thief, stop := c.run(commanded(o, &echo{}))
	if err := thief.Publish(event("cam0", 1)); err != nil {
		t.Fatal(err)
	}
	c.drain(thief)
	c.eventually("the refused subscription", func() bool { return thief.Stats().Commands.Error != "" })
	wantWords(t, thief.Stats().Commands.Error, "refuses the subscription", "sightd/hall-2/command/echo")
	c.eventually("the broker's log to tell", func() bool {
		return strings.Contains(c.log(0), "Publish Violation") && strings.Contains(c.log(0), "sightd.hall-2.cam0.events")
	})
	stop() // the two would have one client id

	victim, _ := c.run(c.device("hall-2", 1))
	if err := victim.Publish(event("cam0", 7)); err != nil {
		t.Fatal(err)
	}
	c.eventually("the true event", func() bool { return len(seen.on("sightd/hall-2/cam0/events")) > 0 })
	if got := sequence(t, seen.on("sightd/hall-2/cam0/events")); len(got) != 1 || got[0] != 7 {
		t.Errorf("events of hall-2 are %v, want its own alone", got)
	}

	wrong := c.device("hall-1", 0)
	writeFile(t, wrong.PasswordFile, "wrong")
	refused, _ := c.run(wrong)
	c.eventually("a refusal", func() bool { return refused.Status().Failures > 0 })
	wantWords(t, refused.Status().Error, "not authorised", "mqtt.password_file")
}

// A device is who its certificate says; no password is asked for.
func TestNATSClientCertificates(t *testing.T) {
	t.Parallel()
	c := startCluster(t, true, func(o *natscluster.Options) {
		o.Certificates = true
		o.Users = `users: [{ user: "CN=hall-1", allowed_connection_types: [MQTT], permissions: {
			publish: { allow: ["sightd.hall-1.>"] }, subscribe: { allow: ["sightd.hall-1.command.*"] } } }]`
	})
	o := Options{URL: c.URLs("mqtts")[0], Device: "hall-1", CAFile: c.ca.file}
	hour := time.Now().Add(time.Hour)
	o.CertFile, o.KeyFile = c.ca.issue(t, "hall-1", hour, x509.ExtKeyUsageClientAuth)
	d, _ := c.run(o)
	d.SetState(TopicCameraStatus("cam0"), []byte(Online))
	c.drain(d)

	o.CertFile, o.KeyFile = c.ca.issue(t, "hall-9", hour, x509.ExtKeyUsageClientAuth)
	stranger, _ := c.run(o)
	c.eventually("a refusal", func() bool { return stranger.Status().Failures > 0 })
	wantWords(t, stranger.Status().Error, "not authorised")
	o.CertFile, o.KeyFile = "", ""
	nobody, _ := c.run(o)
	c.eventually("a refusal", func() bool { return nobody.Status().Failures > 0 })
	wantWords(t, nobody.Status().Error, "mqtt.cert_file")
}

// A dot is what NATS has between the levels; a space it doesn't take at all.
func TestNATSNames(t *testing.T) {
	t.Parallel()
	c := startCluster(t, false, func(o *natscluster.Options) {
		users, err := os.ReadFile(filepath.Join(o.Configs, "nats-users.conf"))
		if err != nil {
			t.Fatal(err)
		}
		o.Users = strings.NewReplacer("hall-1.", "hall//1.", "user: hall-1", `user: "hall.1"`,
			"hall-2.", "hall 2.", "user: hall-2", `user: "hall 2"`).Replace(string(users))
	})
	seen := c.watch("dashboard", 1, "sightd/#")
	d, stop := c.run(c.device("hall.1", 0))
	if err := d.Publish(event("door.left", 1)); err != nil {
		t.Fatal(err)
	}
	c.drain(d)
	c.eventually("the event", func() bool { return len(seen.on("sightd/hall.1/door.left/events")) == 1 })

	// What a camera with a space says is given up, and counted; the others go on.
	tm := quick()
	tm.connect, tm.ack, tm.suspect = 30*time.Second, time.Minute, 100*time.Millisecond
	o := c.device("hall.1", 0)
	stop()
	d = newClient(t, o, tm)
	run(t, d)
	for _, camera := range []string{"front door", "door.left"} {
		if err := d.Publish(event(camera, 2)); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the event behind it", func() bool { return len(seen.on("sightd/hall.1/door.left/events")) == 2 })
	if n := d.Stats().Dropped[DropRefused]; n != 1 {
		t.Errorf("%d events given up as refused, want 1: %+v", n, d.Stats())
	}

	spaced, _ := c.run(c.device("hall 2", 0))
	c.eventually("a failure", func() bool { return spaced.Status().Failures > 0 })
	wantWords(t, spaced.Status().Error, "closes the connection without a reply")
}
