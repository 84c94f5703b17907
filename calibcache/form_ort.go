package calibcache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// jsonORT reads [lowest, highest] by name, as ONNX Runtime's calibrators wrote
// it first, or objects with these two, as they do now. The whole can be inside
// an object of the class TensorsData.
func (t *table) jsonORT(b []byte) error {
	var whole struct {
		Class string          `json:"CLS"`
		Data  json.RawMessage `json:"data"`
	}
	if json.Unmarshal(b, &whole) == nil && whole.Class == "TensorsData" {
		b = whole.Data
	}
	return members(b, func(name string, value json.RawMessage) error {
		lowest, highest, err := rangeORT(value)
		if err != nil {
			return t.errorf(0, "tensor %.200q: %v", name, err)
		}
		if lowest != -highest {
			t.asymmetric++
		}
		return t.addRange(0, name, max(math.Abs(lowest), math.Abs(highest)))
	})
}

// rangeORT takes [lowest, highest] or {"lowest": …, "highest": …}.
func rangeORT(value json.RawMessage) (lowest, highest float64, err error) {
	const longest = 4096 // of a pair, with NumPy's arrays around its numbers
	var pair []json.RawMessage
	if bytes.HasPrefix(value, []byte("[")) && len(value) > longest {
		return 0, 0, errors.New("has many numbers, want [lowest, highest]")
	}
	if json.Unmarshal(value, &pair) != nil {
		var object struct{ Lowest, Highest json.RawMessage }
		if json.Unmarshal(value, &object) != nil {
			return 0, 0, errors.New("want [lowest, highest]")
		}
		pair = []json.RawMessage{object.Lowest, object.Highest}
	}
	if len(pair) != 2 {
		return 0, 0, fmt.Errorf("has %d numbers, want [lowest, highest]", len(pair))
	}
	if lowest, err = scalar(pair[0]); err == nil {
		highest, err = scalar(pair[1])
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%w, want its lowest and its highest value", err)
	}
	return lowest, highest, nil
}

// scalar takes a number, or one that NumPy's arrays are written around:
// {"data": [1.5], "dtype": "float32", "CLS": "numpy.array"}.
func scalar(value json.RawMessage) (float64, error) {
	var array struct{ Data json.RawMessage }
	if json.Unmarshal(value, &array) == nil && array.Data != nil {
		value = array.Data
	}
	const longest = 256 // of a number
	var one []json.RawMessage
	if len(value) <= longest && json.Unmarshal(value, &one) == nil && len(one) == 1 {
		value = one[0]
	}
	return float(value)
}

// float takes a JSON number.
func float(value json.RawMessage) (float64, error) {
	var n json.Number
	if value == nil {
		return 0, errors.New("has no number")
	}
	if json.Unmarshal(value, &n) != nil || bytes.HasPrefix(value, []byte(`"`)) || n == "" {
		return 0, fmt.Errorf("%.32q is no number", value)
	}
	v, err := strconv.ParseFloat(n.String(), 64)
	if err != nil {
		return 0, fmt.Errorf("%.32q is beyond binary64", value)
	}
	return v, nil
}
