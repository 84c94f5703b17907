// Package release reads, checks, packs and stores model releases.
//
// A release is a directory, or a .tar.zst of one, with a manifest.json that
// names every file with its size and hash; [Open] also takes the hand-written
// model.yaml that a release is packed from. What Open returns has been read
// and, where there is a manifest, found to be what the manifest says;
// [Release.Check] goes on to see whether model, labels and cache fit each
// other. A [Store] keeps the releases of a device.
//
// Everything here is input from outside: sizes, counts and depths have limits,
// and whatever is refused is refused with a [Rejection], whose code is for
// programs and whose text is for people.
package release

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/onnx"
)

const (
	maxLabels    = 1 << 20 // bytes of labels.txt
	maxSignature = 16 << 10
)

// Release is an opened release. Its files stay where they are until Close.
type Release struct {
	Spec        Spec
	Model       string // path of the ONNX file
	Calibration string // path of the calibration cache; empty: none
	Golden      string // path of the directory of golden images; empty: none
	Factory     bool   // set by who opened it: named by the configuration rather than installed

	labels    []string
	dir       string   // where the specification or manifest stands
	from      string   // the path that was opened, for messages
	packed    bool     // its files lie as a manifest there names them
	revised   bool     // made here, of an installed release and a drop-in
	signers   []string // of a revised one: see Entry.Signers
	manifest  *Manifest
	raw       []byte // the manifest as it was read, or as it was made
	signature []byte // of raw; nil: none
	temp      string // removed by Close
	room      *claim // ended by Close; nil: none
	received  bool   // temp is in the store's staging, whose files were verified there
}

// Open opens a release: a model.yaml, a directory with a manifest.json or a
// model.yaml in it, or a .tar.zst, which is unpacked into a temporary
// directory until Close.
func Open(path string) (*Release, error) { return open(path, "", false) }

// OpenUncalibrated is [Open] for who is going to calibrate: a model.yaml needn't
// name a calibration cache, nor need the one that it names be there.
func OpenUncalibrated(path string) (*Release, error) { return open(path, "", true) }

func open(path, tempDir string, uncalibrated bool) (*Release, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the release: %w", err)
	}
	if info.IsDir() {
		return openDir(path, path, uncalibrated)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open the release: %s is %v, wanted a model.yaml, a directory or a .tar.zst", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the release: %w", err)
	}
	defer f.Close()
	if isArchive(f) {
		return OpenArchive(path, f, tempDir)
	}
	if filepath.Base(path) == ManifestName {
		return openDir(path, filepath.Dir(path), uncalibrated)
	}
	if ext := filepath.Ext(path); ext != ".yaml" && ext != ".yml" {
		return nil, rejectf(BadManifest, "%s is no release: wanted a model.yaml, a directory with one or with a %s, or a .tar.zst", path, ManifestName)
	}
	return openSpec(path, uncalibrated)
}

func openDir(from, dir string, uncalibrated bool) (*Release, error) {
	if _, err := os.Stat(filepath.Join(dir, ManifestName)); err == nil {
		return openManifest(from, dir)
	}
	spec := filepath.Join(dir, specName)
	if _, err := os.Stat(spec); err != nil {
		return nil, rejectf(BadManifest, "%s holds no release: neither a %s nor a %s is there", from, ManifestName, specName)
	}
	return openSpec(spec, uncalibrated)
}

func openSpec(path string, uncalibrated bool) (*Release, error) {
	spec, err := readSpec(path, uncalibrated)
	if err != nil {
		return nil, reject(BadManifest, err)
	}
	dir := filepath.Dir(path)
	r := &Release{Spec: *spec, dir: dir, from: path}
	r.locate()
	if _, err := os.Stat(r.Calibration); uncalibrated && err != nil {
		r.Calibration = ""
	}
	for _, f := range []struct{ key, path string }{{"model", r.Model}, {"calibration", r.Calibration}, {"labels", r.LabelsPath()}} {
		if f.path == "" {
			continue
		}
		if err := regular(f.path); err != nil {
			return nil, rejectf(MissingFile, "%s: %s: %w", path, f.key, err)
		}
	}
	// Before anybody hashes it.
	if info, err := os.Stat(r.Model); err == nil && info.Size() > onnx.MaxSize {
		return nil, rejectf(BadModel, "%s: model: %s: %d bytes are too large for a model, at most %d are taken: check that it is the right file", path, r.Model, info.Size(), onnx.MaxSize)
	}
	if r.Golden != "" {
		if info, err := os.Stat(r.Golden); err != nil || !info.IsDir() {
			return nil, rejectf(MissingFile, "%s: golden: %s is no directory", path, r.Golden)
		}
	}
	return r, r.readLabels()
}

func openManifest(from, dir string) (*Release, error) {
	at := filepath.Join(dir, ManifestName)
	raw, err := strict.ReadFile(at, maxManifest)
	if err != nil {
		return nil, rejectf(BadManifest, "read the manifest: %w", err)
	}
	m, err := ParseManifest(at, raw)
	if err != nil {
		return nil, reject(BadManifest, err)
	}
	r := &Release{Spec: m.Spec, dir: dir, from: from, packed: true, manifest: m, raw: raw}
	r.signature, err = strict.ReadFile(filepath.Join(dir, SignatureName), maxSignature)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, rejectf(BadSignature, "read the signature: %w", err)
	}
	r.locate()
	if err := m.verify(dir); err != nil {
		return nil, err
	}
	return r, r.readLabels()
}

// locate sets the paths of the files.
func (r *Release) locate() {
	r.Model = resolve(r.dir, r.Spec.Model)
	if r.Spec.Calibration != "" {
		r.Calibration = resolve(r.dir, r.Spec.Calibration)
	}
	if r.Spec.Golden != "" {
		r.Golden = resolve(r.dir, r.Spec.Golden)
	}
}

// LabelsPath is the path of the labels' file; "" where there is none.
func (r *Release) LabelsPath() string {
	if r.Spec.Labels == "" {
		return ""
	}
	return resolve(r.dir, r.Spec.Labels)
}

func (r *Release) readLabels() error {
	path := r.LabelsPath()
	if path == "" {
		return nil
	}
	data, err := strict.ReadFile(path, maxLabels)
	if err != nil {
		return rejectf(BadLabels, "read the labels: %w", err)
	}
	if r.labels, err = parseLabels(path, data); err != nil {
		return reject(BadLabels, err)
	}
	return nil
}

// parseLabels reads a label a line; blank lines at the end don't count.
func parseLabels(name string, data []byte) ([]string, error) {
	text := strings.TrimRight(string(bytes.TrimPrefix(data, []byte("\ufeff"))), " \t\r\n")
	if text == "" {
		return nil, fmt.Errorf("%s is empty, wanted a label a line", name)
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			return nil, fmt.Errorf("%s:%d: found an empty line, wanted a label", name, i+1)
		case !utf8.ValidString(line) || strings.ContainsFunc(line, isControl):
			return nil, fmt.Errorf("%s:%d: found %.40q, wanted text in UTF-8", name, i+1, line)
		}
		lines[i] = line
	}
	return lines, nil
}

// SpecPath is the model.yaml that the release was read from; "" where it is
// packed.
func (r *Release) SpecPath() string {
	if r.packed {
		return ""
	}
	return r.from
}

// Labels are the labels in the order of the file, the first for the class
// Spec.Output.First; nil where the release names no labels.
func (r *Release) Labels() []string { return r.labels }

// LabelsFor are the labels of a model with so many classes, beginning with the
// class Spec.Output.First: the file's, or numbers where the release has none.
// It fails where there are too few or too many.
func (r *Release) LabelsFor(classes int) ([]string, error) {
	first := r.Spec.Output.First
	wanted := classes - first
	if wanted < 1 {
		return nil, rejectf(BadLabels, "output.first is %d, but the model has %d classes", first, classes)
	}
	if r.labels == nil {
		numbers := make([]string, wanted)
		for i := range numbers {
			numbers[i] = strconv.Itoa(first + i)
		}
		return numbers, nil
	}
	if len(r.labels) == wanted {
		return r.labels, nil
	}
	why := "the model has " + strconv.Itoa(classes) + " classes"
	if first > 0 {
		why += " and output.first is " + strconv.Itoa(first)
	}
	out := ""
	if len(r.labels) == classes-1 {
		out = "; set output.first: 1 if class 0 is the background"
	} else if len(r.labels) == classes {
		out = "; leave output.first at 0"
	}
	return nil, rejectf(BadLabels, "%s has %d labels, wanted %d, since %s%s", r.LabelsPath(), len(r.labels), wanted, why, out)
}

// Close removes what Open unpacked. It may be called twice.
func (r *Release) Close() error {
	r.room.end()
	if r.temp == "" {
		return nil
	}
	temp := r.temp
	r.temp = ""
	return os.RemoveAll(temp)
}

func regular(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	return nil
}
