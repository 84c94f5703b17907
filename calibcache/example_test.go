package calibcache_test

import (
	"fmt"
	"log"
	"os"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

func ExampleParse() {
	c, err := calibcache.Parse([]byte("TRT-8501-EntropyCalibration2\ninput_1:0: 3c010a14\nconv1: 3d895e44\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("TensorRT", c.Header.Version(), c.Header.Algorithm)
	for _, e := range c.Entries {
		fmt.Printf("%s: ±%.4f in steps of %.6f\n", e.Name, e.Range(), e.Scale())
	}
	// Output:
	// TensorRT 8.5.1 EntropyCalibration2
	// input_1:0: ±1.0002 in steps of 0.007876
	// conv1: ±8.5184 in steps of 0.067074
}

// A file that isn't a cache is told for what it is.
func ExampleSyntaxError() {
	_, err := calibcache.Parse([]byte("data 2.640000104904175\n"))
	fmt.Println(err)
	// Output:
	// not a TensorRT calibration cache: line 1: this is ONNX Runtime's table of ranges in decimal, `name range`, not TensorRT's of scales in hexadecimal
}

// TensorRT 10.3 doesn't take a cache of 8.5.1, but the scales are as good.
func ExampleHeaderFor() {
	c, err := calibcache.Parse([]byte("TRT-8501-EntropyCalibration2\nconv1: 3d895e44\n"))
	if err != nil {
		log.Fatal(err)
	}
	if c.Header, err = calibcache.HeaderFor("10.3.0", c.Header.Algorithm); err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(c.Bytes()))
	// Output:
	// TRT-100300-EntropyCalibration2
	// conv1: 3d895e44
}

func ExampleHeader_CheckCalibrator() {
	h := calibcache.Header{Number: "100300", Algorithm: calibcache.MinMax}
	fmt.Println(h.CheckCalibrator("10.3.0", calibcache.Entropy2)) // what DLA wants
	// Output:
	// a calibrator of EntropyCalibration2 takes no cache of MinMaxCalibration and would calibrate anew: give it the header TRT-100300-EntropyCalibration2: the scales stay as they are
}

func ExampleCheck() {
	model, err := onnx.Read("testdata/net.onnx")
	if err != nil {
		log.Fatal(err)
	}
	c, err := calibcache.Parse([]byte("TRT-8501-EntropyCalibration2\nimage: 3c010a14\nrelu1: 3d000000\nmodel/Pool1:0: 3d000000\n" +
		"conv2: 3d000000\nclip2: 3d000000\nsum: 3d000000\ngap: 3d000000\n"))
	if err != nil {
		log.Fatal(err)
	}
	fit, err := calibcache.Check(c, model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d of %d\n", fit.Named, fit.Needed)
	for _, r := range fit.Renamed() {
		fmt.Println(r.Name, "is perhaps", r.Nearest)
	}
	// Output:
	// 7 of 8
	// pool1 is perhaps model/Pool1:0
}

func ExampleCompare() {
	left, err := calibcache.Parse([]byte("TRT-8501-EntropyCalibration2\na: 3f800000\nb: 3f800000\nc: 3f800000\n"))
	if err != nil {
		log.Fatal(err)
	}
	right, err := calibcache.Parse([]byte("TRT-8501-EntropyCalibration2\na: 3f800000\nb: 3f900000\nc: 3f000000\n"))
	if err != nil {
		log.Fatal(err)
	}
	d := calibcache.Compare(left, right)
	for _, t := range d.Tensors[:len(d.Tensors)-d.Identical] {
		fmt.Println(t.Name, t.Ratio)
	}
	fmt.Println(d.Identical, "identical")
	// Output:
	// c 0.5
	// b 1.125
	// 1 identical
}

func ExampleCache_Encode() {
	c, err := calibcache.Parse([]byte("TRT-8501-EntropyCalibration2\nconv1: 3c010204\n"))
	if err != nil {
		log.Fatal(err)
	}
	b, notes, err := c.Encode(calibcache.FormORTJSON)
	if err != nil {
		log.Fatal(err)
	}
	os.Stdout.Write(b)
	fmt.Println(notes[0])
	// Output:
	// {
	//   "conv1": [-0.9999999962747097, 0.9999999962747097]
	// }
	// ONNX Runtime's calibration JSON has no place for the header TRT-8501-EntropyCalibration2
}

// A cache from scales that were found in some other way.
func ExampleFromScales() {
	model, err := onnx.Read("testdata/net.onnx")
	if err != nil {
		log.Fatal(err)
	}
	h, err := calibcache.HeaderFor("10.3.0", calibcache.MinMax)
	if err != nil {
		log.Fatal(err)
	}
	c, err := calibcache.FromScales(h, map[string]float32{"relu1": 6.0 / 127, "image": 1.0 / 127}, model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(c.Bytes()))
	// Output:
	// TRT-100300-MinMaxCalibration
	// image: 3c010204
	// relu1: 3d418306
}
