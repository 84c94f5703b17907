package calibcache_test

import (
	"strings"
	"testing"

	"github.com/sightd/sightd/calibcache"
)

func TestCheckCalibrator(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header, version string
		algorithm       calibcache.Algorithm
		want            []string // parts of the error; none where it is taken
	}{
		"its own":      {"100300-EntropyCalibration2", "10.3.0", calibcache.Entropy2, nil},
		"its own, too": {"8501-MinMaxCalibration", "8.5.1.7", calibcache.MinMax, nil},
		"of another algorithm": {
			"100300-MinMaxCalibration", "10.3.0", calibcache.Entropy2,
			[]string{"EntropyCalibration2 takes no cache of MinMaxCalibration", "the header TRT-100300-EntropyCalibration2: the scales stay"},
		},
		"of another TensorRT": {
			"8600-EntropyCalibration2", "10.3.0", calibcache.Entropy2,
			[]string{"TensorRT 10.3.0 takes no cache of TensorRT 8.6.0", "TRT-100300-EntropyCalibration2"},
		},
		"of the same major": {
			"100300-EntropyCalibration2", "10.6.0", calibcache.Entropy2,
			[]string{"of TensorRT 10.3.0 and not of 10.6.0", "TRT-100600-EntropyCalibration2"},
		},
		"a placeholder": {
			"8XXX-EntropyCalibration2", "8.5.1", calibcache.Entropy2,
			[]string{"8.5.1 takes no cache of TensorRT 8XXX", "TRT-8501-EntropyCalibration2"},
		},
		"TensorRT 11 has none": {
			"100300-EntropyCalibration2", "11.0.0", calibcache.Entropy2, []string{"TensorRT 11.0.0 takes no calibration cache"},
		},
		"no version": {"100300-EntropyCalibration2", "ten", calibcache.Entropy2, []string{`"ten": want a version`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := calibcache.Parse([]byte("TRT-" + test.header + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Header.CheckCalibrator(test.version, test.algorithm)
			if (err != nil) != (test.want != nil) {
				t.Fatalf("error %v", err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want …%s…", err, part)
				}
			}
		})
	}
}
