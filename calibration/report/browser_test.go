package report_test

import (
	"context"
	"flag"
	"fmt"
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

	"github.com/sightd/sightd/calibration/report"
	"github.com/sightd/sightd/internal/testenv"
)

var screenshots = flag.String("screenshots", "", "folder to put pictures of the page in")

// screen is what a reader looks at the page with.
type screen struct {
	name          string
	width, height int64
	mobile, dark  bool
	noScripts     bool
}

var (
	phone = screen{name: "phone", width: 390, height: 844, mobile: true}
	desk  = screen{name: "desk", width: 1280, height: 800}
)

func (s screen) inTheDark() screen { s.name, s.dark = s.name+"-dark", true; return s }

// startBrowser starts a browser for a test and its subtests.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Chromium(t)),
		chromedp.NoSandbox, // which root has none of; it only sees pages made here
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
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	return ctx
}

// tab is a page in the browser, and what it did that it shouldn't.
type tab struct {
	*testing.T
	ctx context.Context
	screen

	mu        sync.Mutex
	requests  []string // addresses but for the page's own and those of pictures in it
	complaint []string // errors and warnings on the console
}

// open shows the page in a tab of its own until the test ends.
func open(t *testing.T, browser context.Context, p *report.Page, s screen) *tab {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(write(t, p)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	b := &tab{T: t, ctx: ctx, screen: s}
	chromedp.ListenTarget(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if e.Request.URL != "file://"+file && !strings.HasPrefix(e.Request.URL, "data:") {
				b.requests = append(b.requests, e.Request.URL)
			}
		case *runtime.EventConsoleAPICalled:
			b.complaint = append(b.complaint, fmt.Sprintf("console.%s", e.Type))
		case *runtime.EventExceptionThrown:
			b.complaint = append(b.complaint, e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			b.complaint = append(b.complaint, e.Entry.Text)
		}
	})
	scheme := "light"
	if s.dark {
		scheme = "dark"
	}
	b.run(
		network.Enable(),
		log.Enable(),
		emulation.SetDeviceMetricsOverride(s.width, s.height, 2, s.mobile),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		emulation.SetScriptExecutionDisabled(s.noScripts),
		chromedp.Navigate("file://"+file),
	)
	return b
}

func (b *tab) run(actions ...chromedp.Action) {
	b.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// eval gives what a JavaScript expression does.
func eval[T any](b *tab, expression string) T {
	b.Helper()
	var v T
	b.run(chromedp.Evaluate(expression, &v))
	return v
}

// expectQuiet fails the test where the page asked for anything or complained.
func (b *tab) expectQuiet() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) > 0 {
		b.Errorf("the page asked for %q", b.requests)
	}
	if len(b.complaint) > 0 {
		b.Errorf("the browser's console: %q", b.complaint)
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
