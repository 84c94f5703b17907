package release

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sightd/sightd/internal/strict"
)

// Codes of what is found with golden images.
const (
	BadGolden   Code = "bad-golden"   // their folder has no index that can be read, or names what isn't there
	ProofFailed Code = "proof-failed" // the model doesn't answer them as they say
)

// GoldenIndex is the name of the index in the folder of golden images.
const GoldenIndex = "index.tsv"

// Limits of golden images: what proving a release may cost a device.
const (
	MaxGolden      = 1000     // images
	MaxGoldenImage = 64 << 20 // bytes of one
	maxGoldenIndex = 1 << 20
)

// GoldenAnswer is a golden image and what the model is expected to say of it.
type GoldenAnswer struct {
	File   string  // relative to the folder of golden images, with slashes
	Path   string  // where the file is; "" before it was looked for
	Class  int     // index of the label: the model's class less Spec.Output.First
	Score  float64 // that it had on the CPU when the release was packed; 0 where the index doesn't tell
	Margin float64 // by which that was above the next label's; 0 where the index doesn't tell

	line int // of the index
}

// GoldenAnswers reads the index of the release's golden images, in its order; nil
// where the release has none. That each file is there and no larger than
// MaxGoldenImage has been seen then, not that it is an image, nor that the model
// has so many classes (see [Release.Check]).
func (r *Release) GoldenAnswers() ([]GoldenAnswer, error) {
	if r.Golden == "" {
		return nil, nil
	}
	files, err := r.sources()
	if err != nil {
		return nil, err
	}
	at := goldenName // in the packed release
	if r.packed {
		at = path.Clean(r.Spec.Golden)
	}
	// A file that the manifest doesn't name is nobody's word.
	index := files[path.Join(at, GoldenIndex)]
	if index == "" {
		return nil, rejectf(BadGolden, "golden: %s has no %s, which says what the images show: let `sightd release pack --golden-from IMAGES` choose and label images, or leave `golden` out", r.Golden, GoldenIndex)
	}
	data, err := strict.ReadFile(index, maxGoldenIndex)
	var disk *fs.PathError
	if errors.As(err, &disk) {
		return nil, fmt.Errorf("read the index of the golden images: %w", err)
	} else if err != nil {
		return nil, rejectf(BadGolden, "read the index of the golden images: %w", err)
	}
	if r.packed { // it may have been changed since the release was opened
		if err := copyChecked(io.Discard, bytes.NewReader(data), index, r.manifest.Files[path.Join(at, GoldenIndex)]); err != nil {
			return nil, err
		}
	}
	answers, err := ParseGolden(index, data)
	if err != nil {
		return nil, reject(BadGolden, err)
	}
	for i := range answers {
		a := &answers[i]
		a.Path = files[path.Join(at, a.File)]
		if a.Path == "" {
			return nil, rejectf(BadGolden, "%s:%d: file %q isn't among the release's files", index, a.line, a.File)
		}
		info, err := os.Stat(a.Path)
		if err != nil {
			return nil, fmt.Errorf("golden image: %w", err)
		}
		if info.Size() > MaxGoldenImage {
			return nil, rejectf(BadGolden, "%s:%d: %s has %d bytes, wanted at most %d: scale it down", index, a.line, a.Path, info.Size(), MaxGoldenImage)
		}
	}
	return answers, nil
}

// checkGolden tells whether the release's golden images can be asked of a model
// with these labels.
func (r *Release) checkGolden(labels []string) error {
	answers, err := r.GoldenAnswers()
	for _, a := range answers {
		if a.Class >= len(labels) {
			return rejectf(BadGolden, "%s:%d: found class %d, wanted 0 to %d, since the model has %d labels",
				filepath.Join(r.Golden, GoldenIndex), a.line, a.Class, len(labels)-1, len(labels))
		}
	}
	return err
}

// VerifyGolden tells whether a golden image still is what the manifest says, to
// tell a bad image from a bad disk. Of a release that isn't packed it is enough
// that it can be read.
func (r *Release) VerifyGolden(a GoldenAnswer) error {
	if !r.packed {
		_, err := hashFile(a.Path)
		return err
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return r.manifest.verifyFile(root, r.dir, path.Join(path.Clean(r.Spec.Golden), a.File))
}

// TakeGolden has the release take the golden images of the folder dir instead of
// those that its model.yaml names; "" is none at all. The folder has to stay until
// the release has been packed.
func (r *Release) TakeGolden(dir string) error {
	if r.packed {
		return fmt.Errorf("%s is packed, and its golden images stay as they are: name the model.yaml that it was packed from", r.from)
	}
	r.Golden, r.Spec.Golden = dir, dir
	r.manifest, r.raw = nil, nil
	return nil
}

// ParseGolden reads an index of golden images: tab-separated, a header line with
// file and class and perhaps score and margin, then a line for each image. The name
// stands in errors, with the line.
func ParseGolden(name string, data []byte) ([]GoldenAnswer, error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.Comma, r.ReuseRecord = '\t', true
	columns, err := goldenColumns(name, r)
	if err != nil {
		return nil, err
	}
	var answers []GoldenAnswer
	seen := map[string]int{}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, indexError(name, err)
		}
		line, _ := r.FieldPos(0)
		a, err := parseAnswer(columns, row)
		a.line = line
		before, twice := seen[a.File]
		switch {
		case err != nil:
		case twice:
			err = fmt.Errorf("found %q, which line %d has too, wanted each file once", a.File, before)
		case len(answers) == MaxGolden:
			err = fmt.Errorf("found more than %d images, the most that a release may be proven with", MaxGolden)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
		seen[a.File] = line
		answers = append(answers, a)
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("%s names no image", name)
	}
	return answers, nil
}

// goldenColumns are the columns in their order.
func goldenColumns(name string, r *csv.Reader) ([]string, error) {
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is empty, wanted a header with the columns file and class", name)
	} else if err != nil {
		return nil, indexError(name, err)
	}
	columns := slices.Clone(head)
	line, _ := r.FieldPos(0)
	for i, c := range columns {
		if !slices.Contains([]string{"file", "class", "score", "margin"}, c) || slices.Contains(columns[:i], c) {
			return nil, fmt.Errorf("%s:%d: found the column %.40q, wanted file, class, score and margin, each once, separated by tabs", name, line, c)
		}
	}
	if !slices.Contains(columns, "file") || !slices.Contains(columns, "class") {
		return nil, fmt.Errorf("%s:%d: found the columns %q, wanted file and class among them, separated by tabs", name, line, columns)
	}
	return columns, nil
}

func parseAnswer(columns, row []string) (a GoldenAnswer, err error) {
	for i, text := range row {
		switch columns[i] {
		case "file":
			a.File = strings.Clone(text)
			if why := badName(text); why != "" {
				return a, fmt.Errorf("file %.80q: %s", text, why)
			}
		case "class":
			a.Class, err = strconv.Atoi(text)
			if err != nil || a.Class < 0 || a.Class > MaxNumber || strconv.Itoa(a.Class) != text {
				return a, fmt.Errorf("class: found %.40q, wanted an index from 0", text)
			}
		case "score":
			a.Score, err = number(text)
		case "margin":
			a.Margin, err = number(text)
		}
		if err != nil {
			return a, fmt.Errorf("%s: %w", columns[i], err)
		}
	}
	return a, nil
}

func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, fmt.Errorf("found %.40q, wanted a number", text)
	}
	return v, nil
}

// indexError puts the place in front of what encoding/csv found.
func indexError(name string, err error) error {
	var p *csv.ParseError
	if errors.As(err, &p) {
		return fmt.Errorf("%s:%d: %w", name, p.Line, p.Err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// WriteGolden writes what ParseGolden reads: all columns, the answers in their
// order.
func WriteGolden(answers []GoldenAnswer) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Comma = '\t'
	_ = w.Write([]string{"file", "class", "score", "margin"}) // a Buffer takes all
	for _, a := range answers {
		_ = w.Write([]string{a.File, strconv.Itoa(a.Class), plain(a.Score), plain(a.Margin)})
	}
	w.Flush()
	return b.Bytes()
}

func plain(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
