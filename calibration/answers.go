package calibration

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// answers are what a graph says of the sample's images.
type answers struct {
	scores [][]float32 // as the model itself gives them, by image and class
	best   []int       // label of the highest score, by image
}

// Loss is how far answers in INT8 are from those in floating point.
type Loss struct {
	Images    int
	Agreement float64 // share of the images that both give the same label for
	SNR       float64 // of the scores, in dB
	KL        float64 // Kullback-Leibler divergence of the probabilities from those in floating point, in nats
	Labelled  int     // images whose right label is known
	Top1      float64 // share of these that are right in INT8
	Reference float64 // and in floating point

	worse, better int         // labelled images that only floating point, only INT8 labels right
	changed       map[int]int // 1 for each image of the sample, by position, that both label differently
}

// Points is what is lost, in hundredths: of top-1 where labels are known, else of
// agreement.
func (l Loss) Points() float64 {
	if l.Labelled > 0 {
		return 100 * (l.Reference - l.Top1)
	}
	return 100 * (1 - l.Agreement)
}

// confidence is the 95th percentile of the normal distribution.
const confidence = 1.645

// Within says whether no more than most points are lost.
//
// For agreement that is what was counted. Top-1 moves both ways: where ten
// answers of a hundred changed, as many can have become right as wrong by chance,
// and on other images it is another number. So there the drop has to stay within
// most with a confidence of 95 %, by the standard error of the difference of two
// shares of the same images (McNemar 1947); or no more answers than that may have
// changed at all.
func (l Loss) Within(most float64) bool {
	most += 1e-9 // shares like 198/200 aren't exact
	if l.Labelled == 0 || 100*(1-l.Agreement) <= most {
		return l.Points() <= most
	}
	n, b, c := float64(l.Labelled), float64(l.worse), float64(l.better)
	deviation := math.Sqrt(b+c-(b-c)*(b-c)/n) / n
	return l.Points()+100*confidence*deviation <= most
}

// quantised are the options for INT8 on this machine's CPU. Unlike in a daemon's
// engine no more than keep stays in floating point (no Islands): what is measured
// has to hold for TensorRT too.
func quantised(scales map[string]float32, keep, only []string) release.GraphOptions {
	return release.GraphOptions{
		Scales:   scales,
		Quantize: onnx.QuantizeOptions{Unsigned: true, Saturating: ort.Saturates(), Keep: keep, Only: only},
	}
}

// answer runs a graph over images.
func (s *Study) answer(ctx context.Context, o release.GraphOptions, images []*frame, step func()) (*answers, error) {
	return s.answerUntil(ctx, o, images, step, nil)
}

// answerUntil runs a graph over images, in their order, until enough, which may be
// nil, says that an image's answer was the last that is wanted: then there are no
// answers. enough is called from several goroutines.
func (s *Study) answerUntil(ctx context.Context, o release.GraphOptions, images []*frame, step func(), enough func(i, best int) bool) (*answers, error) {
	o.Expose = []string{s.checked.Output.Name}
	p, err := openProbe(s.checked, o, false)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	a := &answers{scores: make([][]float32, len(images)), best: make([]int, len(images))}
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	var ended atomic.Bool
	for range min(s.o.Threads, len(images)) {
		group.Go(func() error {
			v, err := p.View()
			if err != nil {
				return err
			}
			for i := next.Add(1) - 1; i < int64(len(images)) && ctx.Err() == nil && !ended.Load(); i = next.Add(1) - 1 {
				copy(v.Pixels(), images[i].pixels)
				if err := v.Run(); err != nil {
					return fmt.Errorf("%s: %w", images[i], err)
				}
				a.scores[i] = append([]float32(nil), v.Output(0)...)
				a.best[i] = argmax(a.scores[i][s.checked.Spec.Output.First:])
				if enough != nil && enough(int(i), a.best[i]) {
					ended.Store(true)
				}
				if step != nil {
					step()
				}
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil || ended.Load() {
		return nil, err
	}
	return a, nil
}

// reference are the sample's answers in floating point.
func (s *Study) reference(ctx context.Context) (*answers, error) {
	if s.truth != nil {
		return s.truth, nil
	}
	err := s.pass("answers in fp32", len(s.sample), func(step func()) (err error) {
		s.truth, err = s.answer(ctx, release.GraphOptions{}, s.sample, step)
		return err
	})
	return s.truth, err
}

// compare tells how far the answers for the sample's images at the given
// positions are from the reference. own has those images' answers alone.
func (s *Study) compare(own *answers, at []int) Loss {
	l := Loss{Images: len(at), changed: map[int]int{}}
	same, right, reference := 0, 0, 0
	signal, noise := 0.0, 0.0
	for n, i := range at {
		l.KL += s.divergence(s.truth.scores[i], own.scores[n]) / float64(len(at))
		if own.best[n] == s.truth.best[i] {
			same++
		} else {
			l.changed[i] = 1
		}
		for k, v := range s.truth.scores[i] {
			d := float64(v) - float64(own.scores[n][k])
			signal += float64(v) * float64(v)
			noise += d * d
		}
		if class, ok := s.o.Classes[s.sample[i].path]; ok {
			l.Labelled++
			now, before := own.best[n] == class, s.truth.best[i] == class
			switch {
			case now && before:
				right, reference = right+1, reference+1
			case now:
				right, l.better = right+1, l.better+1
			case before:
				reference, l.worse = reference+1, l.worse+1
			}
		}
	}
	l.Agreement = float64(same) / float64(len(at))
	l.SNR = decibels(signal, noise)
	if l.Labelled > 0 {
		l.Top1, l.Reference = float64(right)/float64(l.Labelled), float64(reference)/float64(l.Labelled)
	}
	return l
}

// divergence is that of the probabilities which two images' scores stand for.
func (s *Study) divergence(want, got []float32) float64 {
	p, q := s.probabilities(want), s.probabilities(got)
	sum := 0.0
	for k := range p {
		if p[k] > 0 {
			sum += p[k] * math.Log(p[k]/max(q[k], math.SmallestNonzeroFloat32))
		}
	}
	return sum
}

// probabilities are what scores stand for: themselves, or their softmax.
func (s *Study) probabilities(scores []float32) []float64 {
	p := make([]float64, len(scores))
	softmax := s.checked.Spec.Output.Softmax
	if softmax == "false" || softmax == "auto" && s.checked.Output.Softmax {
		for k, v := range scores {
			p[k] = float64(v)
		}
		return p
	}
	most, sum := float64(scores[argmax(scores)]), 0.0
	for k, v := range scores {
		p[k] = math.Exp(float64(v) - most)
		sum += p[k]
	}
	for k := range p {
		p[k] /= sum
	}
	return p
}

// maxDecibels stands for noise that is none.
const maxDecibels = 140 // the most that float32 can tell: 24 bits of 6.02 dB

func decibels(signal, noise float64) float64 {
	switch {
	case signal == 0 && noise > 0:
		return -maxDecibels
	case noise == 0:
		return maxDecibels
	}
	return min(max(10*math.Log10(signal/noise), -maxDecibels), maxDecibels)
}

func argmax(v []float32) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}
