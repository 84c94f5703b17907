package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/oklog/ulid/v2"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
)

// The examples of docs/subscribers.md, each with the signal that ends it in the
// midst: those that keep what they have acknowledged are killed.
func TestTheExamplesTakeEachEventOnce(t *testing.T) {
	t.Parallel()
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		program := filepath.Join(t.TempDir(), "subscriber")
		build := exec.Command("go", "build", "-o", program, "./docs/examples/go")
		build.Env = append(os.Environ(), "XDG_CACHE_HOME=") // go's own cache isn't that of this test program
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		takesEachEventOnce(t, syscall.SIGKILL, func(dir, host, port string) *exec.Cmd {
			return exec.Command(program, "-broker", "tcp://"+net.JoinHostPort(host, port), "-store", filepath.Join(dir, "events.jsonl"))
		})
	})
	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		python := testenv.Python(t)
		takesEachEventOnce(t, syscall.SIGKILL, func(dir, host, port string) *exec.Cmd {
			return exec.Command(python, "-B", "docs/examples/python/subscriber.py", "--host", host, "--port", port, "--store", filepath.Join(dir, "events.db"))
		})
	})
	t.Run("mosquitto_sub", func(t *testing.T) {
		t.Parallel()
		for _, tool := range []string{"mosquitto_sub", "jq"} {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skipf("%v: run `make test-deps` once", err)
			}
		}
		takesEachEventOnce(t, syscall.SIGTERM, func(dir, host, port string) *exec.Cmd {
			cmd := exec.Command("docs/examples/mosquitto_sub/subscriber.sh")
			cmd.Env = append(os.Environ(), "HOST="+host, "PORT="+port, "SEEN="+filepath.Join(dir, "seen"))
			return cmd
		})
	})
	t.Run("Node-RED", func(t *testing.T) {
		t.Parallel()
		red, node := testenv.NPM(t, "node-red/red.js"), testenv.Node(t)
		takesEachEventOnce(t, syscall.SIGTERM, func(dir, host, port string) *exec.Cmd {
			flows, err := filepath.Abs("docs/examples/node-red/flows.json")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(node, red, "--userDir", dir, "--settings", "docs/examples/node-red/settings.js", flows)
			cmd.Env = append(os.Environ(), "MQTT_HOST="+host, "MQTT_PORT="+port, "MQTT_ID=node-red", "NODE_DISABLE_COMPILE_CACHE=1")
			return cmd
		})
	})
}

// takesEachEventOnce has an example see a daemon's events and states, with
// duplicates, and be away while the daemon runs again.
func takesEachEventOnce(t *testing.T, end syscall.Signal, command func(dir, host, port string) *exec.Cmd) {
	t.Helper()
	address := startMosquitto(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	published := collect(t, "mqtt://"+address, "sightd/here/+/events")
	config, _ := serviceConfig(t, "images:"+testenv.Demo("photos")+"?each=true", fmt.Sprintf("mqtt: {url: %q}\n", "mqtt://"+address))
	dir := t.TempDir()
	injector := newInjector(t, address)

	e := startExample(t, command(dir, host, port))
	injector.until(t, e) // it has subscribed
	if status := startService(t, config, "--until-end").end(); status != 0 {
		t.Fatalf("sightd ended with %d", status)
	}
	first := eventsOf(t, published)
	injector.send(first[1].topic, first[1].payload)
	injector.until(t, e)
	wantEvents(t, e.events(), first)
	e.stop(end)

	if status := startService(t, config, "--until-end").end(); status != 0 {
		t.Fatalf("sightd ended with %d", status)
	}
	all := eventsOf(t, published)
	if len(all) != 2*len(first) || len(first) == 0 {
		t.Fatalf("%d and %d events were published", len(first), len(all)-len(first))
	}
	injector.send(all[0].topic, all[0].payload)
	injector.send(all[len(all)-1].topic, all[len(all)-1].payload)
	again := startExample(t, command(dir, host, port))
	injector.until(t, again)
	wantEvents(t, slices.Concat(e.events(), again.events()), all)
	for _, state := range []string{"here/status online", "here/status offline", "here/door/status offline", "here/door/classification/tiny "} {
		if !strings.Contains(e.said.String(), "state "+state) {
			t.Errorf("it didn't say that the state %s", state)
		}
	}
	if !strings.Contains(again.said.String(), "state here/status offline") {
		t.Error("it wasn't told the retained states at the second start")
	}
	again.stop(end)
}

// eventsOf are those that were published, without the duplicates.
func eventsOf(t *testing.T, published *collector) []collected {
	t.Helper()
	var events []collected
	for _, m := range published.all() {
		if !slices.ContainsFunc(events, func(e collected) bool { return e.payload == m.payload }) {
			events = append(events, m)
		}
	}
	return events
}

// wantEvents holds what an example printed against what was published.
func wantEvents(t *testing.T, printed []string, published []collected) {
	t.Helper()
	var want []string
	for _, m := range published {
		var e mqtt.Event
		if err := json.Unmarshal([]byte(m.payload), &e); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("event %s here %s %s", e.ID, e.Data.Camera, e.Data.Label))
	}
	if !slices.Equal(printed, want) {
		t.Errorf("printed:\n%s\nwanted:\n%s", strings.Join(printed, "\n"), strings.Join(want, "\n"))
	}
}

// example is a subscriber of docs/examples that runs.
type example struct {
	t     *testing.T
	cmd   *exec.Cmd
	said  *testenv.Buffer
	ended chan struct{}
}

func startExample(t *testing.T, cmd *exec.Cmd) *example {
	t.Helper()
	e := &example{t: t, cmd: cmd, said: new(testenv.Buffer), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = e.said, e.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // for what a shell starts
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		e.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("%v said:\n%s", cmd, e.said)
		}
	})
	return e
}

func (e *example) stop(signal syscall.Signal) {
	e.t.Helper()
	_ = syscall.Kill(-e.cmd.Process.Pid, signal)
	select {
	case <-e.ended:
	case <-time.After(time.Minute):
		e.t.Errorf("%v didn't end within a minute of %v", e.cmd, signal)
	}
}

var (
	eventLine = regexp.MustCompile(`(?m)event [0-9A-Z]{26} here .*$`)
	probeLine = regexp.MustCompile(`(?m)event ([0-9A-Z]{26}) probe .*$`)
)

// events are the lines about those of the daemon.
func (e *example) events() []string { return eventLine.FindAllString(e.said.String(), -1) }

// injector publishes what the daemon doesn't.
type injector struct {
	t      *testing.T
	client paho.Client
}

func newInjector(t *testing.T, address string) *injector {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID("injector"))
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(50) })
	i := &injector{t, c}
	token := c.Publish("sightd/probe/status", 1, true, mqtt.Online)
	if token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	return i
}

func (i *injector) send(topic, payload string) {
	i.t.Helper()
	token := i.client.Publish(topic, 1, false, payload)
	if token.Wait() && token.Error() != nil {
		i.t.Fatal(token.Error())
	}
}

// until sends events of another device until the example has printed one, and so
// has had all that was sent before, and a retained state of that device.
func (i *injector) until(t *testing.T, e *example) {
	t.Helper()
	var sent []string
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		for _, found := range probeLine.FindAllStringSubmatch(e.said.String(), -1) {
			if slices.Contains(sent, found[1]) && strings.Contains(e.said.String(), "state probe/status online") {
				return
			}
		}
		id := ulid.Make().String()
		i.send("sightd/probe/cam/events", fmt.Sprintf(`{"id":%q,"data":{"camera":"cam","label":"probe"}}`, id))
		sent = append(sent, id)
	}
	t.Fatal("the example printed no event within two minutes")
}

// startMosquitto starts the broker that most have, and returns its address.
func startMosquitto(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("mosquitto isn't installed: run `make test-deps` once")
	}
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/subscribers.md")
	if err != nil {
		t.Fatal(err)
	}
	// What the page says of mosquitto is what runs here.
	_, said, _ := strings.Cut(string(page), "For mosquitto:\n\n```\n")
	said, _, found := strings.Cut(said, "```\n")
	if !found {
		t.Fatal("docs/subscribers.md has no configuration for mosquitto")
	}
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("log_dest stderr\nuser root\nlistener %s 127.0.0.1\nallow_anonymous true\n%s", port, said)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", config)
	cmd.Dir = t.TempDir() // for what it keeps
	log := new(testenv.Buffer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return address
		}
	}
	t.Fatalf("mosquitto doesn't listen: %s", log)
	return ""
}
