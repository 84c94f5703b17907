package daemon

import (
	"sync"
	"sync/atomic"
)

// answer is the best label of a frame.
type answer struct {
	view  int
	seq   uint64 // of the camera's frame
	label string
}

// answers are the latest of what serves, kept while a new engine proves itself.
type answers struct {
	on   atomic.Bool
	mu   sync.Mutex
	kept []answer // a ring
	next int
}

const keptAnswers = 256 // of each view

func (a *answers) listen(views int) {
	a.mu.Lock()
	a.kept, a.next = make([]answer, views*keptAnswers), 0
	a.mu.Unlock()
	a.on.Store(true)
}

func (a *answers) stop() {
	a.on.Store(false)
	a.mu.Lock()
	a.kept = nil
	a.mu.Unlock()
}

// add keeps an answer, while somebody listens. It allocates nothing.
func (a *answers) add(view int, seq uint64, label string) {
	if !a.on.Load() {
		return
	}
	a.mu.Lock()
	if len(a.kept) > 0 {
		a.kept[a.next%len(a.kept)] = answer{view, seq, label}
		a.next++
	}
	a.mu.Unlock()
}

// compare counts those of other answers of which the frame was answered here too, and
// those that are the same.
func (a *answers) compare(other []answer) (compared, agreed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	type frame struct {
		view int
		seq  uint64
	}
	here := map[frame]string{}
	for _, k := range a.kept {
		if k.seq > 0 {
			here[frame{k.view, k.seq}] = k.label
		}
	}
	for _, o := range other {
		if label, ok := here[frame{o.view, o.seq}]; ok {
			compared++
			if label == o.label {
				agreed++
			}
		}
	}
	return compared, agreed
}
