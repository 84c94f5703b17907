package calibcache

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// number writes v in the shortest way that reads back to the same bits. A range
// is a product of 31 significant bits, so that nothing is lost in binary64.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// text writes a line `name<divider>range` a tensor.
func (c *Cache) text(divider string) []byte {
	var b []byte
	for _, e := range c.Entries {
		b = append(b, e.Name...)
		b = append(b, divider...)
		b = append(b, number(e.Range())...)
		b = append(b, '\n')
	}
	return b
}

// text reads such lines.
func (t *table) text(b []byte) error {
	if !utf8.Valid(b) {
		return t.errorf(0, "it is a binary file, or text that isn't UTF-8")
	}
	line := 0
	for text := range strings.Lines(string(b)) {
		line++
		name, value, ok := t.form.split(strings.TrimSuffix(text, "\n"))
		if !ok {
			return t.errorf(line, "%.64q, want `%s`", strings.TrimSuffix(text, "\n"), map[Form]string{FormRanges: "name: range", FormORTTable: "name range"}[t.form])
		}
		reach, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return t.errorf(line, "tensor %.200q: %.32q is no number", name, value)
		}
		if err := t.addRange(line, name, reach); err != nil {
			return err
		}
	}
	return nil
}

// split divides a line of a text form where its last divider is, since names
// can contain it.
func (f Form) split(line string) (name, value string, ok bool) {
	divider := byte(' ')
	if f == FormRanges {
		divider = ':'
	}
	i := strings.LastIndexByte(line, divider)
	if i < 0 {
		return "", "", false
	}
	return line[:i], strings.TrimSpace(line[i+1:]), true
}

// isTable says whether text looks like that form: decimal numbers in all of the
// first lines, and in one of them a point or exponent, since the digits of a
// cache's bits could be decimal ones, too.
func isTable(text []byte, f Form) bool {
	const enough = 100
	lines, decimal := 0, false
	for line := range strings.Lines(string(text[:min(len(text), 1<<20)])) {
		if lines++; lines > enough {
			break
		}
		name, value, ok := f.split(strings.TrimRight(line, "\r\n"))
		v, err := strconv.ParseFloat(value, 64)
		if !ok || name == "" || err != nil || math.IsInf(v, 0) || strings.ContainsAny(value, "xX_") {
			return false
		}
		decimal = decimal || strings.ContainsAny(value, ".")
	}
	return decimal
}
