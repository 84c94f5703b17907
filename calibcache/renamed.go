package calibcache

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/agnivade/levenshtein"
)

// Renamed is a missing activation and the left-over entry that is perhaps the
// same tensor, as another export of the network names it.
type Renamed struct {
	Name       string  // the activation's
	Nearest    string  // the entry's
	Similarity float64 // of the two names, up to 1
}

const (
	// leastSimilarity of two names that are worth mentioning.
	leastSimilarity = 0.4
	// orderWeight is what it costs to stand at opposite ends of the network. It
	// decides among names that are about equally alike.
	orderWeight = 0.05
	// maxRenamedWork bounds the pairs of letters that are compared: some 500
	// names of 30 letters on either side.
	maxRenamedWork = 250_000_000
)

// Renamed pairs missing activations with left-over entries of similar names,
// each at most once, in the order of Missing. It is a guess for people to
// judge: nothing uses such an entry by itself. Where there are too many names
// to compare, it pairs none.
//
// The similarity is two thirds that of the words that the names consist of, in
// their order, each counted by how rare it is, so that what an exporter puts
// into all names ("model", "output") counts little; and one third that of the
// letters, by edit distance, for exports that number their tensors. Of all pairs the most
// similar is taken first; among equals the one whose places in the network's
// order and in the file's are closest.
func (f *Fit) Renamed() []Renamed {
	missing, leftover := wordsOf(f.Missing), wordsOf(f.Leftover)
	if letters(missing)*letters(leftover) > maxRenamedWork {
		return nil
	}
	w := weightsOf(missing, leftover)
	type pair struct {
		missing, leftover int
		similarity, rank  float64
	}
	var pairs []pair
	for i, a := range missing {
		for j, b := range leftover {
			if s := w.similarity(a, b); s >= leastSimilarity {
				apart := math.Abs(place(i, len(missing)) - place(j, len(leftover)))
				pairs = append(pairs, pair{i, j, s, s - orderWeight*apart})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(b.rank, a.rank) })

	nearest := make(map[int]pair)
	taken := make(map[int]bool)
	for _, p := range pairs {
		if _, has := nearest[p.missing]; !has && !taken[p.leftover] {
			nearest[p.missing] = p
			taken[p.leftover] = true
		}
	}
	var renamed []Renamed
	for i, name := range f.Missing {
		if p, ok := nearest[i]; ok {
			renamed = append(renamed, Renamed{Name: name, Nearest: f.Leftover[p.leftover], Similarity: p.similarity})
		}
	}
	return renamed
}

// place is where the i-th of n stands, from 0 to 1.
func place(i, n int) float64 { return (float64(i) + 0.5) / float64(n) }

// splitName is a name as the words that it consists of.
type splitName struct {
	words  []string
	joined string
}

// wordsOf splits names into words, where letters, digits and other characters
// meet and where a capital starts one, all in lower case:
// "/layer1/Conv_output_0" is layer, 1, conv, output, 0.
func wordsOf(names []string) []splitName {
	all := make([]splitName, 0, len(names))
	for _, name := range names {
		var words []string
		start, before := -1, rune(0)
		for i, r := range name {
			inside := start >= 0 && unicode.IsDigit(r) == unicode.IsDigit(before) && !(unicode.IsUpper(r) && unicode.IsLower(before))
			if part := unicode.IsDigit(r) || unicode.IsLetter(r); start >= 0 && (!part || !inside) {
				words = append(words, strings.ToLower(name[start:i]))
				start = -1
			}
			if start < 0 && (unicode.IsDigit(r) || unicode.IsLetter(r)) {
				start = i
			}
			before = r
		}
		if start >= 0 {
			words = append(words, strings.ToLower(name[start:]))
		}
		all = append(all, splitName{words, strings.Join(words, "/")})
	}
	return all
}

func letters(names []splitName) int {
	n := 0
	for _, name := range names {
		n += len(name.joined)
	}
	return n
}

// weights are what words count: log(1 + N ÷ n) where n of N names have it, the
// inverse document frequency of text retrieval.
type weights map[string]float64

func weightsOf(lists ...[]splitName) weights {
	having, all := map[string]int{}, 0
	for _, names := range lists {
		all += len(names)
		for _, name := range names {
			words := slices.Sorted(slices.Values(name.words))
			for _, word := range slices.Compact(words) {
				having[word]++
			}
		}
	}
	w := make(weights, len(having))
	for word, n := range having {
		w[word] = math.Log(1 + float64(all)/float64(n))
	}
	return w
}

func (w weights) of(words []string) float64 {
	sum := 0.0
	for _, word := range words {
		sum += w[word]
	}
	return sum
}

func (w weights) similarity(a, b splitName) float64 {
	longest := max(len(a.joined), len(b.joined))
	if longest == 0 {
		return 0 // names of punctuation alone
	}
	words := 2 * w.common(a.words, b.words) / (w.of(a.words) + w.of(b.words)) // Dice's coefficient
	most := float64(min(len(a.joined), len(b.joined))) / float64(longest)
	if (2*words+most)/3 < leastSimilarity {
		return 0 // whatever the letters, which take longer
	}
	letters := 1 - float64(levenshtein.ComputeDistance(a.joined, b.joined))/float64(longest)
	return (2*words + letters) / 3
}

// common is the weight of the words that a and b have in common, in one order:
// of their longest common subsequence.
func (w weights) common(a, b []string) float64 {
	row := make([]float64, len(b)+1) // row[j]: of the words of a so far and of b[:j]
	for _, word := range a {
		diagonal := 0.0
		for j, other := range b {
			above := row[j+1]
			row[j+1] = max(above, row[j])
			if word == other {
				row[j+1] = max(row[j+1], diagonal+w[word])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}
