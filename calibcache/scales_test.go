package calibcache_test

import (
	"testing"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

func TestFromScales(t *testing.T) {
	t.Parallel()
	m, err := onnx.Read("testdata/net.onnx")
	if err != nil {
		t.Fatal(err)
	}
	scales := map[string]float32{"zebra": 1, "flat": 2, "relu1": 0.5, "image": 1, "sum": 0.25, "conv2.b": 4, "gap": 2}
	c, err := calibcache.FromScales(calibcache.Header{Number: "100300", Algorithm: calibcache.Entropy2}, scales, m)
	if err != nil {
		t.Fatal(err)
	}
	want := "TRT-100300-EntropyCalibration2\nimage: 3f800000\nrelu1: 3f000000\nsum: 3e800000\ngap: 40000000\nflat: 40000000\n" +
		"conv2.b: 40800000\nzebra: 3f800000\n"
	if got := string(c.Bytes()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
