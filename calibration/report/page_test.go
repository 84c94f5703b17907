package report_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "folder to put pictures of the page in")

// misfits lists what can't be read, as text: of every element with text of its
// own that is shown, those that are too small, stand out of the window, or are
// too pale for what is behind them (WCAG's contrast, 4.5).
const misfits = `(() => {
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
    if (!e.closest("nav") && (box.left < -0.5 || box.right > innerWidth + 0.5)) bad.push(what + ": from " + box.left + " to " + box.right + " of " + innerWidth);
    const back = behind(e), ink = over(parse(e instanceof SVGElement ? style.fill : style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(what + ": contrast " + ((a + 0.05) / (b + 0.05)).toFixed(2) + " of " + ink + " on " + back);
  }
  return bad;
})()`

const openAll = `document.querySelectorAll("details").forEach((d) => { d.open = true })`

func TestBrowser(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)

	for _, s := range []screen{phone, phone.inTheDark(), desk, desk.inTheDark()} {
		t.Run("legible, "+s.name, func(t *testing.T) {
			b := open(t, browser, sample(t, 24), s)
			b.picture(s.name)
			b.run(chromedp.Evaluate(openAll, nil))
			b.picture(s.name + "-open")
			if eval[bool](b, `document.scrollingElement.scrollWidth > innerWidth`) {
				t.Errorf("the page scrolls sideways")
			}
			for _, m := range eval[[]string](b, misfits) {
				t.Error(m)
			}
			b.expectQuiet()
		})
	}
}

// picture saves what the whole page looks like, where pictures are asked for.
func (b *tab) picture(name string) {
	b.Helper()
	if *screenshots == "" {
		return
	}
	var png []byte
	b.run(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
		b.Fatal(err)
	}
}
