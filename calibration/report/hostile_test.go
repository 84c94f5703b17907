package report_test

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sightd/sightd/calibration/report"
)

// hostile is what a file or a tensor may be called.
const hostile = `"'></title></style></svg></script><script>document.title="taken"</script><img src=http://127.0.0.1:9/x onerror=alert(1)>{{.}}<!--`

func hostilePage() *report.Page {
	h := hostile
	return &report.Page{
		Title: h, Verdict: h, Warnings: []string{h}, Facts: []report.Fact{{h, h}},
		Algorithms: []report.Algorithm{{Name: h, Chosen: true, Note: h}},
		Tensors: []report.Tensor{{
			Name: h, Producer: h, Op: h, Max: 1, Bins: []uint64{1, 2, 3}, Chosen: 0.5, Note: h,
			Thresholds: []report.Threshold{{h, 0.5}},
		}},
		Layers: []report.Layer{{Name: h, Op: h, Why: h, INT8: true, SNR: 20, Alone: 30}},
		Changed: []report.Changed{{
			Path: h, Thumbnail: []byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`),
			Before: report.Answer{Label: h}, After: report.Answer{Label: h + "2"}, Truth: h,
		}},
		Confusions: []report.Confusion{{h, h + "2", 3}}, ConfusionTitle: h, Version: h,
	}
}

func hostileText(b *tab) {
	b.Helper()
	b.run(chromedp.Evaluate(openAll, nil))
	if got := eval[string](b, `document.title`); got != hostile {
		b.Errorf("title %q, want %q", got, hostile)
	}
	if n := eval[int](b, `document.querySelectorAll("script, img, style").length`); n != 2 {
		b.Errorf("%d scripts, styles and pictures, want the page's own script and style", n)
	}
	for _, selector := range []string{
		"h1", ".verdict", ".warnings li", "dt", "dd", "#algorithms tbody .name", "#algorithms .note", "#layers tbody .name", "#layers tbody .op", ".note",
		".tensor .label", ".ranking .name", ".label", "#confusion thead th span", "#confusion tbody th",
	} {
		if got := eval[string](b, fmt.Sprintf(`document.querySelector(%q).textContent`, selector)); got != hostile {
			b.Errorf("%s: %q, want %q", selector, got, hostile)
		}
	}
	dir, base := path.Split(hostile)
	for selector, want := range map[string]string{
		".tensor title":     "Histogram of " + hostile,
		"figure a title":    "1 " + hostile + ", " + hostile + ": 20.0 dB, INT8",
		".cards .base":      base,
		".plot .range text": hostile[:21] + "…",
		".cards .dir":       dir,
	} {
		if got := eval[string](b, fmt.Sprintf(`document.querySelector(%q).textContent`, selector)); got != want {
			b.Errorf("%s: %q, want %q", selector, got, want)
		}
	}
	b.expectLegible()
	b.expectQuiet()
}

// A page of many tensors and pictures stays small and opens at once.
func large(t *testing.T, browser context.Context) {
	p := sample(t, 120)
	for i := range p.Changed {
		p.Changed[i].Thumbnail = append(p.Changed[i].Thumbnail, make([]byte, 6000)...) // as if of finer pictures
	}
	for len(p.Changed) < 1000 {
		p.Changed = append(p.Changed, p.Changed[:5]...)
	}
	if size := len(write(t, p)); size > 3_000_000 {
		t.Errorf("%d bytes, want at most 3 million", size)
	}
	start := time.Now()
	b := open(t, browser, p, phone)
	if took := time.Since(start); took > 20*time.Second { // a second and less where nothing else runs
		t.Errorf("the page took %v to open", took)
	}
	if got, want := eval[string](b, `document.querySelector("#changed .lead").textContent`), "The first 300 are shown. To keep the page small"; !strings.Contains(got, want) {
		t.Errorf("%q doesn't say %q", got, want)
	}
	b.expectQuiet()
}
