package daemon

import (
	"log/slog"
	"path/filepath"

	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

// Config is sightd.yaml. It is read once and not changed afterwards.
//
// Once loaded, relative paths are resolved: those of files and directories
// against the configuration file's directory, those inside a camera's source
// not at all, so that the worker resolves them against the working directory,
// as for `sightd classify`.
type Config struct {
	Device        string          `json:"device"`
	StateDir      string          `json:"state_dir"`
	Cameras       []CameraConfig  `json:"cameras"`
	Models        []ModelConfig   `json:"models"`
	Inference     InferenceConfig `json:"inference"`
	Events        Events          `json:"events"`
	MQTT          MQTTConfig      `json:"mqtt"`
	Releases      ReleasesConfig  `json:"releases"`
	HTTP          HTTPConfig      `json:"http"`
	ControlSocket string          `json:"control_socket"`
	Collect       CollectConfig   `json:"collect"`
}

// CameraConfig is a camera.
type CameraConfig struct {
	Name   string     `json:"name"`
	Source string     `json:"source"`
	Width  int        `json:"width"`  // pixels to ask the camera for; 0: as it comes
	Height int        `json:"height"` // pixels
	FPS    float64    `json:"fps"`    // the most that are classified; 0: all
	Crop   [4]float64 `json:"crop"`   // the part looked at: x, y, width, height as shares
	Stall  Duration   `json:"stall"`  // without a frame this long the worker is replaced
	Scale  string     `json:"scale"`  // exact or hardware
	Models []string   `json:"models"` // empty: all
}

// SetDefaults sets what a camera may leave out.
func (c *CameraConfig) SetDefaults() {
	*c = CameraConfig{
		FPS: 15, Crop: [4]float64{0, 0, 1, 1}, Stall: seconds(2), Scale: "exact", Models: []string{},
	}
}

// ModelConfig is a model that is served.
type ModelConfig struct {
	Name          string             `json:"name"`
	Release       string             `json:"release,omitempty"` // path of the factory release; empty: none
	Placement     *PlacementOverride `json:"placement,omitempty"`
	WhileBuilding string             `json:"while_building"` // cpu or wait
}

// SetDefaults sets what a model may leave out.
func (c *ModelConfig) SetDefaults() { *c = ModelConfig{WhileBuilding: "cpu"} }

// PlacementOverride is what the configuration wants other than the release; nil
// fields leave it as it is.
type PlacementOverride struct {
	Device      *string  `json:"device,omitempty"`
	Cores       *string  `json:"cores,omitempty"`
	Fallback    *bool    `json:"fallback,omitempty"`
	MaxPieces   *int     `json:"max_pieces,omitempty"`
	MaxGPUShare *float64 `json:"max_gpu_share,omitempty"`
}

// Over is the release's placement with the override's fields over it.
func (o *PlacementOverride) Over(p release.Placement) release.Placement {
	if o == nil {
		return p
	}
	override(&p.Device, o.Device)
	override(&p.Cores, o.Cores)
	override(&p.Fallback, o.Fallback)
	override(&p.MaxPieces, o.MaxPieces)
	override(&p.MaxGPUShare, o.MaxGPUShare)
	return p
}

func override[T any](value *T, by *T) {
	if by != nil {
		*value = *by
	}
}

// InferenceConfig is how models run.
type InferenceConfig struct {
	Backend string `json:"backend"` // auto, tensorrt or ort
	Threads int    `json:"threads"` // 0: one a core
	Batch   Batch  `json:"batch"`

	// Of TensorRT alone.
	Workspace    Size   `json:"workspace"`     // bytes that a layer may take while it runs; 0: no limit
	TacticMemory Size   `json:"tactic_memory"` // bytes that building may take to try a layer; 0: no limit
	Quantization string `json:"quantization"`  // auto, implicit or explicit
	Optimisation string `json:"optimisation"`  // auto, or TensorRT's builder optimisation level, 0 to 5
}

// BackendOptions are how the daemon opens its back end.
func (c *Config) BackendOptions(log *slog.Logger) BackendOptions {
	i := c.Inference
	o := BackendOptions{
		Name: i.Backend, Threads: i.Threads, Quantization: i.Quantization,
		Workspace: int64(i.Workspace), TacticMemory: int64(i.TacticMemory),
		Engines: filepath.Join(c.StateDir, "engines"), Log: log,
	}
	if i.Optimisation != "auto" {
		o.Optimisation = i.Optimisation
	}
	return o
}

// Events says which classifications become events.
type Events struct {
	Mode     string       `json:"mode"` // change or every
	MinScore float64      `json:"min_score"`
	Hold     Duration     `json:"hold"`     // a label stands this long before it counts as a change
	MaxRate  float64      `json:"max_rate"` // a second and camera, with mode every; 0: no limit
	Labels   LabelsConfig `json:"labels"`
}

// LabelsConfig is what holds for single labels.
type LabelsConfig struct {
	Allow    []string           `json:"allow"` // empty: all
	Deny     []string           `json:"deny"`
	MinScore map[string]float64 `json:"min_score"`
}

// MQTTConfig is the broker and what it is told.
type MQTTConfig struct {
	URL           Brokers      `json:"url"` // empty: the embedded broker, or none
	Username      string       `json:"username"`
	PasswordFile  string       `json:"password_file"`
	CAFile        string       `json:"ca_file"`
	CertFile      string       `json:"cert_file"`
	KeyFile       string       `json:"key_file"`
	Prefix        string       `json:"prefix"`
	Outbox        OutboxConfig `json:"outbox"`
	Commands      []string     `json:"commands"` // those that are obeyed
	HomeAssistant bool         `json:"home_assistant"`
	Embedded      string       `json:"embedded"` // address of a broker inside; empty: none
}

// OutboxConfig bounds the events that wait for the broker.
type OutboxConfig struct {
	MaxBytes   Size     `json:"max_bytes"`
	MaxAge     Duration `json:"max_age"`
	Durability string   `json:"durability"` // always, outage or memory
}

// ReleasesConfig is which releases are taken, and when.
type ReleasesConfig struct {
	Inbox                string      `json:"inbox"`
	Keys                 []KeyConfig `json:"keys"`
	Revoked              []string    `json:"revoked"` // key ids
	RequireSignature     bool        `json:"require_signature"`
	AllowUnsignedEngines bool        `json:"allow_unsigned_engines"`
	Probation            Duration    `json:"probation"`
	Activate             string      `json:"activate"` // auto, manual or window
	Window               Window      `json:"window"`
	Build                string      `json:"build"`  // any or window
	Memory               string      `json:"memory"` // gap or refuse
	Keep                 int         `json:"keep"`
	Proof                ProofConfig `json:"proof"`
}

// ProofConfig is what a new engine has to keep to, before it serves and on probation.
type ProofConfig struct {
	Frames  int     `json:"frames"`  // of each camera that it is tried with
	Latency float64 `json:"latency"` // times that of the release that serves, at most; 0: any
	Memory  float64 `json:"memory"`  // likewise
}

// HTTPConfig is the page and the interfaces beside it.
type HTTPConfig struct {
	Listen string `json:"listen"` // empty: off
}

// CollectConfig bounds the frames kept for calibration.
type CollectConfig struct {
	MaxBytes Size `json:"max_bytes"` // 0: off
}

// DefaultConfig holds the value of every key that a configuration may leave
// out, as it would be written in the file.
func DefaultConfig() *Config {
	return &Config{
		Device:    "{hostname}",
		StateDir:  "/var/lib/sightd",
		Cameras:   []CameraConfig{},
		Models:    []ModelConfig{},
		Inference: InferenceConfig{Backend: "auto", Workspace: 1 << 30, Quantization: "auto", Optimisation: "auto"},
		Events: Events{
			Mode: "change", MinScore: 0.5, Hold: milliseconds(500), MaxRate: 10,
			Labels: LabelsConfig{Allow: []string{}, Deny: []string{}, MinScore: map[string]float64{}},
		},
		MQTT: MQTTConfig{
			Prefix: "sightd", Commands: []string{},
			Outbox: OutboxConfig{MaxBytes: 256 << 20, MaxAge: seconds(72 * 3600), Durability: "always"},
		},
		Releases: ReleasesConfig{
			Keys: []KeyConfig{}, Revoked: []string{}, RequireSignature: true, Probation: seconds(300),
			Activate: "auto", Window: Window{2 * 60, 4 * 60}, Build: "any", Memory: "gap", Keep: 3,
			Proof: ProofConfig{Frames: 16, Latency: 2, Memory: 2},
		},
		HTTP: HTTPConfig{Listen: "127.0.0.1:8080"},
	}
}

// Redacted is the configuration without what is secret: the passwords that the
// URLs of cameras hold. Those of brokers may hold none.
func (c *Config) Redacted() *Config {
	shown := *c
	shown.Cameras = make([]CameraConfig, len(c.Cameras))
	for i, cam := range c.Cameras {
		cam.Source = strict.Mask(cam.Source)
		shown.Cameras[i] = cam
	}
	return &shown
}
