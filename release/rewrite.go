package release

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// Calibrate puts a calibration cache and the layers to keep in floating point
// into the model.yaml at path, and changes nothing else in it, comments included;
// those between the items of a keep_fp go with it. The file is replaced at once, or
// not at all.
func Calibrate(path, calibration string, keepFP []string) error {
	updated, err := calibrated(path, calibration, keepFP)
	if err != nil {
		return err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil { // a link stays one
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, updated, info.Mode().Perm())
}

// CheckCalibrate says why [Calibrate] couldn't change the model.yaml at path.
func CheckCalibrate(path string) error {
	_, err := calibrated(path, "some.cache", []string{"some layer"})
	return err
}

// calibrated is what the model.yaml at path becomes.
func calibrated(path, calibration string, keepFP []string) ([]byte, error) {
	old, err := strict.ReadFile(path, maxSpec)
	if err != nil {
		return nil, fmt.Errorf("read the specification: %w", err)
	}
	return calibrate(path, old, calibration, keepFP)
}

// calibrate is the content of a model.yaml with both keys set.
func calibrate(path string, old []byte, calibration string, keepFP []string) ([]byte, error) {
	want, err := parseSpec(path, old, true)
	if err != nil {
		return nil, err
	}
	text := old
	if want.Calibration != calibration {
		if text, err = setKey(text, "calibration", calibration); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if !reflect.DeepEqual(want.KeepFP, keepFP) {
		if text, err = setKey(text, "keep_fp", YAMLList(keepFP)); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	// What a file can look like is open-ended, so the result is read again.
	want.Calibration, want.KeepFP = calibration, append([]string{}, keepFP...)
	got, err := ParseSpec(path, text)
	if err != nil || !reflect.DeepEqual(got, want) {
		return nil, fmt.Errorf("%s is written in a form that can't be changed safely; put these lines into it by hand:\ncalibration: %s\nkeep_fp: %s",
			path, scalar(calibration), YAMLList(keepFP))
	}
	return text, nil
}

// setKey replaces the lines of a key at the top level, or adds them at the end.
// Only the lines between the key and the next one are touched, and of these none
// at the end that is empty or a comment.
func setKey(text []byte, key, value string) ([]byte, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(value, "[") {
		value = scalar(value)
	}
	line := key + ": " + value
	lines := strings.SplitAfter(string(text), "\n")
	first, last := find(file, key, len(lines))
	if first == 0 {
		out := bytes.Clone(text)
		end := "\n"
		if bytes.Contains(out, []byte("\r\n")) {
			end = "\r\n"
		}
		if len(out) > 0 && out[len(out)-1] != '\n' {
			out = append(out, end...)
		}
		return append(out, line+end...), nil
	}
	for last > first && isBlank(lines[last-1]) {
		last--
	}
	end := "\n"
	if strings.HasSuffix(lines[first-1], "\r\n") {
		end = "\r\n"
	}
	line += comment(lines[first-1]) + end
	return []byte(strings.Join(lines[:first-1], "") + line + strings.Join(lines[last:], "")), nil
}

// comment is the comment at a line's end, with the blanks before it.
func comment(line string) string {
	for _, t := range lexer.Tokenize(line) {
		if t.Type == token.CommentType {
			at := strings.LastIndex(line, "#"+t.Value)
			return strings.TrimRight(line[len(strings.TrimRight(line[:at], " \t")):], "\r\n")
		}
	}
	return ""
}

// find returns the first and the last line of a key, from 1; 0 where it isn't there.
func find(file *ast.File, key string, lines int) (first, last int) {
	if len(file.Docs) == 0 {
		return 0, 0
	}
	var values []*ast.MappingValueNode
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		values = body.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{body}
	}
	for i, v := range values {
		if v.Key.GetToken().Value != key {
			continue
		}
		last = lines
		if i+1 < len(values) {
			last = values[i+1].Key.GetToken().Position.Line - 1
		}
		return v.Key.GetToken().Position.Line, last
	}
	return 0, 0
}

func isBlank(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "#")
}

// scalar writes text as YAML does on one line.
func scalar(text string) string {
	b, err := yaml.Marshal(text)
	if err != nil || bytes.Count(b, []byte("\n")) != 1 {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSpace(string(b))
}

// YAMLList writes names on one line, each in quotes.
func YAMLList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "'" + strings.ReplaceAll(n, "'", "''") + "'"
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
