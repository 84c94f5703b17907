package calibration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/internal/strict"
)

// Limits of a list file.
const (
	maxList  = 64 << 20 // bytes
	maxFiles = 1_000_000
	maxPath  = 4096 // bytes, PATH_MAX
)

// unreadableShare is the share of the files that may be absent or unreadable.
const unreadableShare = 0.01

// videoNames are the extensions by which a video is told from a list.
var videoNames = []string{
	".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".y4m",
	".mjpg", ".mjpeg", ".h264", ".h265", ".hevc", ".264", ".265", ".3gp", ".ogv",
}

// Files returns the images and videos that path stands for: a folder, the images
// in which and in whose folders are sorted by path; one image or video; or a list
// with a path a line, which is relative to the list's folder or else to the
// working directory, as TensorRT's samples have it. Empty lines are passed over.
// Up to one path in a hundred may lead to no file: reading it will tell.
func Files(path string) ([]string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("images: %w", err)
	case info.IsDir():
		return walk(path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("images: %s is %v, want a folder, an image, a video, or a list with a path a line", path, info.Mode().Type())
	case camera.IsImageName(path) || slices.Contains(videoNames, strings.ToLower(filepath.Ext(path))):
		return []string{path}, nil
	}
	return readList(path)
}

func walk(dir string) ([]string, error) {
	var files []string
	// The separator has a link to a folder followed, as the user meant it to be.
	err := filepath.WalkDir(dir+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		path = filepath.Clean(path)
		switch {
		case err != nil:
			return err
		case d.IsDir() || !camera.IsImageName(path) || !isFile(path):
			return nil
		case len(files) == maxFiles:
			return fmt.Errorf("%s holds more than %d images, the most that are taken: name some of them in a list", dir, maxFiles)
		}
		files = append(files, path)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("images: no images in %s: want files that end in .jpg, .png, .bmp, .tif, .webp or .ppm there", dir)
	}
	return files, nil
}

func readList(list string) ([]string, error) {
	data, err := strict.ReadFile(list, maxList)
	if err != nil {
		return nil, fmt.Errorf("images: list: %w", err)
	}
	return parseList(list, data)
}

// parseList finds the files that the content of a list names.
func parseList(list string, data []byte) ([]string, error) {
	var files, absent []string
	for i, line := range strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case len(line) > maxPath || !utf8.ValidString(line) || strings.ContainsFunc(line, isControl):
			return nil, fmt.Errorf("images: %s:%d: found %.40q, want a path a line; a video or image is known by its extension", list, i+1, line)
		case len(files) == maxFiles:
			return nil, fmt.Errorf("images: %s:%d: more than %d paths, the most that are taken", list, i+1, maxFiles)
		}
		file, there := locate(list, line)
		if !there {
			absent = append(absent, fmt.Sprintf("%s:%d: %s", list, i+1, line))
		}
		files = append(files, file)
	}
	switch {
	case len(files) == 0:
		return nil, fmt.Errorf("images: %s names no image: want a path a line", list)
	case float64(len(absent)) > unreadableShare*float64(len(files)):
		return nil, &absentError{list, absent, len(files)}
	}
	return files, nil
}

// locate returns the place of the file that a line of a list names.
func locate(list, name string) (string, bool) {
	if filepath.IsAbs(name) {
		return name, isFile(name)
	}
	if beside := filepath.Join(filepath.Dir(list), name); isFile(beside) {
		return beside, true
	}
	return name, isFile(name)
}

// isFile says whether there is a regular file, or something that can't be told:
// reading it will.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() || err != nil && !errors.Is(err, fs.ErrNotExist)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// absentError says which paths of a list lead to no file.
type absentError struct {
	list   string
	absent []string
	all    int
}

func (e *absentError) Error() string {
	const most = 3
	text := fmt.Sprintf("images: %d of the %d paths lead to no file, neither from the list's folder %s nor from the working directory:",
		len(e.absent), e.all, filepath.Dir(e.list))
	for _, line := range e.absent[:min(most, len(e.absent))] {
		text += "\n  " + line
	}
	if more := len(e.absent) - most; more > 0 {
		text += fmt.Sprintf("\n  … and %d more", more)
	}
	return text + "\nput the list beside the images, or write absolute paths into it"
}
