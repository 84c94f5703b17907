package release

import (
	"path/filepath"
	"testing"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
)

// What other exporters write becomes what TensorRT takes, too; run checks that. The
// scales are made up: here answers don't matter.
func TestRealModelsInTheExplicitForm(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(testenv.Material(t, "models"), "*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			c := &Checked{Spec: DefaultSpec(), Precision: "int8", Fit: &calibcache.Fit{Scales: map[string]float32{}}, path: path}
			var err error
			if c.Model, err = onnx.Read(path); err != nil {
				t.Fatal(err)
			}
			if c.Image, err = c.Model.Image(); err != nil {
				t.Fatal(err)
			}
			if c.Image.Channels == 1 {
				c.Spec.Input.Color = "gray"
			}
			activations, err := c.Model.Activations()
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range activations {
				for _, name := range a.Names() {
					c.Fit.Scales[name] = 0.05
				}
			}
			got := run(t, c, nil, stored(t, tensorRT(t, c, TensorRTOptions{Form: Explicit, Softmax: true})))
			if got[0].Quantised < 8 {
				t.Errorf("%d Q/DQ nodes", got[0].Quantised)
			}
		})
	}
}
