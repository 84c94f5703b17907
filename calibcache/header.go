package calibcache

import (
	"fmt"
	"strconv"
	"strings"
)

// Algorithm is how the scales of a cache were found, as its header names it.
type Algorithm string

// The algorithms that TensorRT has a calibrator for.
const (
	Entropy2 Algorithm = "EntropyCalibration2" // the one that DLA takes
	MinMax   Algorithm = "MinMaxCalibration"
	Entropy  Algorithm = "EntropyCalibration"
	Legacy   Algorithm = "LegacyCalibration"
)

// Algorithms are the known ones.
var Algorithms = []Algorithm{Entropy2, MinMax, Entropy, Legacy}

// ParseAlgorithm finds an algorithm by the name that headers have for it.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, a := range Algorithms {
		if name == string(a) {
			return a, nil
		}
	}
	return "", fmt.Errorf("unknown calibration algorithm %.64q, known are %s, %s, %s and %s", name, Entropy2, MinMax, Entropy, Legacy)
}

// Header is a cache's first line, TRT-<number>-<algorithm>. TensorRT takes a
// cache only where both are its own.
type Header struct {
	// Number is TensorRT's version as in NV_TENSORRT_VERSION, "8501" for 8.5.1
	// and "100300" for 10.3.0, or a placeholder such as "8XXX", which files of
	// other makers have.
	Number    string
	Algorithm Algorithm
}

func (h Header) String() string { return "TRT-" + h.Number + "-" + string(h.Algorithm) }

// Version is Number in the usual form, "8.5.1"; a placeholder stays as it is.
//
// The number has four digits up to TensorRT 9, major × 1000 + minor × 100 +
// patch, and six from 10 on, major × 10000 + minor × 100 + patch.
func (h Header) Version() string {
	n, err := strconv.ParseUint(h.Number, 10, 32)
	switch {
	case err != nil || h.Number[0] == '0':
	case len(h.Number) == 4:
		return fmt.Sprintf("%d.%d.%d", n/1000, n/100%10, n%100)
	case len(h.Number) == 6:
		return fmt.Sprintf("%d.%d.%d", n/10000, n/100%100, n%100)
	}
	return h.Number
}

// HeaderFor is the header that a TensorRT of that version takes: "10.3.0",
// "10.3", "10.3.0.26" and "100300" all mean the same.
func HeaderFor(version string, a Algorithm) (Header, error) {
	number, err := versionNumber(version)
	if err != nil {
		return Header{}, fmt.Errorf("TensorRT version %.32q: %w", version, err)
	}
	h := Header{Number: number, Algorithm: a}
	if major := majorOf(h); len(major) == 2 && major >= "11" {
		return Header{}, fmt.Errorf("TensorRT %s takes no calibration cache: TensorRT 11 removed calibrators, 10.x is the last with them", h.Version())
	}
	return h, nil
}

// CheckCalibrator says whether the calibrator of a TensorRT of that version, in
// any of the forms that [HeaderFor] takes, and of that algorithm takes a cache
// with this header. TensorRT compares version and algorithm with its own; where
// they differ it says nothing that a program could read, and starts to calibrate
// anew. The scales are the same thing whatever the header, so the way out that
// the error names, another header, is safe.
func (h Header) CheckCalibrator(version string, a Algorithm) error {
	want, err := HeaderFor(version, a)
	if err != nil {
		return err
	}
	const wayOut = "give it the header %s: the scales stay as they are"
	switch {
	case h == want:
		return nil
	case h.Algorithm != a:
		return fmt.Errorf("a calibrator of %s takes no cache of %s and would calibrate anew: "+wayOut, a, h.Algorithm, want)
	case majorOf(h) == majorOf(want):
		return fmt.Errorf("the cache is of TensorRT %s and not of %s; not every TensorRT takes one of another version, and would calibrate anew: "+wayOut,
			h.Version(), want.Version(), want)
	}
	return fmt.Errorf("TensorRT %s takes no cache of TensorRT %s and would calibrate anew: "+wayOut, want.Version(), h.Version(), want)
}

// majorOf is the version's first part, all of it where it is a placeholder.
func majorOf(h Header) string {
	major, _, _ := strings.Cut(h.Version(), ".")
	return major
}

func versionNumber(version string) (string, error) {
	if !strings.Contains(version, ".") {
		if h := (Header{Number: version}); h.Version() == version {
			return "", fmt.Errorf("want a version such as 10.3.0, or its number such as 100300")
		}
		return version, nil
	}
	parts := strings.Split(version, ".")
	if len(parts) > 4 {
		return "", fmt.Errorf("has %d parts, want a version such as 10.3.0", len(parts))
	}
	var n [4]uint64
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseUint(part, 10, 16); err != nil {
			return "", fmt.Errorf("%q is no number, want a version such as 10.3.0", part)
		}
	}
	major, minor, patch := n[0], n[1], n[2]
	switch {
	case major < 1 || major > 99 || minor > 99 || patch > 99 || major < 10 && minor > 9:
		return "", fmt.Errorf("there is no such version")
	case major < 10:
		return strconv.FormatUint(major*1000+minor*100+patch, 10), nil
	}
	return strconv.FormatUint(major*10000+minor*100+patch, 10), nil
}

// parseHeader takes the first line of a file.
func parseHeader(line string) (Header, error) {
	rest, ok := strings.CutPrefix(line, "TRT-")
	number, algorithm, hasAlgorithm := strings.Cut(rest, "-")
	if !ok || !hasAlgorithm || !isNumber(number) {
		return Header{}, fmt.Errorf("header %.64q, want TRT-<version>-<algorithm> such as TRT-8501-EntropyCalibration2", line)
	}
	a, err := ParseAlgorithm(algorithm)
	if err != nil {
		return Header{}, err
	}
	return Header{Number: number, Algorithm: a}, nil
}

// isNumber takes version numbers and placeholders.
func isNumber(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
