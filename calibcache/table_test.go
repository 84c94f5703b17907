package calibcache_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

func TestTableHoldsWhatWasCheckedAndNothingElse(t *testing.T) {
	t.Parallel()
	names := append(without(without(netNames, "flat", ""), "relu1", ""),
		"gone", "pixels", "(Unnamed Layer* 3) [Constant]_output", "ONNXTRT_Broadcast_output", "tmp_refittable_weight_0_output",
		"conv2_output")
	c := cacheOf(t, names...)
	set(c, "gap", 0x7fc00000)          // no number
	set(c, "conv2_output", 0xbf800000) // negative
	m, err := onnx.Read("testdata/net.onnx")
	if err != nil {
		t.Fatal(err)
	}
	h, err := calibcache.HeaderFor("10.3.0", calibcache.Entropy2)
	if err != nil {
		t.Fatal(err)
	}
	table, err := check(t, c, "testdata/net.onnx").Table(c, h, m)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range table.Entries {
		got = append(got, e.Name)
	}
	if diff := cmp.Diff([]string{"image", "conv1", "pool1", "conv2", "clip2", "sum", "logits", "prob"}, got); diff != "" {
		t.Error(diff)
	}
	if table.Header.String() != "TRT-100300-EntropyCalibration2" {
		t.Error(table.Header)
	}
	if again, err := calibcache.Parse(table.Bytes()); err != nil || len(again.Entries) != len(got) {
		t.Error(err)
	}
}
