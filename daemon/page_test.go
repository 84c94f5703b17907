package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

var screenshots = flag.String("screenshots", "", "folder to put pictures of the page in")

// browser shows a page on a phone, in the dark, and keeps what it shouldn't do.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu        sync.Mutex
	requests  []string // of other places
	complaint []string // on the console
}

func browse(t *testing.T, address string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Chromium(t)),
		chromedp.NoSandbox, // which root has none of; it only sees this page
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(time.Minute), // of a machine that is busy
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(t.Logf))
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, address) {
				b.requests = append(b.requests, e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			b.complaint = append(b.complaint, e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if !strings.HasSuffix(e.Entry.URL, "/favicon.ico") {
				b.complaint = append(b.complaint, e.Entry.Text)
			}
		}
	})
	b.run(
		network.Enable(),
		log.Enable(),
		emulation.SetDeviceMetricsOverride(390, 844, 2, true),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
		chromedp.Navigate(address),
	)
	return b
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// text is that of an element; empty where there is none.
func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	b.run(chromedp.Evaluate(`document.querySelector(`+string(quoted)+`)?.innerText ?? ""`, &text))
	return text
}

func (b *browser) number(expression string) (n float64) {
	b.t.Helper()
	b.run(chromedp.Evaluate(expression, &n))
	return n
}

func (b *browser) shows(selector string, wanted ...string) {
	b.t.Helper()
	for _, want := range wanted {
		eventually(b.t, selector+" shows "+want, func() bool { return strings.Contains(b.text(selector), want) })
	}
}

func TestThePageShowsReleases(t *testing.T) {
	t.Parallel()
	const hostile = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>&lt;b>`
	s := newPair(t, func(c *Config, _ *scripted) {
		c.Releases.Probation = seconds(3600)
		c.Models[1].Release = ""
		c.Releases.Inbox = filepath.Join(c.StateDir, "inbox")
		b, err := os.ReadFile(packedTiny(t, tinyFirst))
		if err != nil {
			t.Fatal(err)
		}
		installWhileStopped(t, c, b)
	})
	s.backend.failRelease(2, errors.New(hostile))
	s.install(2)
	s.wait(2, release.Rejected, release.ProofFailed)
	s.install(3)
	s.wait(3, release.Serving, "")
	name := strings.ReplaceAll(hostile, "/", "") + ".tar.zst"
	drop(t, s.c, name, packed(t, 2, "name: lite0", "name: stranger"))
	s.backend.failRelease(tinyFirst, errors.New(hostile))
	eventually(t, "tiny is degraded", func() bool { return s.tiny().Degraded })

	b := browse(t, "http://"+s.c.HTTP.Listen+"/")
	b.shows("#ready", "tiny is degraded")
	b.shows("#releases", "release 3, serving", "4 frames", " served without a fault", "3 (serves)", "1 (factory)", "proof-failed: ", hostile)
	b.shows("#releases .degraded", "Degraded: ", "failed-inferences")
	b.shows("#inbox", name, "rejected", "unknown-model: ", "stranger 2")
	if title := b.text("title"); b.number(`document.title == 'sightd' ? 1 : 0`) != 1 {
		t.Errorf("title %q", title)
	}
	for what, expression := range map[string]string{
		"pictures":                         `document.querySelectorAll("img").length`,
		"scripts beside its own":           `document.querySelectorAll("script").length - 1`,
		"bars without a name":              `document.querySelectorAll("progress:not([aria-label])").length`,
		"headers without scope":            `document.querySelectorAll("th:not([scope])").length`,
		"tables that no keyboard scrolls":  `[...document.querySelectorAll("table")].filter(t => t.parentElement.tabIndex != 0).length`,
		"pixels that a phone doesn't show": `Math.max(document.documentElement.scrollWidth - innerWidth, 0)`,
	} {
		if n := b.number(expression); n != 0 {
			t.Errorf("the page has %v %s", n, what)
		}
	}
	if n := b.number(`document.querySelectorAll("#releases progress").length`); n != 2 {
		t.Errorf("%v bars, want a probation for each model", n)
	}
	if *screenshots != "" {
		var png []byte
		b.run(chromedp.FullScreenshot(&png, 100))
		if err := os.WriteFile(filepath.Join(*screenshots, "page.png"), png, 0o644); err != nil {
			t.Error(err)
		}
	}
	// A release that comes, and one that is confirmed, are seen without a reload.
	if err := s.rollBack(t.Context(), "lite0", release.ID{}, "it sees ghosts"); err != nil {
		t.Fatal(err)
	}
	b.shows("#releases", "rolled back", "by-hand: it sees ghosts", "release 1, the factory release")
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) > 0 || len(b.complaint) > 0 {
		t.Errorf("the page asked for %q; the console: %q", b.requests, b.complaint)
	}
}
