package daemon

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/release/inbox"
)

// Status is what the daemon says of itself: GET /api/v1/status, the control
// socket and, in parts, MQTT's health. Times are UTC, durations seconds.
type Status struct {
	Device  string         `json:"device"`
	Version string         `json:"version"`
	Started time.Time      `json:"started"`
	Uptime  float64        `json:"uptime_seconds"`
	Ready   bool           `json:"ready"`
	Reasons []string       `json:"not_ready,omitempty"` // why it isn't ready
	Models  []ModelStatus  `json:"models"`
	Cameras []CameraStatus `json:"cameras"`
	MQTT    MQTTStatus     `json:"mqtt"`
	Inbox   *inbox.Status  `json:"inbox,omitempty"`

	TensorRTErrors uint64 `json:"tensorrt_errors,omitempty"` // that it logged in this process
}

// The states of a model in the daemon, before and beside those of its releases.
const (
	modelPreparing = "preparing" // reading, checking and quantising
	modelBuilding  = "building"
	modelProving   = "proving"
	modelServing   = "serving"
	modelFailed    = "failed"
	modelHeld      = "held" // nothing serves until somebody activates a release
)

// ModelStatus is a model of the configuration and what serves it.
type ModelStatus struct {
	Name      string           `json:"name"`
	State     string           `json:"state"`
	Reason    string           `json:"reason,omitempty"`  // why it failed, why a newer release doesn't serve, why the CPU does, or what isn't as asked for
	Interim   bool             `json:"interim,omitempty"` // the CPU serves until the configured back end has an engine
	Release   int              `json:"release,omitempty"`
	Revision  int64            `json:"revision,omitempty"` // of the drop-in that is in it
	Degraded  bool             `json:"degraded,omitempty"` // it should be left, and there is nothing to go back to
	Factory   bool             `json:"factory,omitempty"`
	Precision string           `json:"precision,omitempty"` // as computed here
	Coverage  float64          `json:"coverage,omitempty"`  // of the calibration cache
	Engine    *EngineStatus    `json:"engine,omitempty"`
	Build     *BuildStatus     `json:"build,omitempty"`     // under way, or to be tried again
	Probation *ProbationStatus `json:"probation,omitempty"` // of the release that serves; absent: it is confirmed, or the factory release
	Builds    builds           `json:"engine_builds"`       // since the start, by outcome: ok, failed, crashed, cancelled
	Damaged   uint64           `json:"engines_damaged"`     // stored engines that had to be built again, since the start
	Proof     *ProofStatus     `json:"proof,omitempty"`     // of the release that was proven last, since the start
	// Parts of Reason by what they are about, so that none is taken for another release's.
	Failure  string     `json:"failure,omitempty"` // why the release Failed isn't served as it should be
	Failed   release.ID `json:"failed_release,omitzero"`
	Standing string     `json:"standing,omitempty"` // what is to be said of the release that serves
	// Releases that were left since the start, by code.
	Rejected   map[release.Code]uint64 `json:"releases_rejected,omitempty"` // installed ones; what was refused before that is in Inbox
	RolledBack map[release.Code]uint64 `json:"rollbacks,omitempty"`

	Frames uint64 `json:"frames"` // classified since the start
	Errors uint64 `json:"errors"` // frames that the engine failed on
}

// ReasonOf is what of the reason is about a release.
func (m *ModelStatus) ReasonOf(id release.ID) string {
	return reasonOf(id, release.ID{Number: m.Release, Revision: m.Revision}, m.Failed, m.Failure, m.Standing)
}

// ProbationStatus is how far the probation of a release is.
type ProbationStatus struct {
	Served float64 `json:"served_seconds"` // with frames and without a fault
	Of     float64 `json:"of_seconds"`
	Failed uint64  `json:"failed"` // frames that the engine failed on
}

// ProofStatus is what a release's proof found out.
type ProofStatus struct {
	Release  int     `json:"release"`
	Revision int64   `json:"revision,omitempty"`
	Golden   int     `json:"golden"`   // images
	Right    int     `json:"right"`    // of those
	Live     int     `json:"live"`     // frames of the cameras
	Compared int     `json:"compared"` // of those, with the answers of what served
	Agreed   int     `json:"agreed"`   // of those
	Latency  float64 `json:"latency_seconds"`
	Budget   float64 `json:"budget_seconds,omitempty"` // that a run may take on probation; 0: any
	Memory   int64   `json:"memory_bytes"`             // that the engine takes, roughly
}

// EngineStatus is the engine that serves a model.
type EngineStatus struct {
	ID      string  `json:"id"`
	Backend string  `json:"backend"`
	Stored  bool    `json:"stored"` // it was in the store at the start
	Build   float64 `json:"build_seconds"`
	Load    float64 `json:"load_seconds"`
	Device  string  `json:"device"` // gpu, dla0, dla0,dla1 or cpu
	Lanes   int     `json:"lanes"`  // runs that may be under way at once

	Layers   map[string]int `json:"layers,omitempty"`   // how many compute in each precision
	Unscaled int            `json:"unscaled,omitempty"` // tensors that the builder found no scale for
	DLA      *DLAStatus     `json:"dla,omitempty"`
}

func engineStatus(set *laneSet) *EngineStatus {
	e := set.engine
	s := &EngineStatus{
		ID: e.ID, Backend: set.backend.Name(), Stored: e.Stored,
		Build: e.Build.Seconds(), Load: e.Load.Seconds(), Device: deviceOf(set.prepared), Lanes: set.lanes(),
	}
	r := e.Report
	if r == nil {
		return s
	}
	s.Layers, s.Unscaled = r.Layers, len(r.Unscaled)
	if r.DLA != nil {
		s.DLA = &DLAStatus{
			Layers: r.DLA.DLALayers, Share: r.DLA.Share, Pieces: len(r.DLA.Pieces),
			Reformats: r.DLA.Reformats, OnGPU: r.DLA.OnGPU,
		}
	}
	return s
}

// deviceOf is where the engine of a prepared graph runs: gpu, the DLA cores
// that take turns, or cpu.
func deviceOf(p *Prepared) string {
	if p.TensorRT == nil {
		return cmp.Or(p.Device(), "cpu")
	}
	var cores []string
	for _, n := range p.TensorRT.Cores {
		cores = append(cores, fmt.Sprintf("dla%d", n))
	}
	return cmp.Or(strings.Join(cores, ","), p.Device())
}

// DLAStatus is what TensorRT made of an engine for DLA.
type DLAStatus struct {
	Layers    int      `json:"layers"` // of the network that run there
	Share     float64  `json:"share"`  // of all that run, 0 to 1
	Pieces    int      `json:"pieces"`
	Reformats int      `json:"reformats"` // layers that change a tensor's format alone
	OnGPU     []string `json:"on_gpu"`    // layers that compute on the GPU
}

// BuildStatus is the build of an engine that is under way, or, after a failure,
// that will be tried again.
type BuildStatus struct {
	Release  int        `json:"release"`
	Backend  string     `json:"backend"`
	Phase    string     `json:"phase,omitempty"` // empty: none is under way
	Step     int        `json:"step,omitempty"`  // of the phase
	Steps    int        `json:"steps,omitempty"` // 0: not known
	Elapsed  float64    `json:"elapsed_seconds,omitempty"`
	Estimate float64    `json:"estimate_seconds,omitempty"` // of the whole, from earlier builds; 0: not known
	Attempts int        `json:"attempts"`                   // in a row that failed: to build, load or warm an engine, or to serve with it
	NextTry  *time.Time `json:"next_try,omitempty"`
}

// CameraStatus is a camera and what is seen on it.
type CameraStatus struct {
	Name       string        `json:"name"`
	State      string        `json:"state"` // online, stalled, offline, ended
	Reason     string        `json:"reason,omitempty"`
	Since      time.Time     `json:"since"`
	Captured   uint64        `json:"captured"`
	Classified uint64        `json:"classified"` // by each model, added up
	Dropped    uint64        `json:"dropped"`    // frames that a newer one replaced before any model looked
	Restarts   uint64        `json:"restarts"`   // of the worker
	Errors     uint64        `json:"errors"`     // files and frames that couldn't be read
	Labels     []LabelStatus `json:"labels"`
}

// LabelStatus is a camera's current label by one model.
type LabelStatus struct {
	Model string    `json:"model"`
	Label string    `json:"label"` // "none" when nothing reaches its least score
	Score float32   `json:"score"` // when it became current
	Since time.Time `json:"since"`
}

// MQTTStatus is the session with the broker and what waits for it.
type MQTTStatus struct {
	Connected  bool              `json:"connected"`
	Broker     string            `json:"broker,omitempty"` // the present or last one tried
	Since      time.Time         `json:"since"`
	Warnings   []string          `json:"warnings,omitempty"` // what needs somebody's hand
	Error      string            `json:"error,omitempty"`    // why there is no session
	Published  uint64            `json:"published"`          // events that the broker acknowledged
	Queued     int               `json:"queued"`
	Bytes      int64             `json:"queued_bytes"`
	Oldest     float64           `json:"oldest_seconds"` // that the oldest has waited
	Reconnects uint64            `json:"reconnects"`
	Dropped    map[string]uint64 `json:"dropped"`       // events given up, by cause
	Durability string            `json:"durability"`    // of the outbox, at the moment
	Written    int64             `json:"written_bytes"` // that the outbox gave to the disk since the start
	// OutboxError is why the outbox's disk refuses.
	OutboxError string `json:"outbox_error,omitempty"`

	Commands *mqtt.CommandStats `json:"commands,omitempty"` // nil where none is allowed
}
