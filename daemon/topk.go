package daemon

import "math"

// Score is one label's probability.
type Score struct {
	Index int     // the label's index: the class's less the specification's output.first
	Score float32 // 0 to 1
}

// topK writes the highest scores of one frame to top, best first, equal ones
// in the order of their index, and returns how many there are: as many as top
// has room for, or as there are labels. The classes before first are no labels
// (background). It reports false, and the top is worth nothing, where a score
// is no number. It allocates nothing.
func topK(top []Score, scores []float32, first int) (int, bool) {
	n := 0
	for i, s := range scores {
		if s != s || s > math.MaxFloat32 || s < -math.MaxFloat32 {
			return 0, false
		}
		if i < first || (n == len(top) && (n == 0 || s <= top[n-1].Score)) {
			continue
		}
		if n < len(top) {
			n++
		}
		j := n - 1
		for ; j > 0 && top[j-1].Score < s; j-- {
			top[j] = top[j-1]
		}
		top[j] = Score{Index: i - first, Score: s}
	}
	return n, true
}
