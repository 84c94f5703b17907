package daemon

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sightd/sightd/release"
)

// metrics are what /metrics shows. Counters are read from the status when they
// are asked for, so there is one place that counts; only the distributions are
// kept here.
type metrics struct {
	registry *prometheus.Registry
	infer    *prometheus.HistogramVec
	age      *prometheus.HistogramVec
}

func newMetrics(status func() Status, entries func(model string) ([]release.Entry, error)) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		infer: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sightd_inference_seconds", Help: "Time that the engine takes for a frame.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12),
		}, []string{"model"}),
		age: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sightd_frame_age_seconds", Help: "Age of a frame when it is classified.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}, []string{"camera", "model"}),
	}
	m.registry.MustRegister(m.infer, m.age, statusCollector{status, entries},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// statusCollector gives the numbers of Status, and the states of each model's releases,
// as metrics.
type statusCollector struct {
	status  func() Status
	entries func(model string) ([]release.Entry, error)
}

// mostReleases is how many releases of a model the metrics tell of: the newest.
const mostReleases = 20

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sightd_"+name, help, labels, nil)
}

var (
	descReady       = desc("ready", "1 when frames are being classified and the outbox takes the events.")
	descBuildInfo   = desc("build_info", "The running version.", "version")
	descCaptured    = desc("camera_frames_captured_total", "Frames that the camera gave.", "camera")
	descDropped     = desc("camera_frames_dropped_total", "Frames that a newer one replaced before a model looked.", "camera")
	descRestarts    = desc("camera_restarts_total", "Times that the camera's worker was started again.", "camera")
	descCamErrors   = desc("camera_errors_total", "Frames and files that couldn't be read.", "camera")
	descOnline      = desc("camera_online", "1 while the camera gives frames.", "camera")
	descClassified  = desc("frames_classified_total", "Frames that the model classified.", "model")
	descModelErrors = desc("frames_failed_total", "Frames that the engine failed on.", "model")
	descServing     = desc("model_serving", "1 while an engine serves the model.", "model", "release")
	descCoverage    = desc("calibration_coverage_ratio", "Share of the needed activations that the calibration cache names.", "model")
	descBuild       = desc("engine_build_seconds", "What building the serving engine took.", "model")
	descInterim     = desc("model_interim", "1 while the CPU serves until the configured back end has an engine.", "model")
	descBuilds      = desc("engine_builds_total", "Engines that were built, or tried to be.", "model", "outcome")
	descElapsed     = desc("engine_build_elapsed_seconds", "Age of the build that is under way; 0 where there is none.", "model")
	descEstimate    = desc("engine_build_estimate_seconds", "What the build that is under way takes, by earlier ones; 0 where that isn't known.", "model")
	descDamaged     = desc("engine_damaged_total", "Stored engines that couldn't be used and were built again.", "model")
	descTensorRT    = desc("tensorrt_errors_total", "Errors that TensorRT logged, beside those of builds.")
	descRelease     = desc("release_state", "1 for the state of each of the model's newest 20 releases.", "model", "release", "state")
	descRolledBack  = desc("release_rollbacks_total", "Releases that were rolled back.", "model", "code")
	descRejected    = desc("releases_rejected_total", "Installed releases that were rejected.", "model", "code")
	descDegraded    = desc("model_degraded", "1 while the release that serves should be left, with none to go back to.", "model")
	descProbation   = desc("probation_served_seconds", "Probation that the release that serves has behind it; missing where it is on none.", "model")
	descDrops       = desc("inbox_drops_total", "Drops that were staged, rejected, confirmed or rolled back, each once for each of these.", "state", "code")
	descInboxOK     = desc("inbox_ok", "1 while the inbox can be read, watched and written.")
	descConnected   = desc("mqtt_connected", "1 while there is a session with the broker.")
	descPublished   = desc("mqtt_events_published_total", "Events that the broker acknowledged.")
	descQueued      = desc("mqtt_events_queued", "Events that wait for the broker.")
	descWritten     = desc("mqtt_outbox_written_bytes_total", "Bytes that the outbox gave to the disk.")
	descCommands    = desc("mqtt_commands_received_total", "Messages on the topics of commands.")
	descDone        = desc("mqtt_commands_done_total", "Commands that were done.")
	descRepeated    = desc("mqtt_commands_repeated_total", "Commands whose id was known, which got their first reply again.")
	descRefused     = desc("mqtt_commands_refused_total", "Commands that were not done.", "code")
	descLost        = desc("mqtt_events_dropped_total", "Events given up.", "cause")
)

func (statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descReady, descBuildInfo, descCaptured, descDropped, descRestarts, descCamErrors, descOnline, descClassified,
		descModelErrors, descServing, descCoverage, descBuild,
		descInterim, descBuilds, descElapsed, descEstimate, descDamaged, descTensorRT,
		descRelease, descRolledBack, descRejected, descDegraded, descProbation, descDrops, descInboxOK, descConnected, descPublished, descQueued, descWritten, descLost,
		descCommands, descDone, descRepeated, descRefused,
	} {
		ch <- d
	}
}

func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descReady, truth(s.Ready))
	gauge(descBuildInfo, 1, s.Version)
	for _, c := range s.Cameras {
		count(descCaptured, c.Captured, c.Name)
		count(descDropped, c.Dropped, c.Name)
		count(descRestarts, c.Restarts, c.Name)
		count(descCamErrors, c.Errors, c.Name)
		gauge(descOnline, truth(c.State == "online"), c.Name)
	}
	for _, m := range s.Models {
		count(descClassified, m.Frames, m.Name)
		count(descModelErrors, m.Errors, m.Name)
		gauge(descServing, truth(m.State == modelServing), m.Name, releaseText(release.ID{Number: m.Release, Revision: m.Revision}))
		gauge(descCoverage, m.Coverage, m.Name)
		if m.Engine != nil {
			gauge(descBuild, m.Engine.Build, m.Name)
		}
		gauge(descInterim, truth(m.Interim), m.Name)
		for outcome, n := range m.Builds {
			count(descBuilds, n, m.Name, outcome)
		}
		var b BuildStatus
		if m.Build != nil {
			b = *m.Build
		}
		gauge(descElapsed, b.Elapsed, m.Name)
		gauge(descEstimate, b.Estimate, m.Name)
		count(descDamaged, m.Damaged, m.Name)
		for code, n := range m.RolledBack {
			count(descRolledBack, n, m.Name, string(code))
		}
		for code, n := range m.Rejected {
			count(descRejected, n, m.Name, string(code))
		}
		gauge(descDegraded, truth(m.Degraded), m.Name)
		if m.Probation != nil {
			gauge(descProbation, m.Probation.Served, m.Name)
		}
		// Where the store can't be read, /api/v1/releases has the reason; the other
		// numbers are told all the same.
		if all, err := c.entries(m.Name); err == nil {
			for _, e := range all[max(len(all)-mostReleases, 0):] {
				gauge(descRelease, 1, m.Name, e.ID().String(), string(e.State))
			}
		}
	}
	count(descTensorRT, s.TensorRTErrors)
	if s.Inbox != nil {
		count(descDrops, s.Inbox.Staged, string(release.Staged), "")
		for code, n := range s.Inbox.Rejected {
			count(descDrops, n, string(release.Rejected), string(code))
		}
		count(descDrops, s.Inbox.Confirmed, string(release.Confirmed), "")
		for code, n := range s.Inbox.RolledBack {
			count(descDrops, n, string(release.RolledBack), string(code))
		}
		gauge(descInboxOK, truth(s.Inbox.Error == ""))
	}
	gauge(descConnected, truth(s.MQTT.Connected))
	count(descPublished, s.MQTT.Published)
	gauge(descQueued, float64(s.MQTT.Queued))
	count(descWritten, uint64(s.MQTT.Written))
	for cause, n := range s.MQTT.Dropped {
		count(descLost, n, cause)
	}
	if c := s.MQTT.Commands; c != nil {
		count(descCommands, c.Received)
		count(descDone, c.Done)
		count(descRepeated, c.Repeated)
		for code, n := range c.Refused {
			count(descRefused, n, code)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
