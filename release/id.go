package release

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// ID names an installed release of a model: its number and, where a bare drop-in
// replaced one of its files, the revision. As text it is "7" or "7.3". The zero ID is
// none.
type ID struct {
	Number   int
	Revision int64
}

// ParseID reads an ID's text.
func ParseID(text string) (ID, error) {
	number, revision, revised := strings.Cut(text, ".")
	n, err := strconv.Atoi(number)
	id := ID{Number: n}
	if revised && err == nil {
		id.Revision, err = strconv.ParseInt(revision, 10, 64)
	}
	if err != nil || n < 1 || n > MaxNumber || id.Revision > MaxRevision || revised && id.Revision < 1 || id.String() != text {
		return ID{}, fmt.Errorf("found %.40q, wanted a release's number such as 7, or 7.3 for its revision 3", text)
	}
	return id, nil
}

func (id ID) String() string {
	if id.Revision == 0 {
		return strconv.Itoa(id.Number)
	}
	return strconv.Itoa(id.Number) + "." + strconv.FormatInt(id.Revision, 10)
}

// Compare orders releases by number, then by revision.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Number, other.Number), cmp.Compare(id.Revision, other.Revision))
}

// MarshalText writes the ID's text, nothing for none.
func (id ID) MarshalText() ([]byte, error) {
	if id == (ID{}) {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads it.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id = ID{}
	if len(text) > 0 {
		*id, err = ParseID(string(text))
	}
	return err
}

// ID is the release's: the revision is that of the drop-in that is in it.
func (r *Release) ID() ID {
	id := ID{Number: r.Spec.Release}
	if r.manifest != nil {
		id.Revision = r.manifest.Revision
	}
	return id
}
