package onnx

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTableOfAFront(t *testing.T) {
	t.Parallel()
	table, channels, err := Front{Color: "bgr", Mean: []float32{1, 2, 3}, Std: []float32{2}}.Table()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{2, 1, 0}, channels); diff != "" || table[0][0] != -0.5 || table[1][2] != 0 || table[2][255] != 126 {
		t.Errorf("%s%v %v %v", diff, table[0][0], table[1][2], table[2][255])
	}
	table, channels, err = Front{Color: "rgb"}.Table()
	if diff := cmp.Diff([]int{0, 1, 2}, channels); diff != "" || err != nil || table[2][200] != 200 {
		t.Errorf("%v%s", err, diff)
	}
}

func TestFrontsWithoutATable(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]Front{
		"color gray mixes the three bytes":   {Color: "gray"},
		`color "yuv", want rgb, bgr or gray`: {Color: "yuv"},
		"2 numbers for mean":                 {Color: "rgb", Mean: []float32{1, 2}},
		"std is 0":                           {Color: "rgb", Std: []float32{0}},
	} {
		if _, _, err := f.Table(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
