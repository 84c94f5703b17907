package mqtt

import "time"

// A fifo holds messages in memory, with consecutive Seq.
type fifo struct {
	all   []queued // the messages are all[head:]
	head  int
	bytes int64
}

type queued struct {
	Message
	added time.Time // by the outbox's clock, for its age
	at    time.Time // for the writer
}

func (f *fifo) len() int        { return len(f.all) - f.head }
func (f *fifo) items() []queued { return f.all[f.head:] }

func (f *fifo) push(q queued) {
	f.bytes += q.size()
	f.all = append(f.all, q)
}

// after gives up to n of the messages behind seq.
func (f *fifo) after(seq uint64, n int) []Message {
	rest := f.items()
	if len(rest) > 0 && seq >= rest[0].Seq {
		rest = rest[min(seq-rest[0].Seq+1, uint64(len(rest))):]
	}
	rest = rest[:min(n, len(rest))]
	if len(rest) == 0 {
		return nil
	}
	messages := make([]Message, len(rest))
	for i := range rest {
		messages[i] = rest[i].Message
	}
	return messages
}

// pop takes away all up to seq. The slice is moved to its front once half of it
// is empty, so that its memory follows the bounds.
func (f *fifo) pop(seq uint64) {
	for f.head < len(f.all) && f.all[f.head].Seq <= seq {
		f.bytes -= f.all[f.head].size()
		f.all[f.head] = queued{}
		f.head++
	}
	if f.head == len(f.all) {
		f.all, f.head = f.all[:0], 0
	} else if f.head >= 64 && f.head*2 >= len(f.all) {
		n := copy(f.all, f.items())
		clear(f.all[n:])
		f.all, f.head = f.all[:n], 0
	}
}

// renumber gives all new Seq, from the one behind last on.
func (f *fifo) renumber(last uint64) {
	for i := range f.items() {
		last++
		f.items()[i].Seq = last
	}
}
