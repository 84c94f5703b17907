package report_test

import (
	"bytes"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibration/report"
)

func TestPartsThatAreEmptyAreLeftOut(t *testing.T) {
	t.Parallel()
	html := write(t, &report.Page{Title: "Nothing was measured"})
	if !strings.Contains(html, "<h1>Nothing was measured</h1>") {
		t.Errorf("no heading:\n%s", html)
	}
	for _, left := range []string{"<section", "<dl", "<table", "<a ", "class=\"verdict\"", "class=\"warnings\"", "<time"} {
		if strings.Contains(html, left) {
			t.Errorf("%s in an empty page", left)
		}
	}
	full := write(t, sample(t, 2))
	for _, id := range []string{"algorithms", "layers", "tensors", "changed", "confusion"} {
		if !strings.Contains(full, `<section id="`+id+`"`) || !strings.Contains(full, `<a href="#`+id+`">`) {
			t.Errorf("no part, or no link to it: %s", id)
		}
	}
}

// An evaluation has no tensors, a model without labels no drop.
func TestColumnsWithoutAnyNumberAreLeftOut(t *testing.T) {
	t.Parallel()
	p := sample(t, 2)
	for i := range p.Algorithms {
		p.Algorithms[i].Drop = math.NaN()
	}
	for i := range p.Layers {
		p.Layers[i].Alone, p.Layers[i].AloneAgreement = math.NaN(), math.NaN()
	}
	html := write(t, p)
	for _, column := range []string{"Top-1 drop", "Alone, dB", "each layer alone in INT8"} {
		if strings.Contains(html, column) {
			t.Errorf("the page has %q without a number for it", column)
		}
	}
}

var nan, inf = math.NaN(), math.Inf(1)

func TestNumbersThatAreNoneAreDashes(t *testing.T) {
	t.Parallel()
	html := write(t, &report.Page{
		Algorithms: []report.Algorithm{{Name: "a", Agreement: nan, SNR: inf, Drop: -inf}},
		Layers:     []report.Layer{{Name: "l", SNR: inf, Alone: nan, AloneAgreement: nan}},
		Tensors: []report.Tensor{
			{Name: "t", Max: nan, Chosen: nan, Clipped: nan, Bins: []uint64{1}, Thresholds: []report.Threshold{{"a", inf}, {"b", nan}}},
			{Name: "u", Max: inf, Chosen: inf, Clipped: inf, Bins: []uint64{1}, Thresholds: []report.Threshold{{"a", -inf}}},
			{Name: "v", Max: 1, Chosen: nan, Clipped: nan, Bins: []uint64{1, 1}, Thresholds: []report.Threshold{{"a", nan}}},
			{Name: "w"},
		},
		Changed: []report.Changed{{Before: report.Answer{Score: nan}, After: report.Answer{Score: inf}}},
	})
	checkNumbers(t, html)
	if got := cells(html, `<td class="num">([^<]*)</td>`)[:4]; !slices.Equal(got, []string{"–", "–", "1", "–"}) {
		t.Errorf("the algorithm's numbers and the layer's: %q", got)
	}
}

// The fuzz test's claim: whatever the numbers, the plots have coordinates.
func checkNumbers(t *testing.T, html string) {
	t.Helper()
	body := html[strings.Index(html, "</style>"):strings.Index(html, "<script>")]
	if m := regexp.MustCompile(`(?:.{40})(NaN|Inf|[xyh12]="")(?:.{20})`).FindString(body); m != "" {
		t.Errorf("the page shows %q", m)
	}
	for _, d := range cells(body, ` d="([^"]*)"`) {
		if !regexp.MustCompile(`^M[\d.]+ \d+(V\d+H[\d.]+)+V\d+Z$`).MatchString(d) {
			t.Errorf("path %q", d)
		}
	}
	for _, v := range cells(body, ` (?:x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]*)"`) {
		if !regexp.MustCompile(`^-?\d+(\.\d+)?%?$`).MatchString(v) {
			t.Errorf("coordinate %q", v)
		}
	}
}

func cells(html, pattern string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(html, -1) {
		all = append(all, m[1])
	}
	return all
}

func FuzzNumbers(f *testing.F) {
	f.Add(6.0, 4.5, 6.0, 0.01, 20.0, []byte{200, 100, 50, 25, 0, 0, 1})
	f.Add(1.0, 50.0, 0.0, 1.0, -3.0, []byte{1})
	f.Add(1.0, 0.0, -1.0, 0.0, 0.0, []byte{1, 1})
	f.Add(5e-324, 1.7e308, -1.0, nan, inf, []byte{})
	f.Add(1.7e308, 5e-324, nan, -inf, 1.7e308, make([]byte, 600))
	f.Fuzz(func(t *testing.T, largest, chosen, other, share, db float64, counts []byte) {
		bins := make([]uint64, min(len(counts), 4096))
		for i := range bins {
			bins[i] = 1 << (counts[i] % 64) >> 1
		}
		checkNumbers(t, write(t, &report.Page{
			Algorithms: []report.Algorithm{{Agreement: share, SNR: db, Drop: share}},
			Tensors: []report.Tensor{{
				Max: largest, Bins: bins, Chosen: chosen, Clipped: share, Thresholds: []report.Threshold{{"a", other}, {"b", chosen}},
			}},
			Layers:  []report.Layer{{INT8: true, SNR: db, Alone: -db, AloneAgreement: share}, {INT8: true, SNR: share, Alone: db / 3}},
			Changed: []report.Changed{{Before: report.Answer{Score: share}, After: report.Answer{Score: largest}}},
		}))
	})
}

func TestNumbersHaveTheDigitsThatMatter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clipped float64
		want    string
	}{
		{0, "0 %"}, {1e-9, "&lt; 0.001 %"}, {0.00123, "0.123 %"}, {0.0213, "2.1 %"}, {0.99951, "99.95 %"}, {0.999999, "&gt; 99.99 %"}, {1, "100 %"},
	} {
		html := write(t, &report.Page{Tensors: []report.Tensor{{Clipped: c.clipped, Chosen: 0.012345}}})
		numbers := cells(html, `<span class="num(?: much)?">([^<]*)</span></summary>`)
		if len(numbers) != 1 || numbers[0] != c.want {
			t.Errorf("a share of %v is shown as %q, want %q", c.clipped, numbers, c.want)
		}
	}
	for _, c := range []struct {
		chosen float64
		want   string
	}{
		{0, "0"}, {0.012345, "0.01235"}, {5.99999, "6.000"}, {123456, "123456"}, {1234567, "1.235e+06"}, {0.00001, "1.000e-05"},
	} {
		html := write(t, &report.Page{Tensors: []report.Tensor{{Chosen: c.chosen}}})
		if numbers := cells(html, `<span class="num">([^<]*)</span><span`); !slices.Contains(numbers, strings.ReplaceAll(c.want, "+", "&#43;")) {
			t.Errorf("a range of %v is shown as %q, want %q", c.chosen, numbers, c.want)
		}
	}
}

// The worst layer first, by the best that was measured.
func TestLayersThatCostMost(t *testing.T) {
	t.Parallel()
	layers := []report.Layer{
		{Name: "first", INT8: true, SNR: 20, Alone: 40, AloneAgreement: 0.99},
		{Name: "second", INT8: true, SNR: 30, Alone: 30, AloneAgreement: 0.9},
		{Name: "kept", Kept: true, SNR: 10, Alone: 20, AloneAgreement: 0.95},
		{Name: "unmeasured", INT8: true, SNR: nan, Alone: nan, AloneAgreement: nan},
	}
	ranked := func(p *report.Page) []string {
		list, _, _ := strings.Cut(write(t, p), "</ol>")
		_, list, _ = strings.Cut(list, `<ol class="ranking">`)
		return append(cells(list, `<span class="name">([^<]*)</span>`), cells(list, `<span class="num">([^<]*)</span>`)...)
	}
	for _, c := range []struct {
		name   string
		forget func(*report.Layer)
		want   []string
	}{
		{"noise in the scores", func(*report.Layer) {}, []string{"kept", "second", "first", "1.0 %", "0.100 %", "0.010 %"}},
		{"answers changed", func(l *report.Layer) { l.Alone = nan }, []string{"second", "kept", "first", "10.0 %", "5.0 %", "1.0 %"}},
		// A kept layer makes no noise of its own.
		{"noise of INT8 layers", func(l *report.Layer) { l.Alone, l.AloneAgreement = nan, nan }, []string{"first", "second", "1.0 %", "0.100 %"}},
		{"nothing", func(l *report.Layer) { l.Alone, l.AloneAgreement, l.SNR = nan, nan, nan }, nil},
	} {
		p := &report.Page{Layers: slices.Clone(layers)}
		for i := range p.Layers {
			c.forget(&p.Layers[i])
		}
		if diff := cmp.Diff(c.want, ranked(p)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestConfusions(t *testing.T) {
	t.Parallel()
	p := &report.Page{Confusions: []report.Confusion{{"cat", "dog", 2}, {"dog", "cat", 5}, {"cat", "cat", 1234}, {"cat", "dog", 1}, {"owl", "cat", 0}}}
	html := write(t, p)
	_, section, _ := strings.Cut(html, `id="confusion"`)
	if got, want := cells(section, `<span class="label">([^<]*)</span>`), []string{"dog", "cat", "cat", "dog"}; !slices.Equal(got, want) {
		t.Errorf("pairs %q, want %q", got, want)
	}
	if got, want := cells(section, `<span class="num">([^<]*)</span>`), []string{"5", "3"}; !slices.Equal(got, want) {
		t.Errorf("counts %q, want %q", got, want)
	}
	if got, want := cells(section, `<td class="(?:diagonal|level\d)"[^>]*>([^<]*)</td>`), []string{"1.2k", "3", "5", ""}; !slices.Equal(got, want) {
		t.Errorf("matrix %q, want %q", got, want)
	}

	// A matrix of ten classes out of hundreds would be all but empty.
	p.Confusions = nil
	for i := range 100 {
		p.Confusions = append(p.Confusions, report.Confusion{From: "was " + strings.Repeat("x", i), To: "is " + strings.Repeat("x", i), Count: 1})
	}
	html = write(t, p)
	if strings.Contains(html, `class="matrix"`) {
		t.Errorf("a matrix that leaves most out")
	}
	if !strings.Contains(html, "And 75 rarer pairs.") {
		t.Errorf("the page doesn't say that 75 pairs are left out")
	}
}

// A picture is what its bytes say; anything else isn't put into the page.
func TestOnlyPicturesAreThumbnails(t *testing.T) {
	t.Parallel()
	for kind, b := range map[string][]byte{
		"image/jpeg": {0xff, 0xd8, 0xff, 0xe0}, "image/png": []byte("\x89PNG\r\n\x1a\n"),
		"": []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"),
	} {
		html := write(t, &report.Page{Changed: []report.Changed{{Path: "a", Thumbnail: b}}})
		if got := cells(html, `<img src="data:([^;]*);`); kind == "" && len(got) > 0 || kind != "" && !slices.Equal(got, []string{kind}) {
			t.Errorf("%q is shown as %q, want %q", b, got, kind)
		}
	}
}

type brokenWriter struct{ bytes.Buffer }

var errFull = errors.New("no space left on device")

func (*brokenWriter) Write([]byte) (int, error) { return 0, errFull }

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	if err := report.Write(&brokenWriter{}, &report.Page{}); !errors.Is(err, errFull) {
		t.Errorf("error %v, want %v", err, errFull)
	}
}

func TestTheSamePageTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	p := sample(t, 6)
	first, second := write(t, p), write(t, p)
	if first != second {
		t.Errorf("writing a page changed it")
	}
}
