package release

import (
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// NotForThisRelease is the code of a drop-in that was signed for another release
// than the one it is dropped on, or under another name.
const NotForThisRelease Code = "not-for-this-release"

// The trusted comment of a drop-in's signature binds the file to its name and to
// the release that it is for. It is one line of fields in this order, a space
// between each two:
//
//	sightd-drop-in:1 file:lite0.cache for:lite0:7 manifest:SHA256 revision:3 time:2026-11-28T08:14:06Z
//
// and, for an engine, ` sidecar:SHA256` of its NAME.json at the end.
const (
	dropInMark       = "sightd-drop-in:"
	dropInVersion    = dropInMark + "1"
	maxDropInComment = 1024
)

// MaxRevision is the highest revision of a drop-in.
const MaxRevision = 1<<53 - 1 // whole in every reader of JSON

// The kinds of bare drop-ins, by the ends of their names.
const (
	cacheExt  = ".cache"
	onnxExt   = ".onnx"
	engineExt = ".engine"
)

// DropIn is what the signed comment of a bare drop-in says.
type DropIn struct {
	File     string    // NAME.cache, NAME.onnx or NAME.engine
	Name     string    // of the model
	Release  int       // number of the release that it is for
	Manifest string    // SHA-256 of that release's manifest.json, 64 lower-case hexadecimal digits
	Revision int64     // 1 or more; each drop-in for the same release has a higher one
	Time     time.Time // when it was signed, in seconds and UTC; for people, nothing is decided by it
	Sidecar  string    // an engine's: SHA-256 of its NAME.json; empty for others
}

// Comment is the trusted comment. Of what [ParseDropIn] takes it gives the same text.
func (d DropIn) Comment() string {
	s := fmt.Sprintf("%s file:%s for:%s:%d manifest:%s revision:%d time:%s", dropInVersion, d.File, d.Name, d.Release, d.Manifest, d.Revision, d.Time.UTC().Format(time.RFC3339))
	if d.Sidecar != "" {
		s += " sidecar:" + d.Sidecar
	}
	return s
}

// ParseDropIn reads a drop-in's trusted comment. There is one way to write each,
// anything else is an error.
func ParseDropIn(comment string) (*DropIn, error) {
	if len(comment) > maxDropInComment {
		return nil, fmt.Errorf("found %d bytes, wanted at most %d", len(comment), maxDropInComment)
	}
	fields := strings.Split(comment, " ")
	if fields[0] != dropInVersion {
		if strings.HasPrefix(fields[0], dropInMark) {
			return nil, fmt.Errorf("found %.40q, wanted %s: a newer sightd may read it", fields[0], dropInVersion)
		}
		return nil, fmt.Errorf("found %.80q, wanted %s file:… for:… manifest:… revision:… time:…", comment, dropInVersion)
	}
	keys := []string{"file", "for", "manifest", "revision", "time", "sidecar"}
	values := map[string]string{}
	for i, field := range fields[1:] {
		key, value, _ := strings.Cut(field, ":")
		if i >= len(keys) || key != keys[i] {
			return nil, fmt.Errorf("found %.40q, wanted the fields %s in this order, once each", field, strings.Join(keys, ", "))
		}
		values[key] = value
	}
	if len(fields)-1 < len(keys)-1 {
		return nil, fmt.Errorf("%s is missing", keys[len(fields)-1])
	}
	d := &DropIn{File: values["file"], Manifest: values["manifest"], Sidecar: values["sidecar"]}
	if err := d.parseValues(values); err != nil {
		return nil, err
	}
	if err := d.validate(); err != nil {
		return nil, err
	}
	// Signs, zeros at the front, other forms of the time: whatever was read and
	// would be written differently.
	if d.Comment() != comment {
		return nil, fmt.Errorf("found %q, wanted it written as %q", comment, d.Comment())
	}
	return d, nil
}

func (d *DropIn) parseValues(values map[string]string) (err error) {
	var number string
	d.Name, number, _ = strings.Cut(values["for"], ":")
	if d.Release, err = strconv.Atoi(number); err != nil {
		return fmt.Errorf("for: found %.80q, wanted NAME:NUMBER", values["for"])
	}
	if d.Revision, err = strconv.ParseInt(values["revision"], 10, 64); err != nil {
		return fmt.Errorf("revision: found %.40q, wanted a whole number", values["revision"])
	}
	if d.Time, err = time.Parse(time.RFC3339, values["time"]); err != nil {
		return fmt.Errorf("time: found %.40q, wanted one such as 2026-11-28T08:14:06Z", values["time"])
	}
	return nil
}

// validate tells why there can't be such a drop-in.
func (d *DropIn) validate() error {
	if err := CheckName(d.Name); err != nil {
		return fmt.Errorf("for: found %.80q, wanted %w", d.Name, err)
	}
	if d.Release < 1 || d.Release > MaxNumber {
		return fmt.Errorf("for: found release %d, wanted 1 to %d", d.Release, MaxNumber)
	}
	if err := checkDropInName(d.File, d.Name); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if !isSHA256(d.Manifest) {
		return fmt.Errorf("manifest: found %.80q, wanted 64 lower-case hexadecimal digits", d.Manifest)
	}
	if d.Revision < 1 || d.Revision > MaxRevision {
		return fmt.Errorf("revision: found %d, wanted 1 to %d", d.Revision, int64(MaxRevision))
	}
	if y := d.Time.Year(); y < 1970 || y > 9999 {
		return fmt.Errorf("time: found the year %d, wanted 1970 to 9999", y)
	}
	switch engine := path.Ext(d.File) == engineExt; {
	case engine && !isSHA256(d.Sidecar):
		return fmt.Errorf("sidecar: found %.80q, wanted the SHA-256 of the engine's .json, 64 lower-case hexadecimal digits", d.Sidecar)
	case !engine && d.Sidecar != "":
		return fmt.Errorf("sidecar: found one for %s, which has none", d.File)
	}
	return nil
}

// DropInModel is the model's name of a bare drop-in's file name; empty where it is
// no such name.
func DropInModel(file string) string {
	ext := path.Ext(file)
	if ext != cacheExt && ext != onnxExt && ext != engineExt {
		return ""
	}
	name := strings.TrimSuffix(file, ext)
	if CheckName(name) != nil {
		return ""
	}
	return name
}

func checkDropInName(file, model string) error {
	if DropInModel(file) != model || model == "" {
		return fmt.Errorf("found the name %.80q, wanted %s%s, %[2]s%[4]s or %[2]s%[5]s", file, model, cacheExt, onnxExt, engineExt)
	}
	return nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && s == strings.ToLower(s)
}
