package daemon

import "time"

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
}

// The states of a model in the daemon, before and beside those of its releases.
const (
	modelPreparing = "preparing" // reading, checking and quantising
	modelBuilding  = "building"
	modelServing   = "serving"
	modelFailed    = "failed"
)

// ModelStatus is a model of the configuration and what serves it.
type ModelStatus struct {
	Name      string        `json:"name"`
	State     string        `json:"state"`
	Reason    string        `json:"reason,omitempty"` // why it failed, or why a newer release doesn't serve
	Release   int           `json:"release,omitempty"`
	Factory   bool          `json:"factory,omitempty"`
	Precision string        `json:"precision,omitempty"` // as computed here
	Coverage  float64       `json:"coverage,omitempty"`  // of the calibration cache
	Engine    *EngineStatus `json:"engine,omitempty"`
	Frames    uint64        `json:"frames"` // classified since the start
	Errors    uint64        `json:"errors"` // frames that the engine failed on
}

// EngineStatus is the engine that serves a model.
type EngineStatus struct {
	ID      string  `json:"id"`
	Backend string  `json:"backend"`
	Stored  bool    `json:"stored"` // it was in the store at the start
	Build   float64 `json:"build_seconds"`
	Load    float64 `json:"load_seconds"`
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
	Since      time.Time         `json:"since"`
	Error      string            `json:"error,omitempty"` // why there is no session
	Published  uint64            `json:"published"`       // events that the broker acknowledged
	Queued     int               `json:"queued"`
	Bytes      int64             `json:"queued_bytes"`
	Oldest     float64           `json:"oldest_seconds"` // that the oldest has waited
	Reconnects uint64            `json:"reconnects"`
	Dropped    map[string]uint64 `json:"dropped"` // events given up, by cause
	Durability string            `json:"durability"`
}
