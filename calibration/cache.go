package calibration

import "github.com/sightd/sightd/calibcache"

// Header is the algorithm that a cache of these ranges names. TensorRT has no
// calibrator for percentiles; to it they are an entropy calibrator's, which DLA
// takes as well.
func Header(algorithm string) calibcache.Algorithm {
	if algorithm == MinMax {
		return calibcache.MinMax
	}
	return calibcache.Entropy2
}

// Cache is the calibration cache with the algorithm's ranges, for a TensorRT of
// the given version. It names each activation under all of its names, in graph
// order, but for those that never left zero.
func (s *Study) Cache(algorithm, tensorRT string) (*calibcache.Cache, error) {
	h, err := calibcache.HeaderFor(tensorRT, Header(algorithm))
	if err != nil {
		return nil, err
	}
	return calibcache.FromScales(h, s.Scales(algorithm), s.checked.Model)
}
