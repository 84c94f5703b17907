package daemon

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/sightd/sightd/release"
)

func TestTheMetricsAreNamedAsPrometheusAsks(t *testing.T) {
	t.Parallel()
	s := newPair(t, func(c *Config, _ *scripted) { c.Releases.Probation = seconds(3600) })
	s.backend.failRelease(2, errScripted)
	s.install(2)
	s.wait(2, release.Rejected, release.ProofFailed)
	s.install(3)
	s.wait(3, release.Serving, "")
	if err := s.rollBack(t.Context(), "lite0", release.ID{}, ""); err != nil {
		t.Fatal(err)
	}
	s.installTiny(tinyFirst)
	eventually(t, "tiny is on probation", func() bool { return s.tiny().Probation != nil })
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{
		"sightd_release_state", "sightd_release_rollbacks_total", "sightd_releases_rejected_total", "sightd_model_degraded", "sightd_probation_served_seconds",
	} {
		if !slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name }) {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestTheMetricsTellOfTheNewestReleases(t *testing.T) {
	t.Parallel()
	entries := []release.Entry{}
	for n := range 25 {
		entries = append(entries, release.Entry{Number: n + 1, State: release.Confirmed})
	}
	r := prometheus.NewRegistry()
	r.MustRegister(statusCollector{
		func() Status { return Status{Models: []ModelStatus{{Name: "lite0"}}} },
		func(string) ([]release.Entry, error) { return entries, nil },
	})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sightd_release_state" {
			continue
		}
		var releases []string
		for _, m := range f.GetMetric() {
			releases = append(releases, m.GetLabel()[1].GetValue())
		}
		if len(releases) != mostReleases || slices.Contains(releases, "5") || !slices.Contains(releases, "25") {
			t.Errorf("releases %q, want the newest %d", releases, mostReleases)
		}
	}
}
