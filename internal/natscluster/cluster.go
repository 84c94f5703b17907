// Package natscluster runs a cluster of three NATS servers with MQTT on this
// machine, as processes that can be killed, under the configuration of
// docs/fleet. Tests and the fleet's measurement use it.
package natscluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Nodes is how many a cluster has: the least that goes on without one.
const Nodes = 3

// Ports of each node, on an address of its own.
const (
	portClients = 4222
	portCluster = 6222
	portMQTT    = 1883
	portMonitor = 8222
)

// Options of a cluster.
type Options struct {
	Program string // nats-server
	Configs string // the folder docs/fleet
	Dir     string // where configuration, data and logs of this cluster go; its owner removes it

	// Users is what nats-users.conf says; empty: as it lies in Configs.
	Users string
	// TLS is on where ServerCert is named: PEM files, valid for the nodes'
	// addresses. Certificates has devices log in by theirs.
	ServerCert, ServerKey, DeviceCA string
	Certificates                    bool
}

// A Cluster is three nodes on three addresses of the loopback, which nobody
// else uses, so that a node that was killed finds its ports free.
type Cluster struct {
	Nodes []*Node
}

// A Node is one server. Its methods are for one goroutine.
type Node struct {
	Name    string
	Address string // of MQTT, HOST:PORT
	Monitor string // http://HOST:PORT
	Log     string // file

	program, config string
	env             []string
	cmd             *exec.Cmd
	ended           chan struct{}
}

// Start starts the three and waits until they are one cluster. Close ends them.
func Start(ctx context.Context, o Options, hosts []string) (*Cluster, error) {
	if err := o.write(); err != nil {
		return nil, err
	}
	c := &Cluster{}
	for i, host := range hosts {
		n := &Node{
			Name:    fmt.Sprintf("broker-%d", i+1),
			Address: fmt.Sprintf("%s:%d", host, portMQTT),
			Monitor: fmt.Sprintf("http://%s:%d", host, portMonitor),
			program: o.Program, config: filepath.Join(o.Dir, "nats.conf"),
		}
		n.Log = filepath.Join(o.Dir, n.Name+".log")
		n.env = []string{
			"NODE=" + n.Name, "MQTT=" + n.Address, "ADMIN_PASSWORD=admin-password",
			fmt.Sprintf("CLIENTS=%s:%d", host, portClients),
			fmt.Sprintf("MONITOR=%s:%d", host, portMonitor),
			fmt.Sprintf("CLUSTER=%s:%d", host, portCluster),
			"STORE=" + filepath.Join(o.Dir, n.Name),
			"SERVER_CERT=" + o.ServerCert, "SERVER_KEY=" + o.ServerKey, "DEVICE_CA=" + o.DeviceCA,
		}
		for j, other := range hosts {
			n.env = append(n.env, fmt.Sprintf("ROUTE%d=nats://%s:%d", j+1, other, portCluster))
		}
		c.Nodes = append(c.Nodes, n)
	}
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if err := c.Ready(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Hosts gives three addresses of the loopback that nobody listens on.
func Hosts() ([]string, error) {
	for range 20 {
		net8 := fmt.Sprintf("127.%d.%d", 16+rand.IntN(200), rand.IntN(256))
		hosts := make([]string, Nodes)
		free := true
		for i := range hosts {
			hosts[i] = fmt.Sprintf("%s.%d", net8, i+1)
			l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", hosts[i], portMQTT))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return hosts, nil
		}
	}
	return nil, errors.New("find a free network of the loopback (127.0.0.0/8) for three brokers: something listens in each that was tried")
}

// write puts the configuration where it can be changed.
func (o *Options) write() error {
	for _, name := range []string{"nats.conf", "nats-tls.conf", "nats-accounts.conf", "nats-users.conf"} {
		b, err := os.ReadFile(filepath.Join(o.Configs, name))
		if err != nil {
			return err
		}
		switch name {
		case "nats.conf":
			if o.ServerCert == "" {
				b, err = replaceOnce(b, "include nats-tls.conf", "# no TLS here")
			}
		case "nats-tls.conf":
			if o.Certificates {
				b, err = replaceOnce(b, "#verify_and_map: true", "verify_and_map: true")
			}
		case "nats-users.conf":
			if o.Users != "" {
				b = []byte(o.Users)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(o.Dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Fleet is nats-users.conf with so many devices, named by prefix and a number
// from 0, in place of its two examples.
func Fleet(users, prefix string, devices int) (string, error) {
	const begins, next = "  {\n    user: hall-1\n", "  {\n    user: hall-2\n"
	from, second := strings.Index(users, begins), strings.Index(users, next)
	if from < 0 || second < from {
		return "", errors.New("nats-users.conf: no devices hall-1 and hall-2, one behind the other")
	}
	example := users[from:second]
	rest := strings.TrimPrefix(users[second:], strings.ReplaceAll(example, "hall-1", "hall-2"))
	if len(rest) == len(users[second:]) {
		return "", errors.New("nats-users.conf: hall-2 isn't allowed the same as hall-1")
	}
	var b strings.Builder
	b.WriteString(users[:from])
	for i := range devices {
		b.WriteString(strings.ReplaceAll(example, "hall-1", fmt.Sprint(prefix, i)))
	}
	b.WriteString(rest)
	return b.String(), nil
}

func replaceOnce(b []byte, old, by string) ([]byte, error) {
	if n := bytes.Count(b, []byte(old)); n != 1 {
		return nil, fmt.Errorf("has %q %d times, want once", old, n)
	}
	return bytes.Replace(b, []byte(old), []byte(by), 1), nil
}

// URLs are the nodes' for devices, mqtt:// or mqtts://.
func (c *Cluster) URLs(scheme string) []string {
	var all []string
	for _, n := range c.Nodes {
		all = append(all, scheme+"://"+n.Address)
	}
	return all
}

// Ready waits until every node that runs sees a leader of three and is up to date.
func (c *Cluster) Ready(ctx context.Context) error {
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for _, n := range c.Nodes {
		if !n.Runs() {
			continue
		}
		for {
			said := n.unready(ctx, &client)
			if said == nil {
				break
			}
			select {
			case <-n.ended:
				return fmt.Errorf("%s ended: %s", n.Name, n.LastWords())
			case <-ctx.Done():
				return fmt.Errorf("wait until %s is ready (%w): %w; %s", n.Name, said, ctx.Err(), n.LastWords())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// unready is why a node isn't one of the cluster; nil: it is.
func (n *Node) unready(ctx context.Context, client *http.Client) error {
	var health struct{}
	if err := n.ask(ctx, client, "/healthz", &health); err != nil {
		return err
	}
	var js struct {
		Meta struct {
			Leader string `json:"leader"`
			Size   int    `json:"cluster_size"`
		} `json:"meta_cluster"`
	}
	if err := n.ask(ctx, client, "/jsz", &js); err != nil {
		return err
	}
	if js.Meta.Leader == "" || js.Meta.Size != Nodes {
		return fmt.Errorf("a cluster of %d with leader %q", js.Meta.Size, js.Meta.Leader)
	}
	return nil
}

// ask gets what the node's monitoring says.
func (n *Node) ask(ctx context.Context, client *http.Client, path string, into any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Monitor+path, nil)
	if err != nil {
		return err
	}
	r, err := client.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", q.URL, r.Status)
	}
	return json.NewDecoder(r.Body).Decode(into)
}

// Close kills all.
func (c *Cluster) Close() error {
	var all []error
	for _, n := range c.Nodes {
		all = append(all, n.Kill())
	}
	return errors.Join(all...)
}

// Start starts the node, with the data that it had.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(n.program, "-c", n.config)
	cmd.Env = append(slices.Clone(os.Environ()), n.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the log says why
		close(ended)
	}()
	n.cmd, n.ended = cmd, ended
	return nil
}

// Kill ends the node without a word, as a power cut of its machine does.
func (n *Node) Kill() error {
	if n.cmd == nil {
		return nil
	}
	err := n.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-n.ended
	n.cmd = nil
	return err
}

// Runs tells whether the node was started and not killed.
func (n *Node) Runs() bool { return n.cmd != nil }

// LastWords are the last lines of its log.
func (n *Node) LastWords() string {
	b, err := os.ReadFile(n.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "its log ends with:\n" + strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// PID is the process that runs; 0: none does.
func (n *Node) PID() int {
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}
