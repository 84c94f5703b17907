package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/internal/testenv"
)

func TestCacheShowWithAModel(t *testing.T) {
	t.Parallel()
	path := writeCache(t, cacheHeader+"image: 3f800000\npool1: 40000000\nflat: 3f800000\nprob: 3f800000\nfc.w_output: 3f800000\n"+
		"(Unnamed Layer* 0) [Convolution]_output: 3f800000\n(Unnamed Layer* 3) [Convolution]_output: 3f800000\nfire2: 3f800000\n")
	got, _, err := runCommand(t, &cacheShowCmd{Files: []string{path}, Model: cacheModel})
	want := path + `: TensorRT 8.5.1, EntropyCalibration2, tensors: 8

SCALE  RANGE  TENSOR                                   IS                    SHAPE    MADE BY                READ BY
1      127    image                                    input                 1×3×8×8  -                      Conv conv1
2      254    pool1                                    activation            1×4×4×4  MaxPool pool1          Conv conv2, Add sum
1      127    flat                                     alias of gap          1×4×1×1  GlobalAveragePool gap  Gemm logits
1      127    prob                                     activation            1×5      Softmax prob           -
1      127    fc.w_output                              constant              -        -                      -
1      127    (Unnamed Layer* 0) [Convolution]_output  conv1, by position    1×4×8×8  Conv conv1             Relu relu1
1      127    (Unnamed Layer* 3) [Convolution]_output  conv2, by position    1×4×4×4  Conv conv2             Clip clip2
1      127    fire2                                    nothing in the model  -        -                      -
`
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}

	got, _, err = runCommand(t, &cacheShowCmd{Files: []string{path}, Model: cacheModel, JSON: true})
	if err != nil {
		t.Error(err)
	}
	wantParts(t, got,
		`{"name":"image","scale":1,"range":127,"bits":"3f800000","role":"activation","producer":null,"consumers":[{"op":"Conv","name":"conv1"}],"shape":[1,3,8,8]}`,
		`{"name":"pool1","scale":2,"range":254,"bits":"40000000","role":"activation","producer":{"op":"MaxPool","name":"pool1"},`+
			`"consumers":[{"op":"Conv","name":"conv2"},{"op":"Add","name":"sum"}],"shape":[1,4,4,4]}`,
		`"role":"alias","of":"gap","producer":{"op":"GlobalAveragePool","name":"gap"},"consumers":[{"op":"Gemm","name":"logits"}]`,
		`"role":"constant","of":"fc.w","producer":null,"consumers":[],"shape":null}`,
		`"role":"positional","of":"conv1"`,
		`"role":"nothing","producer":null,`)
}

func TestCacheShowWithAModelRefuses(t *testing.T) {
	t.Parallel()
	path := writeCache(t, wholeCache)
	wantRefusal(t, command(t, "cache", "show", path, "--model", path), 1, path+": ")
	wantRefusal(t, command(t, "cache", "show", path, "--model", path+".no"), 1, "no such file")
	wantRefusal(t, command(t, "cache", "show", filepath.Dir(path)), 1, "is a directory")
}

func TestCacheShowOfEveryRealCache(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testenv.Material(t, "caches"), "*"))
	if err != nil || len(files) != 43 {
		t.Fatalf("%d caches, %v", len(files), err)
	}
	for _, file := range files {
		for _, cmd := range []cacheShowCmd{{}, {JSON: true}, {Model: cacheModel}, {Model: cacheModel, JSON: true}} {
			cmd.Files = []string{file}
			got, _, err := runCommand(t, &cmd)
			if err != nil || cmd.JSON && !json.Valid([]byte(got)) {
				t.Errorf("%s: %v", file, err)
			}
		}
		got, _, err := runCommand(t, &cacheDiffCmd{Left: file, Right: file, ExitCode: true, JSON: true})
		if err != nil {
			t.Errorf("%s with itself: %v, %s", file, err, got)
		}
		if _, _, err := runCommand(t, &cacheCheckCmd{File: file, Model: cacheModel, Coverage: 1}); !errors.Is(err, exitStatus(1)) {
			t.Errorf("%s and another network: %v", file, err)
		}
	}
}
