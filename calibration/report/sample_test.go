package report_test

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	_ "image/png"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/image/draw"

	"github.com/sightd/sightd/calibration/report"
	"github.com/sightd/sightd/internal/testenv"
)

// sample is a page like one of a mobile network: blocks of expansion,
// depthwise convolution, projection and addition.
func sample(t testing.TB, tensors int) *report.Page {
	t.Helper()
	p := &report.Page{
		Title:   "Calibration of lite0, release 1",
		Verdict: "With entropy’s ranges INT8 answers 97.5 % of the images as FP32 does.",
		Facts: []report.Fact{
			{"Model", "EfficientNet-Lite0, model.onnx"},
			{"Release", "1"},
			{"Images", "200 calibrated, 40 held back"},
			{"Algorithm", "auto: entropy"},
			{"Top-1", "FP32 74.0 %, INT8 73.5 %"},
			{"SHA-256 of the cache", "5f1c2e9a0d7b4e38a6c95b1f20d4e7c83b9a6d5e4f3c2b1a09f8e7d6c5b4a392"},
		},
		Warnings: []string{"40 images were held back: 1 of them is 2.5 points of agreement"},
		Algorithms: []report.Algorithm{
			{Name: "entropy", Chosen: true, Agreement: 0.975, SNR: 21.43, Drop: 0.005},
			{Name: "minmax", Agreement: 0.9, SNR: 17.2, Drop: 0.031, Note: "no value is clipped"},
			{Name: "percentile 99.99", Agreement: 0.95, SNR: math.NaN(), Drop: -0.002},
		},
		ConfusionTitle: "FP32 → INT8",
		Version:        "v0.4.0",
		Made:           time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC),
	}
	random := rand.New(rand.NewPCG(4, 4))
	ops := []string{"Conv", "Clip", "Conv", "Clip", "Conv", "Add"}
	for i := range tensors {
		op := ops[i%len(ops)]
		layer := report.Layer{
			Name: fmt.Sprintf("efficientnet-lite0/blocks_%d/%s_%d", i/len(ops), op, i), Op: op, INT8: true,
			SNR: 34 - 14*float64(i)/float64(tensors) + 3*random.NormFloat64(), Alone: 38 + 6*random.NormFloat64(),
			AloneAgreement: 1 - float64(random.IntN(3))/200,
		}
		if i%23 == 5 {
			layer.INT8, layer.Kept, layer.Why = false, true, "keep_fp"
			layer.Alone, layer.AloneAgreement = 14.5, 0.93
		}
		p.Layers = append(p.Layers, layer)
		p.Tensors = append(p.Tensors, sampleTensor(random, layer.Name, op))
	}
	p.Layers = append(p.Layers, report.Layer{Name: "softmax", Op: "Softmax", Why: "TensorRT has no INT8 kernel for it", SNR: math.Inf(1), Alone: math.NaN(), AloneAgreement: math.NaN()})
	p.Tensors = append(p.Tensors, report.Tensor{Name: "zeros", Producer: "blocks_3/mul", Op: "Mul", Bins: make([]uint64, 2048), Clipped: math.NaN(), Note: "All values are zero."})

	labels := []string{"Egyptian cat", "tabby, tabby cat", "tiger cat", "lynx, catamount", "palace", "monastery"}
	pictures, err := thumbnails()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range photos {
		c := report.Changed{
			Path: "/srv/photos/evaluation/" + name, Thumbnail: pictures[i],
			Before: report.Answer{Label: labels[i], Score: 0.41}, After: report.Answer{Label: labels[i+1], Score: 0.3871},
		}
		c.Truth = []string{labels[i], labels[i+1], "", "otter"}[i%4]
		p.Changed = append(p.Changed, c)
		p.Confusions = append(p.Confusions, report.Confusion{From: labels[i], To: labels[i+1], Count: 6 - i})
	}
	dogs := []string{
		"German shepherd, German shepherd dog, German police dog, alsatian", "malinois", "Tibetan mastiff",
		"American Staffordshire terrier, Staffordshire terrier, American pit bull terrier, pit bull terrier", "kelpie", "boxer",
	}
	for i := range 10 {
		p.Confusions = append(p.Confusions, report.Confusion{From: dogs[i%6], To: dogs[(i*i+1)%6], Count: 1 + i%3})
	}
	return p
}

// sampleTensor has the histogram of a half-normal distribution, cut off at 0 or
// at 6 as activations do, with a few values far out.
func sampleTensor(random *rand.Rand, name, op string) report.Tensor {
	const values = 4e8
	sigma := math.Exp(random.NormFloat64())
	largest := sigma * (4.5 + 8*random.Float64())
	if op == "Clip" {
		largest = 6
		sigma = 0.4 + 2*random.Float64()
	}
	t := report.Tensor{Name: name, Producer: name, Op: op, Max: largest, Bins: make([]uint64, 2048)}
	cdf := func(x float64) float64 { return math.Erf(x / sigma / math.Sqrt2) }
	for i := range t.Bins {
		lower, upper := float64(i)*largest/2048, float64(i+1)*largest/2048
		n := values*(cdf(upper)-cdf(lower)) + 300*math.Exp(-lower/sigma/2)*random.ExpFloat64()
		t.Bins[i] = uint64(n)
	}
	if op == "Clip" {
		t.Bins[0] += values / 2
		t.Bins[2047] += uint64(values * (1 - cdf(6)))
	}
	t.Bins[2047]++
	t.Thresholds = []report.Threshold{
		{"entropy", largest * (0.35 + 0.4*random.Float64())}, {"minmax", largest}, {"percentile 99.99", min(3.9*sigma, largest)},
	}
	t.Chosen = t.Thresholds[0].Value
	t.Clipped = 1 - cdf(t.Chosen)
	return t
}

var photos = []string{"chelsea.png", "china.jpg", "coffee.png", "rocket.jpg", "camera.png"}

// thumbnails is the demo's photos, 160 pixels wide.
var thumbnails = sync.OnceValues(func() ([][]byte, error) {
	var all [][]byte
	for _, name := range photos {
		f, err := os.Open(testenv.Demo("photos", name))
		if err != nil {
			return nil, err
		}
		m, _, err := image.Decode(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		small := image.NewRGBA(image.Rect(0, 0, 160, 160*m.Bounds().Dy()/m.Bounds().Dx()))
		draw.ApproxBiLinear.Scale(small, small.Bounds(), m, m.Bounds(), draw.Src, nil)
		var b bytes.Buffer
		if err := jpeg.Encode(&b, small, nil); err != nil {
			return nil, err
		}
		all = append(all, slices.Clip(b.Bytes()))
	}
	return all, nil
})

func write(t testing.TB, p *report.Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.Write(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
