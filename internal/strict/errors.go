package strict

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one fault of a document.
type Error struct {
	Source       string // the file, or the environment variable
	Line, Column int    // from 1; 0 where the source has no lines
	Path         string // such as cameras[1].width; empty for faults of syntax
	Message      string
	excerpt      string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Source)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	b.WriteString(e.excerpt)
	return b.String()
}

// Errors are all faults of a document, in the order of its lines.
type Errors []*Error

func (e Errors) Error() string {
	const most = 20
	var b strings.Builder
	for i, err := range e {
		if i == most {
			fmt.Fprintf(&b, "\nand %d more", len(e)-most)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

// Unwrap lets errors.As find an *Error.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i := range e {
		all[i] = e[i]
	}
	return all
}

func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

// source is the text that excerpts are cut from.
type source struct {
	name  string
	lines [][]byte // nil for an environment variable
}

func newSource(name string, data []byte) *source {
	return &source{name: name, lines: bytes.Split(data, []byte("\n"))}
}

func (s *source) errorf(line, col int, path, format string, args ...any) *Error {
	return &Error{
		Source: s.name, Line: line, Column: col, Path: path,
		Message: fmt.Sprintf(format, args...), excerpt: s.excerpt(line, col),
	}
}

// excerpt is the offending line with a mark below the column.
func (s *source) excerpt(line, col int) string {
	const most = 120
	if line < 1 || line > len(s.lines) || col < 1 {
		return ""
	}
	raw := strings.TrimRight(string(s.lines[line-1]), "\r")
	shown := Mask(raw)
	if shown != raw || utf8.RuneCountInString(shown) > most { // the column no longer fits
		if r := []rune(shown); len(r) > most {
			shown = string(r[:most]) + "…"
		}
		return fmt.Sprintf("\n%6d | %s", line, Printable(shown))
	}
	return fmt.Sprintf("\n%6d | %s\n       | %s^", line, Printable(shown), strings.Repeat(" ", col-1))
}

// Printable keeps control characters, and those that turn the writing's direction, off a
// terminal; a tab becomes one blank, so that columns stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case controls(r) || r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
}

func controls(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// Plain is an error where a text has a character that [Printable] wouldn't let through, a
// tab included.
func Plain(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("it isn't UTF-8")
	}
	if i := strings.IndexFunc(s, controls); i >= 0 {
		r, _ := utf8.DecodeRuneInString(s[i:])
		return fmt.Errorf("the control character %U at byte %d", r, i+1)
	}
	return nil
}

func quote(s string) string {
	const most = 80
	s = Mask(s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

var userinfo = regexp.MustCompile(`(://[^/\s:@]*):[^\s/]*@`)

// Mask hides the passwords of URLs in a text.
func Mask(s string) string { return userinfo.ReplaceAllString(s, "$1:***@") }

// Closest is the candidate that name most likely was meant to be, empty when
// none is near.
func Closest(name string, candidates []string) string {
	best, least := "", len(name)/3+2
	for _, c := range candidates {
		if d := distance(name, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j], row[j+1]) + 1
			if a[i] == b[j] {
				next = min(next, diagonal)
			} else {
				next = min(next, diagonal+1)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
