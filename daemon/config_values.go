package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sightd/sightd/internal/strict"
)

// Duration is a duration of the configuration, such as 500ms.
type Duration = strict.Duration

func seconds(n int64) Duration      { return Duration(time.Duration(n) * time.Second) }
func milliseconds(n int64) Duration { return Duration(time.Duration(n) * time.Millisecond) }

// Size is a number of bytes, written as 256MiB.
type Size int64

var units = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
	{"", 1},
}

var sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([kKMGT]?i?B?)$`)

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	parts := sizeForm.FindStringSubmatch(string(b))
	if parts == nil {
		return errSize
	}
	for _, u := range units {
		if parts[2] != u.name {
			continue
		}
		v, err := strconv.ParseFloat(parts[1], 64)
		if v *= float64(u.size); err != nil || v >= math.MaxInt64 {
			return errSize
		}
		*s = Size(v)
		return nil
	}
	return errSize
}

var errSize = errors.New("a size such as 256MiB, 1GB or 0")

// MarshalText writes the size in the largest unit that keeps it whole.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range units {
		if strings.Contains(u.name, "i") && s != 0 && int64(s)%u.size == 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/u.size, u.name), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// MarshalJSON writes a size without a unit as a number.
func (s Size) MarshalJSON() ([]byte, error) {
	b, err := s.MarshalText()
	if err != nil || strings.Contains(string(b), "B") {
		return strconv.AppendQuote(nil, string(b)), err
	}
	return b, nil
}

// Brokers are the URLs of one broker or of several.
type Brokers []string

// nextBroker is a comma before another URL; those inside one stay.
var nextBroker = regexp.MustCompile(`\s*,\s*[A-Za-z][A-Za-z0-9+.-]*://`)

// UnmarshalText reads the short form: URLs with commas between them.
func (b *Brokers) UnmarshalText(text []byte) error {
	*b = nil
	for rest := string(text); rest != ""; {
		next := nextBroker.FindStringIndex(rest)
		if next == nil {
			*b = append(*b, rest)
			break
		}
		*b = append(*b, rest[:next[0]])
		rest = strings.TrimLeft(rest[next[0]:], ", \t")
	}
	return nil
}

// MarshalJSON writes one URL as text, several as a list.
func (b Brokers) MarshalJSON() ([]byte, error) {
	switch len(b) {
	case 0:
		return []byte(`""`), nil
	case 1:
		return json.Marshal(b[0])
	}
	return json.Marshal([]string(b))
}

// Batch is the number of images in a run at most; 0 is auto.
type Batch int

// N is the number, 0 for auto.
func (n Batch) N() int { return int(n) }

// UnmarshalText reads auto or a number.
func (n *Batch) UnmarshalText(b []byte) error {
	if string(b) == "auto" {
		*n = 0
		return nil
	}
	v, err := strconv.Atoi(string(b))
	if err != nil || v < 1 || v > 1024 {
		return errors.New("auto or a number from 1 to 1024")
	}
	*n = Batch(v)
	return nil
}

// MarshalText writes auto or the number.
func (n Batch) MarshalText() ([]byte, error) {
	if n == 0 {
		return []byte("auto"), nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

// MarshalJSON writes "auto" or the number.
func (n Batch) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return []byte(`"auto"`), nil
	}
	return n.MarshalText()
}

// Window is a part of every day, in minutes since midnight, local time. It may
// go over midnight.
type Window struct{ From, To int }

var windowForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$`)

// UnmarshalText reads a window such as 02:00-04:00.
func (w *Window) UnmarshalText(b []byte) error {
	parts := windowForm.FindStringSubmatch(string(b))
	if parts == nil || parts[1] == parts[3] && parts[2] == parts[4] {
		return errors.New(`a part of the day such as "02:00-04:00"`)
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(parts[i+1]) // two digits, by the expression
	}
	*w = Window{n[0]*60 + n[1], n[2]*60 + n[3]}
	return nil
}

// MarshalText writes the window.
func (w Window) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60), nil
}

// Contains tells whether t lies in the window.
func (w Window) Contains(t time.Time) bool {
	now := t.Hour()*60 + t.Minute()
	if w.From < w.To {
		return w.From <= now && now < w.To
	}
	return w.From <= now || now < w.To
}

// KeyConfig is a trusted public key: a path, or {file, names} with patterns of
// the model names that it may sign.
type KeyConfig struct {
	File  string   `json:"file"`
	Names []string `json:"names"`
}

// UnmarshalText reads the short form.
func (k *KeyConfig) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		return errors.New("the path of a minisign public key")
	}
	*k = KeyConfig{File: string(b)}
	return nil
}

// MarshalJSON writes the short form where it says all.
func (k KeyConfig) MarshalJSON() ([]byte, error) {
	if len(k.Names) == 0 {
		return json.Marshal(k.File)
	}
	type long KeyConfig
	return json.Marshal(long(k))
}
