package report

import (
	"cmp"
	"slices"
)

const (
	maxConfusions = 25 // in the list
	maxClasses    = 10 // of the matrix: what a phone shows beside the labels
)

type confusionView struct {
	List    []confusionRow
	More    int // pairs beyond the list
	Classes []string
	Matrix  [][]cell // row From, column To
	Covered float64  // share of the images in the matrix
}

type confusionRow struct {
	Confusion
	Bar string // percent of the most frequent
}

type cell struct {
	From, To string
	Count    int
	Level    int // 0 of none, 1 to 4
	Diagonal bool
}

// newConfusionView sorts the confusions, the most frequent first, and makes a
// matrix of the classes that are involved most. Where those hold less than half
// of the images the matrix would say little, and is left out.
func newConfusionView(all []Confusion) confusionView {
	counts := map[[2]string]int{}
	involved := map[string]int{}
	off, total := 0, 0
	for _, c := range all {
		if c.Count <= 0 {
			continue
		}
		counts[[2]string{c.From, c.To}] += c.Count
		if c.From != c.To {
			involved[c.From] += c.Count
			involved[c.To] += c.Count
			total += c.Count
		}
	}
	var v confusionView
	for pair, n := range counts {
		if pair[0] != pair[1] {
			v.List = append(v.List, confusionRow{Confusion{pair[0], pair[1], n}, ""})
		}
	}
	slices.SortFunc(v.List, func(a, b confusionRow) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	if len(v.List) == 0 {
		return v
	}
	most := v.List[0].Count
	for i := range v.List {
		v.List[i].Bar = pct(float64(v.List[i].Count) / float64(most))
	}
	v.Classes = mostInvolved(involved)
	for _, from := range v.Classes {
		row := make([]cell, 0, len(v.Classes))
		for _, to := range v.Classes {
			n := counts[[2]string{from, to}]
			c := cell{From: from, To: to, Count: n, Diagonal: from == to}
			if n > 0 && !c.Diagonal {
				c.Level = 1 + 3*(n-1)/max(most-1, 1)
				off += n
			}
			row = append(row, c)
		}
		v.Matrix = append(v.Matrix, row)
	}
	if v.Covered = float64(off) / float64(total); v.Covered < 0.5 {
		v.Classes, v.Matrix = nil, nil
	}
	if len(v.List) > maxConfusions {
		v.More = len(v.List) - maxConfusions
		v.List = v.List[:maxConfusions]
	}
	return v
}

// mostInvolved is the classes with most images, in the order of their names.
func mostInvolved(images map[string]int) []string {
	classes := make([]string, 0, len(images))
	for c := range images {
		classes = append(classes, c)
	}
	slices.SortFunc(classes, func(a, b string) int {
		return cmp.Or(cmp.Compare(images[b], images[a]), cmp.Compare(a, b))
	})
	classes = classes[:min(len(classes), maxClasses)]
	slices.Sort(classes)
	return classes
}
