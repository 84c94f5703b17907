package trt

import "time"

// Parts of the package that its tests look at.
var (
	ParseLayers = parseLayers
	Absent      = absent
)

// SetCancelGrace sets how long a child may take to stop.
func SetCancelGrace(d time.Duration) (restore func()) {
	old := cancelGrace
	cancelGrace = d
	return func() { cancelGrace = old }
}
