package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/sightd/sightd/release"
)

// packed packs a release of the small model, with the number given, and changes
// its model.yaml as old, new, … say.
func packed(t *testing.T, number int, change ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../testdata/tiny")); err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(dir, "model.yaml")
	text := read(t, spec)
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "release:") {
			change = append(change, line, fmt.Sprintf("release: %d", number))
		}
	}
	write(t, spec, strings.NewReplacer(change...).Replace(text))
	out := filepath.Join(t.TempDir(), "packed")
	if _, err := release.Pack(spec, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func archive(t *testing.T, dir string) []byte {
	t.Helper()
	rel, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer rel.Close()
	var b bytes.Buffer
	if err := rel.WriteArchive(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type signer struct {
	file    string // of the public key
	private minisign.PrivateKey
}

func newSigner(t *testing.T) signer {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pub")
	write(t, file, string(text))
	return signer{file, private}
}

func (s signer) sign(t *testing.T, dir string) {
	t.Helper()
	raw := read(t, filepath.Join(dir, release.ManifestName))
	write(t, filepath.Join(dir, release.SignatureName), string(minisign.Sign(s.private, []byte(raw))))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// must takes the error of a step that can't fail.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// box is a running inbox with a store.
type box struct {
	*Inbox
	dir, state string
	store      *release.Store
	log        *log
	stop       func()
}

type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// quick are options that look often; events alone make them look sooner.
func quick() Options { return Options{Settle: 20 * time.Millisecond, Patience: 300 * time.Millisecond} }

func open(t *testing.T, o Options) *box {
	t.Helper()
	state := t.TempDir()
	b := &box{dir: filepath.Join(t.TempDir(), "inbox"), state: state}
	must(t, os.MkdirAll(b.dir, 0o755))
	b.start(t, o)
	return b
}

func (b *box) start(t *testing.T, o Options) {
	t.Helper()
	var err error
	if b.store, err = release.OpenStore(b.state); err != nil {
		t.Fatal(err)
	}
	b.log = new(log)
	o.Dir, o.Store, o.Log = b.dir, b.store, slog.New(slog.NewTextHandler(b.log, nil))
	if o.Take == nil {
		o.Take = func(r *release.Release) (*release.Entry, error) {
			return b.store.Install(r, o.Policy, release.Options{})
		}
	}
	b.Inbox = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(func() {
		b.stop()
		if left, err := os.ReadDir(filepath.Join(b.state, "staging")); err == nil && len(left) > 0 {
			t.Errorf("left in staging: %v", left)
		}
		if t.Failed() {
			t.Logf("log: %s\nstatus: %+v", b.log.b.String(), b.Status())
		}
	})
}

func (b *box) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// result is what stands beside a drop; none where nothing does.
func (b *box) result(t *testing.T, name string) (r Result) {
	t.Helper()
	raw, err := os.ReadFile(b.path(name + ResultSuffix))
	if err != nil {
		return r
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Errorf("half a result: %q: %v", raw, err)
	}
	return r
}

// wait waits for a drop's result.
func (b *box) wait(t *testing.T, name string, state release.State, code release.Code) Result {
	t.Helper()
	var r Result
	eventually(t, fmt.Sprintf("%s is %s %s", name, state, code), func() bool {
		r = b.result(t, name)
		return r.State == state && r.Code == code
	})
	return r
}

func (b *box) wantNothingInstalled(t *testing.T) {
	t.Helper()
	if names, err := b.store.Names(); err != nil || len(names) > 0 {
		t.Errorf("installed: %v, %v", names, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
