package calibcache

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parse parses a calibration cache. Its error is a [*SyntaxError].
func Parse(b []byte) (*Cache, error) {
	if err := refuseForeign(b); err != nil {
		return nil, err
	}
	text, ended := strings.CutSuffix(string(b), "\n")
	c := &Cache{unended: !ended}

	first, rest, more := strings.Cut(text, "\n")
	header, err := parseHeader(first)
	if err != nil {
		return nil, &SyntaxError{Line: 1, Reason: headerReason(first, err)}
	}
	c.Header = header

	seen := make(map[string]int) // the line of each name
	for line := 2; more; line++ {
		if len(c.Entries) == MaxEntries {
			return nil, &SyntaxError{Line: line, Reason: fmt.Sprintf("more than %d entries, the most that is taken", MaxEntries)}
		}
		var entry string
		entry, rest, more = strings.Cut(rest, "\n")
		e, err := parseEntry(entry)
		if err != nil {
			return nil, &SyntaxError{Line: line, Reason: err.Error()}
		}
		if before, again := seen[e.Name]; again {
			return nil, &SyntaxError{Line: line, Reason: fmt.Sprintf("tensor %.200q has an entry on line %d already: remove one of the two", e.Name, before)}
		}
		seen[e.Name] = line
		c.Entries = append(c.Entries, e)
	}
	return c, nil
}

// parseEntry takes a line "name: hex". The name can hold ": " itself, so the
// last colon divides.
func parseEntry(line string) (Entry, error) {
	if line == "" {
		return Entry{}, errors.New("empty line, want `name: hex`")
	}
	colon := strings.LastIndexByte(line, ':')
	if colon < 0 || !strings.HasPrefix(line[colon:], ": ") {
		return Entry{}, fmt.Errorf("%.64q is no entry, want `name: hex`", line)
	}
	name, digits := line[:colon], line[colon+2:]
	switch {
	case name == "":
		return Entry{}, errors.New("entry without a name")
	case len(name) > MaxName:
		return Entry{}, fmt.Errorf("name of %d bytes, at most %d are taken", len(name), MaxName)
	}
	bits, err := parseBits(digits)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Name: name, Bits: bits, digits: digits}, nil
}

// parseBits takes 1 to 8 hexadecimal digits of either case.
func parseBits(digits string) (uint32, error) {
	bits, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || len(digits) > 8 {
		return 0, fmt.Errorf("value %.32q, want the scale's bits as 1 to 8 hexadecimal digits", digits)
	}
	return uint32(bits), nil
}

// refuseForeign finds what isn't even the kind of text that a cache is.
func refuseForeign(b []byte) error {
	trimmed := bytes.TrimSpace(b[:min(len(b), 512)])
	switch {
	case len(b) > MaxSize:
		return &SyntaxError{Line: 0, Reason: fmt.Sprintf("it is larger than %d MiB, the most that is taken", MaxSize>>20)}
	case len(trimmed) == 0:
		return &SyntaxError{Line: 0, Reason: "it is empty"}
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return &SyntaxError{Line: 1, Reason: "it starts with a byte order mark: save it as plain text without one"}
	case trimmed[0] == '{' || trimmed[0] == '[':
		return &SyntaxError{Line: 0, Reason: "it is JSON, such as ONNX Runtime writes with the ranges of tensors"}
	}
	switch {
	case bytes.IndexByte(b, 0) >= 0:
		return &SyntaxError{Line: 0, Reason: "it is a binary file, not text"}
	case !utf8.Valid(b):
		return &SyntaxError{Line: 0, Reason: "it is a binary file, or text that isn't UTF-8"}
	}
	i := bytes.IndexFunc(b, func(r rune) bool { return r != '\n' && unicode.IsControl(r) })
	if i < 0 {
		return nil
	}
	line := 1 + bytes.Count(b[:i], []byte("\n"))
	if bytes.HasPrefix(b[i:], []byte("\r\n")) {
		return &SyntaxError{Line: line, Reason: "it has Windows line ends (CR LF), a cache has LF alone: convert it with dos2unix"}
	}
	r, _ := utf8.DecodeRune(b[i:])
	return &SyntaxError{Line: line, Reason: fmt.Sprintf("control character %U", r)}
}

// headerReason explains a first line that is no header, by what other files
// that go by the name of a calibration cache start with.
func headerReason(first string, err error) string {
	fields := strings.Fields(first)
	_, entryErr := parseEntry(first)
	switch {
	case entryErr == nil:
		return "the header is missing: the first line is an entry already, want TRT-<version>-<algorithm>"
	case len(fields) == 3 && len(fields[1]) == 16 && len(fields[2]) == 16 && allHex(fields[1:]):
		return "this is a legacy calibrator's table, its first line has the regression cutoff and the quantile in place of TRT-<version>-<algorithm>"
	case len(fields) == 2 && isDecimal(fields[1]):
		return "this is ONNX Runtime's table of ranges in decimal, `name range`, not TensorRT's of scales in hexadecimal"
	}
	return err.Error()
}

func allHex(fields []string) bool {
	for _, f := range fields {
		if _, err := strconv.ParseUint(f, 16, 64); err != nil {
			return false
		}
	}
	return true
}

func isDecimal(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}
