package camera

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/camera/internal/source"
)

// CheckSource is what New says of a source. Nothing is opened.
func CheckSource(text string) error {
	_, err := source.Parse(text)
	return err
}

// FindSource says whether the file, folder or device of a source is there for this
// user. It looks at no other kinds, and reports looked false for them: a stream or
// a pipeline shows only when it is opened.
func FindSource(text string) (looked bool, err error) {
	s, err := source.Parse(text)
	if err != nil {
		return true, err
	}
	if s.Kind != source.File && s.Kind != source.Images && s.Kind != source.V4L2 {
		return false, nil
	}
	info, err := os.Stat(s.Name)
	switch {
	case err != nil:
	case s.Kind == source.Images && !info.IsDir():
		err = errors.New("is no folder")
	case s.Kind == source.File && !info.Mode().IsRegular():
		err = errors.New("is not a file")
	case s.Kind == source.V4L2 && info.Mode()&os.ModeCharDevice == 0:
		err = errors.New("is no device")
	case unix.Access(s.Name, unix.R_OK) != nil:
		err = errors.New("can't be read by this user")
	}
	if err != nil {
		return true, fmt.Errorf("%s: %w", s, err)
	}
	return true, nil
}
