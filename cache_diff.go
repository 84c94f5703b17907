package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sightd/sightd/calibcache"
)

type cacheDiffCmd struct {
	Left     string `arg:"" help:"Calibration cache."`
	Right    string `arg:"" help:"Calibration cache to compare it with."`
	ExitCode bool   `help:"Exit with status 1 where they differ; without it the status is 0 then, too."`
	JSON     bool   `name:"json" help:"One JSON document."`
}

func (c *cacheDiffCmd) Run(a *app) error {
	left, err := calibcache.Read(c.Left)
	if err != nil {
		return err
	}
	right, err := calibcache.Read(c.Right)
	if err != nil {
		return err
	}
	d := calibcache.Compare(left, right)
	if c.JSON {
		err = writeJSON(a.stdout, differenceDocument(d))
	} else {
		err = c.print(a.stdout, d)
	}
	if err == nil && c.ExitCode && !d.Same() {
		return exitStatus(1)
	}
	return err
}

// differenceJSON is what `cache diff --json` says.
type differenceJSON struct {
	Same      bool         `json:"same"`
	Headers   headersJSON  `json:"headers"`
	Identical int          `json:"identical"`
	Tensors   []changeJSON `json:"tensors"`
	OnlyLeft  []string     `json:"only_left"`
	OnlyRight []string     `json:"only_right"`
}

type headersJSON struct {
	Left  string `json:"left"`
	Right string `json:"right"`
}

type changeJSON struct {
	Name  string   `json:"name"`
	Left  *float64 `json:"left"` // scales; null where JSON has no number for it
	Right *float64 `json:"right"`
	Ratio *float64 `json:"ratio"`
}

func differenceDocument(d *calibcache.Difference) differenceJSON {
	doc := differenceJSON{
		Same: d.Same(), Identical: d.Identical,
		Headers:   headersJSON{Left: d.Left.String(), Right: d.Right.String()},
		Tensors:   make([]changeJSON, 0, len(d.Tensors)),
		OnlyLeft:  append([]string{}, d.OnlyLeft...),
		OnlyRight: append([]string{}, d.OnlyRight...),
	}
	for _, t := range d.Tensors {
		doc.Tensors = append(doc.Tensors, changeJSON{
			Name: t.Name, Left: finite(float64(t.Left)), Right: finite(float64(t.Right)), Ratio: finite(t.Ratio),
		})
	}
	return doc
}

func (c *cacheDiffCmd) print(w io.Writer, d *calibcache.Difference) error {
	changed := d.Tensors[:len(d.Tensors)-d.Identical]
	_, err := fmt.Fprintf(w, "left:  %s: TensorRT %s, %s\nright: %s: TensorRT %s, %s\n\n"+
		"tensors: %d identical, %d changed, %d only in left, %d only in right\n",
		c.Left, d.Left.Version(), d.Left.Algorithm, c.Right, d.Right.Version(), d.Right.Algorithm,
		d.Identical, len(changed), len(d.OnlyLeft), len(d.OnlyRight))
	if len(changed) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "\nRATIO\tLEFT\tRIGHT\tTENSOR")
		for _, c := range changed {
			fmt.Fprintf(t, "%.6g\t%.6g\t%.6g\t%s\n", c.Ratio, c.Left, c.Right, c.Name)
		}
		err = errors.Join(err, t.Flush())
	}
	return errors.Join(err,
		printList(w, "only in left", d.OnlyLeft),
		printList(w, "only in right", d.OnlyRight))
}
