package mqtt

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A trial leaves the daemon's session alone and says nothing.
func TestTrialOfTheBroker(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "allow_anonymous true").start()
	daemon := newClient(t, Options{URL: m.url("mqtt"), Device: "dev1"}, quick())
	daemon.timing.reassert = time.Hour
	run(t, daemon)
	watch := subscribe(t, m.url("mqtt"), "#")
	eventually(t, "the state", func() bool { return watch.last("sightd/dev1/status") == Online })

	all, err := Try(t.Context(), Options{URL: "mqtt://127.0.0.1:1", Others: []string{m.url("mqtt")}, Device: "dev1"})
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	wantWords(t, all[0].Error, "connection refused by 127.0.0.1:1")
	if want := (Trial{Broker: m.url("mqtt"), ClientID: "sightd:dev1:doctor"}); all[1] != want {
		t.Errorf("%+v, wanted %+v", all[1], want)
	}
	eventually(t, "a client id of its own", func() bool { return strings.Contains(m.log.String(), "as sightd:dev1:doctor (") })
	daemon.SetState("health", []byte("{}"))
	eventually(t, "what is said after it", func() bool { return watch.last("sightd/dev1/health") == "{}" })
	watch.mu.Lock()
	defer watch.mu.Unlock()
	if len(watch.messages) != 2 {
		t.Errorf("%d messages, wanted the daemon's two", len(watch.messages))
	}
}

func TestTrialThatIsRefused(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "allow_anonymous false").start()
	all, err := Try(t.Context(), Options{URL: m.url("mqtt"), Device: "dev1"})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	wantWords(t, all[0].Error, "not authorised", "mqtt.username")
	if _, err := Try(t.Context(), Options{URL: "mqtt://u:hunter2@broker", Device: "dev1"}); err == nil {
		t.Error("a URL with a password is taken")
	}
}

// All faults are told at once, each with its key.
func TestEveryFaultOfTheOptions(t *testing.T) {
	t.Parallel()
	o := Options{URL: "mqtt://u:p@a", Others: []string{"mqtt://b"}, Prefix: "$SYS/x", Device: "a/b", CAFile: "ca", KeyFile: "key", PasswordFile: "p"}
	want := []string{"mqtt.prefix", "device", "mqtt.url[0]", "mqtt.ca_file", "mqtt.key_file", "mqtt.key_file", "mqtt.password_file"}
	var got []string
	for _, f := range o.Faults() {
		got = append(got, f.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults of %q, wanted %q", got, want)
	}
	o = Options{URL: "mqtts://a", Device: "d", Username: "u", CAFile: "/no/ca", CertFile: "/no/cert", KeyFile: "/no/key", PasswordFile: "/no/p"}
	got = nil
	for _, f := range append(o.Faults(), o.FileFaults()...) {
		got = append(got, f.Key)
	}
	if want := []string{"mqtt.ca_file", "mqtt.cert_file", "mqtt.password_file"}; !slices.Equal(got, want) {
		t.Errorf("faults of %q, wanted %q", got, want)
	}
}
