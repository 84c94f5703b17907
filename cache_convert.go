package main

import (
	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/durable"
)

type cacheConvertCmd struct {
	File      string `arg:"" help:"Calibration cache."`
	To        string `placeholder:"VERSION" help:"TensorRT version that the header is to name, such as 10.3.0; the same as before by default."`
	Algorithm string `placeholder:"NAME" help:"Algorithm that the header is to name, such as EntropyCalibration2; the same as before by default. The scales stay."`
	Output    string `short:"o" default:"-" placeholder:"OUT" help:"File to write; standard output by default."`
}

func (c *cacheConvertCmd) Run(a *app) error {
	cache, err := calibcache.Read(c.File)
	if err != nil {
		return err
	}
	if c.Algorithm != "" {
		if cache.Header.Algorithm, err = calibcache.ParseAlgorithm(c.Algorithm); err != nil {
			return usagef("--algorithm: %w", err)
		}
	}
	if c.To != "" {
		if cache.Header, err = calibcache.HeaderFor(c.To, cache.Header.Algorithm); err != nil {
			return usagef("--to: %w", err)
		}
	}
	if c.Output == "-" {
		_, err = a.stdout.Write(cache.Bytes())
		return err
	}
	return durable.WriteFile(c.Output, cache.Bytes(), 0o644)
}
