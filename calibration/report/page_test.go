package report_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibration/report"
)

// misfits, a function of the screen's width, lists what can't be read: of every
// element with text of its own that is shown, those that are too small, squeezed,
// out of the window, or too pale for what is behind them (WCAG's contrast, 4.5).
const misfits = `((width) => {
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m.slice(0, 3), 1] : m; };
  const over = (a, b) => a.slice(0, 3).map((v, i) => v * a[3] + b[i] * (1 - a[3])).concat(1);
  const behind = (e) => {
    if (!e) return [255, 255, 255, 1];
    const c = parse(getComputedStyle(e).backgroundColor);
    return c[3] === 1 ? c : over(c, behind(e.parentElement));
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const box = e.getBoundingClientRect();
    if (!own || !e.checkVisibility() || !box.width || e.closest("title, desc, script, option")) continue;
    const style = getComputedStyle(e), what = e.tagName + " " + JSON.stringify(e.textContent.trim().slice(0, 30));
    if (parseFloat(style.fontSize) < 12) bad.push(what + ": " + style.fontSize);
    if (!e.closest("nav") && (box.left < -0.5 || box.right > width + 0.5)) bad.push(what + ": from " + box.left + " to " + box.right + " of " + width);
    if (e.textContent.trim().length > 8 && box.width < 50 && box.height > 150 && style.writingMode === "horizontal-tb") bad.push(what + ": squeezed to a width of " + box.width);
    const back = behind(e), ink = over(parse(e instanceof SVGElement ? style.fill : style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(what + ": contrast " + ((a + 0.05) / (b + 0.05)).toFixed(2) + " of " + ink + " on " + back);
  }
  return bad;
})`

// expectLegible fails the test where something can't be read, or only by
// scrolling sideways. A phone's innerWidth grows with a page that is too wide,
// and tells nothing.
func (b *tab) expectLegible() {
	b.Helper()
	if got := eval[int64](b, `document.scrollingElement.scrollWidth`); got > b.width {
		b.Errorf("the page scrolls sideways: %d pixels wide on a screen of %d", got, b.width)
	}
	for _, m := range eval[[]string](b, fmt.Sprintf("(%s)(%d)", misfits, b.width)) {
		b.Error(m)
	}
}

const openAll = `document.querySelectorAll("details").forEach((d) => { d.open = true })`

func TestBrowser(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)

	page := sample(t, 24)
	for _, s := range []screen{phone, phone.inTheDark(), desk, desk.inTheDark()} {
		t.Run("legible, "+s.name, func(t *testing.T) {
			b := open(t, browser, page, s)
			b.picture(s.name)
			b.run(chromedp.Evaluate(openAll, nil))
			b.picture(s.name + "-open")
			b.expectLegible()
			if dark := eval[string](b, `getComputedStyle(document.body).backgroundColor`) != "rgb(255, 255, 255)"; dark != s.dark {
				t.Errorf("a dark page: %v, want %v", dark, s.dark)
			}
			b.expectQuiet()
		})
		t.Run("plots, "+s.name, func(t *testing.T) { plots(open(t, browser, page, s), page) })
	}
	t.Run("search", func(t *testing.T) { search(open(t, browser, page, phone)) })
	t.Run("order", func(t *testing.T) { order(open(t, browser, page, phone)) })
	t.Run("the ranking leads to the layer", func(t *testing.T) { follow(open(t, browser, page, desk)) })
	noScripts := phone
	noScripts.noScripts = true
	t.Run("without scripts", func(t *testing.T) { withoutScripts(open(t, browser, page, noScripts)) })
	t.Run("hostile text", func(t *testing.T) { hostileText(open(t, browser, hostilePage(), phone)) })
	t.Run("large", func(t *testing.T) { large(t, browser) })
}

// box is where something is on the page, in CSS pixels.
type box struct{ X, Y, Width, Height float64 }

func boxes(b *tab, selector string) []box {
	b.Helper()
	return eval[[]box](b, fmt.Sprintf(`[...document.querySelectorAll(%q)].map((e) => e.getBoundingClientRect().toJSON())`, selector))
}

// What is drawn is where the numbers say.
func plots(b *tab, p *report.Page) {
	b.Helper()
	b.run(chromedp.Evaluate(openAll, nil))
	if got, want := len(boxes(b, ".tensor .plot")), len(p.Tensors)-1; got != want { // one is all zero
		b.Errorf("%d histograms, want %d", got, want)
	}
	if got, want := len(boxes(b, "figure .plot")), 2; got != want {
		b.Errorf("%d charts of layers, want %d", got, want)
	}
	for _, plot := range boxes(b, ".plot") {
		if plot.Width < 250 || plot.Height < 150 {
			b.Errorf("a plot of %v × %v pixels", plot.Width, plot.Height)
		}
	}
	for i, t := range p.Tensors[:3] {
		tensor := fmt.Sprintf("#t%d ", i+1)
		plot := boxes(b, tensor+".plot > line.axis")[0]
		chosen := boxes(b, tensor+".range.chosen line:not(.halo)")[0]
		if got, want := (chosen.X-plot.X)/plot.Width, t.Chosen/t.Max; math.Abs(got-want) > 0.01 {
			b.Errorf("%s: the chosen range is drawn at %.3f of the width, want %.3f", t.Name, got, want)
		}
		within, beyond := boxes(b, tensor+".spark .within")[0], boxes(b, tensor+".spark .beyond")[0]
		if within.Width < 20 || beyond.Width < 5 || math.Abs(within.X+within.Width-beyond.X) > 0.5 {
			b.Errorf("%s: bins within the range at %+v, beyond at %+v", t.Name, within, beyond)
		}
		// The same shapes again, as large as the plot.
		drawn := boxes(b, tensor+".plot use")[0]
		if drawn.Width < 0.95*plot.Width || drawn.Height < 100 {
			b.Errorf("%s: the histogram is %v × %v pixels of a plot of %v", t.Name, drawn.Width, drawn.Height, plot.Width)
		}
	}
	// A layer with half the dB has a bar of half the height.
	bars := boxes(b, "figure:first-of-type rect")
	for i := range 5 {
		if got, want := bars[i].Height/bars[0].Height, p.Layers[i].SNR/p.Layers[0].SNR; math.Abs(got-want) > 0.02 {
			b.Errorf("%s has a bar of %.3f times the first's, want %.3f", p.Layers[i].Name, got, want)
		}
	}
	b.expectQuiet()
}

const shown = `[...document.querySelectorAll("#tensor-rows > details")].filter((d) => d.checkVisibility()).map((d) => d.id)`

func search(b *tab) {
	b.Helper()
	box := `#tensors input[type="search"]`
	b.run(chromedp.SendKeys(box, "BLOCKS_1 add", chromedp.ByQuery))
	if diff := cmp.Diff([]string{"t12"}, eval[[]string](b, shown)); diff != "" {
		b.Error(diff)
	}
	if got, want := eval[string](b, `document.querySelector("#tensors output").textContent`), "1 of 25"; got != want {
		b.Errorf("%q, want %q", got, want)
	}
	b.run(chromedp.SendKeys(box, "nothing has this name", chromedp.ByQuery))
	if got := eval[[]string](b, shown); len(got) != 0 {
		b.Errorf("shown: %q, want none", got)
	}
	b.run(chromedp.Evaluate(`{ const i = document.querySelector('`+box+`'); i.value = ""; i.dispatchEvent(new Event("input")) }`, nil))
	if got := eval[[]string](b, shown); len(got) != 25 {
		b.Errorf("%d shown of an empty search, want 25", len(got))
	}
	b.expectQuiet()
}

func order(b *tab) {
	b.Helper()
	choose := func(value string) []string {
		b.run(chromedp.Evaluate(`{ const s = document.querySelector("select"); s.value = "`+value+`"; s.dispatchEvent(new Event("change")) }`, nil))
		return eval[[]string](b, shown)
	}
	graph := eval[[]string](b, shown)
	clipped := choose("clipped")
	if got, want := clipped[:2], []string{"t16", "t10"}; !cmp.Equal(got, want) { // 16.8 %, 11.9 %
		b.Errorf("most clipped: %q, want %q", got, want)
	}
	if got, want := clipped[24], "t25"; got != want { // where no share is known
		b.Errorf("least clipped: %q, want %q", got, want)
	}
	if diff := cmp.Diff(graph, choose("n")); diff != "" {
		b.Error(diff)
	}

	column := func(n int) []string {
		return eval[[]string](b, fmt.Sprintf(`[...document.querySelectorAll("#algorithms tbody tr")].map((r) => r.cells[%d].textContent)`, n))
	}
	click := func(n int) {
		b.run(chromedp.Click(fmt.Sprintf("#algorithms thead th:nth-child(%d) button", n+1), chromedp.ByQuery))
	}
	click(3)
	if diff := cmp.Diff([]string{"−0.20", "0.50", "3.10"}, column(3)); diff != "" {
		b.Error(diff)
	}
	click(3)
	if diff := cmp.Diff([]string{"3.10", "0.50", "−0.20"}, column(3)); diff != "" {
		b.Error(diff)
	}
	click(2)
	click(2)
	if diff := cmp.Diff([]string{"21.4", "17.2", "–"}, column(2)); diff != "" { // none is last either way
		b.Error(diff)
	}
	b.expectQuiet()
}

func follow(b *tab) {
	b.Helper()
	row := `document.querySelector("#l6").checkVisibility()`
	if eval[bool](b, row) {
		b.Fatal("the table of layers is open from the start")
	}
	b.run(chromedp.Click(`.ranking a[href="#l6"]`, chromedp.ByQuery))
	b.run(chromedp.Poll(row, nil))
	if got := eval[string](b, `document.querySelector("#l6").innerText`); !strings.Contains(got, "kept in FP") {
		b.Errorf("row of the kept layer: %q", got)
	}
	b.expectQuiet()
}

func withoutScripts(b *tab) {
	b.Helper()
	if n := len(eval[[]string](b, `[...document.querySelectorAll(".controls")].filter((c) => c.checkVisibility()).map((c) => c.textContent)`)); n != 0 {
		b.Errorf("%d search boxes are shown that can't work", n)
	}
	b.run(chromedp.Click("#t1 > summary", chromedp.ByQuery))
	if plot := boxes(b, "#t1 .plot"); len(plot) != 1 || plot[0].Height == 0 {
		b.Errorf("the opened tensor's plot: %+v", plot)
	}
	b.expectQuiet()
}
