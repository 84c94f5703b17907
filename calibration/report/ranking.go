package report

import (
	"cmp"
	"math"
	"slices"
)

const maxCostly = 10

// ranking is the layers whose quantising costs most, the worst first.
type ranking struct {
	Meaning string // of the costs
	Rows    []costlyRow
}

type costlyRow struct {
	layerRow
	Cost float64 // share
	Bar  string  // percent of the worst
}

// costly ranks the layers by the best of what was measured. The noise that a
// layer alone brings to the scores is finer than how many answers it changes,
// which is the same few images for most layers; the noise at a layer's own
// output is its inputs' too.
func costly(layers []layerRow) ranking {
	noise := func(db float64) float64 {
		if !finite(db) {
			return math.NaN()
		}
		return math.Pow(10, -clamp(db)/10)
	}
	for _, by := range []struct {
		cost    func(layerRow) float64
		meaning string
	}{
		{
			func(l layerRow) float64 { return noise(l.Alone) },
			"Noise in the network’s scores when this layer alone is in INT8, in percent of their power.",
		},
		{
			func(l layerRow) float64 { return 1 - l.AloneAgreement },
			"Images answered otherwise than in FP32 when this layer alone is in INT8.",
		},
		{
			func(l layerRow) float64 {
				if !l.INT8 {
					return math.NaN() // all its noise is that of others
				}
				return noise(l.SNR)
			},
			"Noise at the layer’s output with the whole network in INT8, in percent of the signal’s power: what the layers before it bring is part of it.",
		},
	} {
		var rows []costlyRow
		for _, l := range layers {
			if c := by.cost(l); finite(c) && c > 0 {
				rows = append(rows, costlyRow{l, c, ""})
			}
		}
		if len(rows) == 0 {
			continue
		}
		slices.SortStableFunc(rows, func(a, b costlyRow) int { return cmp.Compare(b.Cost, a.Cost) })
		rows = rows[:min(len(rows), maxCostly)]
		for i := range rows {
			rows[i].Bar = pct(rows[i].Cost / rows[0].Cost)
		}
		return ranking{by.meaning, rows}
	}
	return ranking{}
}
