package dla

import "strings"

// network is the network's layers in order, as the verdicts list them.
type network struct {
	names []string
	can   []bool
	at    map[string]int // the first of that name
	taken map[int]bool   // counted already, or on the GPU
}

func networkOf(verdicts []Verdict) *network {
	n := &network{at: map[string]int{}, taken: map[int]bool{}}
	for i, v := range verdicts {
		n.names = append(n.names, v.Layer)
		n.can = append(n.can, v.Can)
		if _, twice := n.at[v.Layer]; !twice {
			n.at[v.Layer] = i
		}
	}
	return n
}

const (
	joined = " + " // between the names of layers that became one
	until  = "..." // between the first and the last layer of a piece
)

// ends are the first and the last layer of a piece that TensorRT calls
// "{ForeignNode[first...last]}", or "{ForeignNode[only]}". A name may hold brackets,
// and dots.
func (n *network) ends(piece string) (first, last string) {
	inner := piece
	if s, ok := strings.CutPrefix(piece, "{ForeignNode["); ok && strings.HasSuffix(s, "]}") {
		inner = strings.TrimSuffix(s, "]}")
	}
	first, last = inner, inner
	for from, found := 0, false; ; {
		i := strings.Index(inner[from:], until)
		if i < 0 {
			return first, last
		}
		a, b := inner[:from+i], inner[from+i+len(until):]
		if !found {
			first, last, found = a, b, true
		}
		if n.position(a) >= 0 && n.position(b) >= 0 {
			return a, b
		}
		from += i + 1
	}
}

// position is where a layer of the engine is in the network, by the first of its
// parts that is known there; -1 where none is.
func (n *network) position(name string) int {
	if i, ok := n.at[name]; ok {
		return i
	}
	for part := range strings.SplitSeq(name, joined) {
		if i, ok := n.at[strings.TrimSpace(part)]; ok {
			return i
		}
	}
	return -1
}

// lastPosition is the same by the last part.
func (n *network) lastPosition(name string) int {
	if i, ok := n.at[name]; ok {
		return i
	}
	last := -1
	for part := range strings.SplitSeq(name, joined) {
		if i, ok := n.at[strings.TrimSpace(part)]; ok {
			last = max(last, i)
		}
	}
	return last
}

// take marks the layers that a layer on the GPU is made of, and counts them: one
// where the network knows none.
func (n *network) take(name string) int {
	if i, ok := n.at[name]; ok {
		n.taken[i] = true
		return 1
	}
	count := 0
	for part := range strings.SplitSeq(name, joined) {
		if i, ok := n.at[strings.TrimSpace(part)]; ok && !n.taken[i] {
			n.taken[i] = true
			count++
		}
	}
	return max(count, 1)
}

// inside counts the network's layers from first to last that DLA can run and that
// are nowhere else; not exactly where the network doesn't know both.
func (n *network) inside(first, last string) (count int, exact bool) {
	from, to := n.position(first), n.lastPosition(last)
	if from < 0 || to < from {
		if first == last {
			return 1, false
		}
		return 2, false
	}
	for i := from; i <= to; i++ {
		if n.can[i] && !n.taken[i] {
			n.taken[i] = true
			count++
		}
	}
	return count, true
}
