package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightd/sightd/daemon"
)

type evalCmd struct {
	modelFlags
	Release string `arg:"" help:"model.yaml, a release's folder, or a .tar.zst."`
	Images  string `required:"" type:"existingdir" placeholder:"DIR" help:"Folder of the images."`
	Index   string `required:"" type:"existingfile" placeholder:"FILE" help:"Tab-separated, with a header; the columns file and class (an index) are used."`
	Where   string `placeholder:"COLUMN=VALUE" help:"Only the rows of the index where the column has the value."`
	Layers  bool   `help:"Rank the layers by what quantising each alone costs."`
	Report  string `placeholder:"FILE" help:"Write a page with histograms, noise by layer, changed answers and confusions (HTML)."`
	JSON    bool   `name:"json" help:"One JSON document."`
}

// labelled is an image and the index of its label.
type labelled struct {
	path  string
	class int
}

// maxIndex is the most bytes of an index: 10 million rows of 100.
const maxIndex = 1 << 30

// readIndex reads the rows of a tab-separated index of images below dir.
func readIndex(file, dir, where string) ([]labelled, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(io.LimitReader(f, maxIndex))
	r.Comma, r.LazyQuotes, r.ReuseRecord = '\t', true, true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: no header line: %w", file, err)
	}
	fileCol, classCol := slices.Index(head, "file"), slices.Index(head, "class")
	if fileCol < 0 || classCol < 0 {
		return nil, fmt.Errorf("%s:1: the header has the columns %q, want file and class among them, separated by tabs", file, head)
	}
	whereCol, whereValue := -1, ""
	if where != "" {
		name, value, ok := strings.Cut(where, "=")
		if !ok {
			return nil, usagef("--where %s: want COLUMN=VALUE", where)
		}
		if whereCol, whereValue = slices.Index(head, name), value; whereCol < 0 {
			return nil, usagef("--where %s: %s has no column %q, only %q", where, file, name, head)
		}
	}
	var rows []labelled
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if whereCol >= 0 && row[whereCol] != whereValue {
			continue
		}
		class, err := strconv.Atoi(row[classCol])
		if err != nil || class < 0 {
			line, _ := r.FieldPos(classCol)
			return nil, fmt.Errorf("%s:%d: class %q, want an index from 0", file, line, row[classCol])
		}
		rows = append(rows, labelled{filepath.Join(dir, row[fileCol]), class})
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s names no image%s", file, ifset(where, " where "+where))
	}
	return rows, nil
}

func ifset(s, text string) string {
	if s == "" {
		return ""
	}
	return text
}

// accuracy is what one precision reached.
type accuracy struct {
	Precision string  `json:"precision"`
	Top1      float64 `json:"top1"`
	Top5      float64 `json:"top5"`
}

// evaluation is eval --json. Shares are from 0 to 1.
type evaluation struct {
	Images int `json:"images"`
	accuracy
	Backend   string   `json:"backend"`
	Reference accuracy `json:"reference"`
	Drop      float64  `json:"drop"` // of top-1, reference less this
	Agreement float64  `json:"agreement"`
	Rate      float64  `json:"images_per_second"`

	Layers []layerJSON `json:"layers,omitempty"` // the costliest first
}

func (c *evalCmd) Run(a *app) error {
	rows, err := readIndex(c.Index, c.Images, c.Where)
	if err != nil {
		return err
	}
	if err := writable(c.Report, c.Release, c.Index); err != nil {
		return err
	}
	if study := c.Layers || c.Report != ""; study && c.Precision != "auto" && c.Precision != "int8" {
		return usagef("--layers and --report are about INT8, --precision says %s", c.Precision)
	}
	own, err := c.measure(a, c.precision(), rows)
	if err != nil {
		return err
	}
	if (c.Layers || c.Report != "") && own.precision != "int8" {
		return usagef("--layers and --report are about INT8, this is %s", own.precision)
	}
	ref := own
	if own.precision != "fp32" {
		if ref, err = c.measure(a, "fp32", rows); err != nil {
			return err
		}
	}
	e := evaluation{Images: len(rows), accuracy: own.accuracy(rows), Backend: own.backend, Reference: ref.accuracy(rows)}
	e.Rate = float64(len(rows)) / own.took.Seconds()
	e.Drop = e.Reference.Top1 - e.Top1
	same := 0
	for i := range rows {
		if own.answers[i][0] == ref.answers[i][0] {
			same++
		}
	}
	e.Agreement = float64(same) / float64(len(rows))
	if c.Layers || c.Report != "" {
		if e.Layers, err = c.study(a, rows, e); err != nil {
			return err
		}
	}
	if c.JSON {
		return writeJSON(a.stdout, e)
	}
	fmt.Fprintf(a.stdout, "%d images on %s, %.1f a second\n", e.Images, e.Backend, e.Rate)
	fmt.Fprintf(a.stdout, "%-6s  top-1 %5.1f %%  top-5 %5.1f %%\n", e.Precision, 100*e.Top1, 100*e.Top5)
	fmt.Fprintf(a.stdout, "%-6s  top-1 %5.1f %%  top-5 %5.1f %%\n", e.Reference.Precision, 100*e.Reference.Top1, 100*e.Reference.Top5)
	fmt.Fprintf(a.stdout, "drop %.2f points of top-1, both agree on %.1f %%\n", 100*e.Drop, 100*e.Agreement)
	if c.Layers {
		return printLayers(a.stdout, e.Layers)
	}
	return nil
}

// measurement holds the five best labels for each image at one precision.
type measurement struct {
	precision, backend string
	answers            [][5]int
	took               time.Duration
}

func (c *evalCmd) measure(a *app, precision string, rows []labelled) (measurement, error) {
	rel, m, err := c.open(a, c.Release, precision)
	if err != nil {
		return measurement{}, err
	}
	defer rel.Close()
	files := make([]string, len(rows))
	for i, r := range rows {
		files[i] = r.path
		if r.class >= len(m.Labels) {
			m.Engine.Close()
			return measurement{}, fmt.Errorf("%s: %s has class %d, the model knows 0 to %d", c.Index, r.path, r.class, len(m.Labels)-1)
		}
	}
	out := measurement{precision: m.Precision, backend: m.Backend, answers: make([][5]int, len(rows))}
	bar := progress(a, len(rows), "classifying in "+m.Precision, "images")
	top := make([]daemon.Score, 5)
	var bad error
	start := time.Now()
	done := 0
	err = m.Files(a.ctx, files, func(r *daemon.Result) {
		_ = bar.Add(1)
		scores, err := m.TopK(top, r)
		if err != nil && bad == nil {
			path := files[r.Frame.File]
			bad = fmt.Errorf("%s: %s", path, reason(path, err))
		}
		answer := [5]int{-1, -1, -1, -1, -1}
		for i, s := range scores {
			answer[i] = s.Index
		}
		out.answers[r.Frame.File] = answer
		done++
	})
	out.took = time.Since(start)
	_ = bar.Finish()
	switch {
	case err != nil:
		return out, err
	case a.ctx.Err() != nil:
		return out, a.ctx.Err()
	case bad != nil:
		return out, bad
	case done != len(rows):
		return out, fmt.Errorf("%d of %d images were classified: the index may name a video", done, len(rows))
	}
	return out, nil
}

func (m measurement) accuracy(rows []labelled) accuracy {
	first, five := 0, 0
	for i, r := range rows {
		if m.answers[i][0] == r.class {
			first++
		}
		if slices.Contains(m.answers[i][:], r.class) {
			five++
		}
	}
	n := float64(len(rows))
	return accuracy{m.precision, float64(first) / n, float64(five) / n}
}
