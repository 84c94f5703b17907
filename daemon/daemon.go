// Package daemon is the service: it joins cameras, engines, releases and MQTT
// into one pipeline, supervises them, and says how they are. The others know
// nothing of each other; what they share is defined here.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
	"github.com/sightd/sightd/systemd"
)

// Options are what a daemon is told beside its configuration.
type Options struct {
	Version  string
	Worker   string // path of sightd-camera; "" finds it beside sightd
	UntilEnd bool   // stop when every source has ended and every event is delivered
	Log      *slog.Logger

	// Of the benchmark alone.
	factory   *release.Release // served instead of the configuration's
	precision string           // instead of the release's own
	preload   int              // see camera.Options

	// Of tests alone.
	backend, spare Backend // instead of the configuration's, and of the CPU
	pace           pace
	clock          func() error                                               // instead of the kernel's word that it is set
	get            func(name string, id release.ID) (*release.Release, error) // instead of the store's Get, after an install
}

// Daemon is one running service. It owns its state directory.
type Daemon struct {
	cfg     *Config
	opts    Options
	log     *slog.Logger
	started time.Time

	lock      *release.Lock
	store     *release.Store
	factories map[string]factory // by model
	cameras   []view
	units     []*unit
	broker    *mqtt.Broker // inside; nil: none
	outbox    *mqtt.Outbox // nil where there is no client
	clock     wallClock
	client    *mqtt.Client // nil where the configuration names no broker
	say       publisher    // client, or silent
	metrics   *metrics
	servers   []server
	notify    *systemd.Notifier
	inbox     *inbox.Inbox // nil: none

	installing sync.Mutex // one release at a time
	noted      bool       // the retained topics are; of tell alone
	discovery  discovery  // what Home Assistant is told; of New and tell alone
	stirred    chan struct{}
	breakdown  breakdown
}

type server struct {
	http *http.Server
	l    net.Listener
}

// stopWithin is how long a stop may take: cameras closed, what is in flight
// delivered, the broker told.
const stopWithin = 5 * time.Second

// New makes a daemon and takes what only one may have: the state directory's
// lock, ports and sockets. An error leaves all as it was.
func New(cfg *Config, o Options) (_ *Daemon, err error) {
	d := &Daemon{cfg: cfg, opts: o, log: o.Log, started: time.Now().UTC(), notify: systemd.NewNotifier(), stirred: make(chan struct{}, 1)}
	d.breakdown.over = make(chan error, 1)
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if len(cfg.Models) == 0 {
		return nil, errNoModel
	}
	if len(cfg.Cameras) == 0 {
		d.log.Warn("the configuration has no camera: there is nothing to classify")
	}
	if d.lock, err = release.TakeLock(cfg.StateDir); err != nil {
		return nil, err
	}
	for _, sub := range []string{"engines", "staging", "releases"} {
		if err := os.MkdirAll(filepath.Join(cfg.StateDir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("state_dir: %w", err)
		}
	}
	if d.store, err = release.OpenStore(cfg.StateDir); err != nil {
		return nil, err
	}
	if err := errors.Join(d.store.Clean(), EngineStore{Dir: filepath.Join(cfg.StateDir, "engines")}.Clean()); err != nil {
		d.log.Warn("clean up what an interruption left", "err", err)
	}
	backend := o.backend
	if backend == nil {
		if backend, err = OpenBackend(context.Background(), cfg.BackendOptions(d.log)); err != nil {
			return nil, err
		}
	}
	if cfg.MQTT.Embedded != "" {
		if d.broker, err = mqtt.StartBroker(cfg.MQTT.Embedded, d.log); err != nil {
			return nil, err
		}
	}
	d.metrics = newMetrics(d.Status, d.entries)
	if err := d.listen(); err != nil { // before there is an outbox
		return nil, err
	}
	if err := d.newClient(); err != nil {
		return nil, err
	}
	for _, c := range cfg.Cameras {
		cam, err := d.newCamera(c)
		if err != nil {
			return nil, err
		}
		d.cameras = append(d.cameras, cam)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	d.factories = map[string]factory{}
	for _, m := range cfg.Models {
		d.factories[m.Name] = d.openFactory(m)
		d.units = append(d.units, d.newUnit(m, backend, boot))
	}
	for _, u := range d.units {
		u.life.recover() // before anything new is installed
	}
	d.inbox = d.newInbox()
	d.clearRetained()
	return d, nil
}

func (d *Daemon) newCamera(c CameraConfig) (view, error) {
	o := camera.Options{
		Name: c.Name, Source: c.Source, Width: c.Width, Height: c.Height, FPS: c.FPS,
		Stall: time.Duration(c.Stall), Worker: d.opts.Worker, Preload: d.opts.preload, Log: d.log,
	}
	if d.opts.UntilEnd {
		o.Attempts = attempts // a source that never opens has no end to wait for
	}
	cam, err := camera.New(o)
	return view{name: c.Name, camera: cam, region: c.Crop}, err
}

// attempts is how many workers in a row may end without a frame where somebody
// waits for the source's end.
const attempts = 3

func (d *Daemon) listen() error {
	if d.cfg.HTTP.Listen != "" {
		l, err := listenHTTP(d.cfg.HTTP.Listen)
		if err != nil {
			return err
		}
		d.servers = append(d.servers, server{newServer(d.handler()), l})
	}
	l, err := listenControl(d.cfg.ControlSocket)
	if err != nil {
		return err
	}
	d.servers = append(d.servers, server{newServer(d.controlHandler()), l})
	return nil
}

// Run serves until ctx ends, or, with UntilEnd, until every source has ended
// and every event is delivered. It fails where no model can be served. When it
// returns all is closed.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.close()
	for _, s := range d.servers {
		go func() { _ = s.http.Serve(s.l) }()
	}
	stopMQTT := d.startMQTT(ctx)
	if err := d.notify.Ready(); err != nil {
		d.log.Warn("systemd", "err", err)
	}
	d.log.Info("ready", "version", d.opts.Version, "device", d.cfg.Device, "cameras", len(d.cameras), "models", len(d.units))

	work, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		if err := d.notify.Watch(work, d.alive); err != nil {
			d.log.Warn("systemd", "err", err)
		}
	}()
	emptied := d.watchInbox(work)
	told := make(chan struct{})
	go func() {
		defer close(told)
		d.tell(work)
	}()
	err := d.pipeline(work)
	cancel()
	<-told
	<-emptied

	_ = d.notify.Stopping()
	stopMQTT(err == nil && d.opts.UntilEnd)
	d.log.Info("stopped")
	return err
}

// startMQTT begins the sessions with the broker. They outlive the pipeline, so
// that its last words are delivered: stop waits for that, as long as it takes
// where patient and until ctx ends, else for its part of a quick stop.
func (d *Daemon) startMQTT(ctx context.Context) (stop func(patient bool)) {
	if d.client == nil {
		return func(bool) {}
	}
	session, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := d.client.Run(session); err != nil {
			d.log.Error("no more MQTT sessions", "err", err)
		}
	}()
	return func(patient bool) {
		defer func() {
			cancel()
			<-ended // it bounds its farewell itself
		}()
		if patient && d.client.Drain(ctx) == nil {
			return
		}
		if !d.client.Status().Connected {
			if s := d.client.Stats(); s.Queued > 0 {
				d.log.Warn("there is no broker to deliver to", "events", s.Queued, "kept", s.Durability != mqtt.Memory)
			}
			return
		}
		quick, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin/2)
		defer done()
		if err := d.client.Drain(quick); err != nil {
			d.log.Warn("not everything was delivered", "err", err)
		}
	}
}

// pipeline runs cameras and models until ctx ends or all of them have ended.
func (d *Daemon) pipeline(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	var cams, models errgroup.Group
	failed := make(chan error, len(d.units)+len(d.cameras))
	for _, c := range d.cameras {
		cams.Go(func() error { d.follow(ctx, c); return nil })
		cams.Go(func() error {
			if c.camera.Each() && !d.settle(ctx, c) {
				return nil
			}
			if err := c.camera.Run(ctx); err != nil {
				failed <- err
			}
			return nil
		})
	}
	for _, u := range d.units {
		models.Go(func() error {
			pending, trusted, err := u.plan()
			if err != nil && (d.opts.UntilEnd || len(u.life.awaits()) == 0) {
				u.giveUp(err)
				failed <- err
			}
			for _, rel := range trusted {
				if err := u.life.admits(rel); err != nil {
					d.log.Warn("a release that serves, or may by a roll-back, wouldn't be taken any more; it stays", "model", u.name, "release", rel.ID(), "err", err)
				}
			}
			u.run(ctx, planned(pending, trusted), d.opts.UntilEnd, func(err error) { failed <- err })
			return nil
		})
	}
	done := make(chan struct{})
	go func() { _ = models.Wait(); close(done) }()
	defer d.breakdown.stop()
	var errs []error
	for {
		select {
		case err := <-failed:
			errs = append(errs, err)
			// One model that can't be served is no reason to stop the others.
			if !d.opts.UntilEnd && !d.hopeless() {
				continue
			}
			cancel()
			<-done
		case err := <-d.breakdown.over:
			errs = append(errs, err)
			cancel()
			<-done
		case <-done:
		}
		break
	}
	cancel()
	_ = cams.Wait()
	close(failed) // all who send have ended; done may have been seen before their errors
	for err := range failed {
		errs = append(errs, err)
	}
	if parent.Err() != nil {
		return nil // stopped in order; what was wrong is in the log
	}
	return errors.Join(errs...)
}

// settle waits until every model that looks at a camera has its lane, or can't
// be served: the first frames of a source whose every frame counts are for all
// of them. It reports false where ctx ends before.
func (d *Daemon) settle(ctx context.Context, c view) bool {
	for _, u := range d.units {
		if !slices.ContainsFunc(u.views, func(v view) bool { return v.name == c.name }) {
			continue
		}
		select {
		case <-u.settled:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// hopeless is whether no model can be served.
func (d *Daemon) hopeless() bool {
	for _, u := range d.units {
		if !u.lost.Load() {
			return false
		}
	}
	return true
}

// close gives back what New took. It is called once.
func (d *Daemon) close() {
	for _, s := range d.servers {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close()
		}
		cancel()
		_ = s.l.Close()
	}
	for _, f := range d.factories {
		if f.rel != nil && f.rel != d.opts.factory {
			_ = f.rel.Close()
		}
	}
	for _, c := range d.cameras {
		_ = c.camera.Close()
	}
	if d.outbox != nil {
		if err := d.outbox.Close(); err != nil {
			d.log.Error("close the outbox", "err", err)
		}
	}
	if d.broker != nil {
		_ = d.broker.Close()
	}
	if d.lock != nil {
		_ = d.lock.Close()
	}
}
