package release

import (
	"strings"
	"testing"
)

func TestAModelsDamagedStateHidesNoOther(t *testing.T) {
	t.Parallel()
	s := newStory(t, 1, 2)
	s.confirms(2)
	write(t, s.statePath("large"), "{")
	status, err := s.Status(map[string]int{"tiny": 1, "large": 4})
	s.must(err)
	if len(status.Models) != 2 {
		t.Fatalf("%+v", status)
	}
	large, tiny := status.Models[0], status.Models[1]
	if large.Serving != 4 || !strings.Contains(large.Error, "remove the file to go on") || len(large.Releases) != 0 {
		t.Errorf("%+v", large)
	}
	if tiny.Error != "" || tiny.Serving != 2 || len(tiny.Releases) != 2 {
		t.Errorf("%+v", tiny)
	}
	if err := status.Damaged(); err == nil || err.Error() != large.Error {
		t.Error(err)
	}
}

func TestWhetherADropInFitsIsToldBeforeItIsSigned(t *testing.T) {
	t.Parallel()
	r := opened(t, numbered(t, 2))
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		code Code
	}{
		"tiny.cache":  {newCache(t), ""},
		"tiny.onnx":   {newModel(t), ""},
		"tiny.engine": {"machine code", ""},
		"empty.cache": {"TRT-8501-EntropyCalibration2\n", CacheDoesNotFit},
		"none.cache":  {"no cache", BadCache},
		"broken.onnx": {"no model", BadModel},
	} {
		write(t, dir+"/"+name, c.text)
		if err := r.CheckDropIn(dir + "/" + name); CodeOf(err) != c.code || (err == nil) != (c.code == "") {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}
