package main

import (
	"log/slog"
	"os"

	"github.com/sightd/sightd/daemon"
)

type runCmd struct {
	Config    string `short:"c" required:"" type:"path" placeholder:"FILE" help:"sightd.yaml."`
	UntilEnd  bool   `help:"Stop when every source has ended and every event is delivered."`
	LogFormat string `enum:"text,json" default:"text" help:"text or json."`
	LogLevel  string `enum:"debug,info,warn,error" default:"info" help:"debug, info, warn or error."`
}

func (c *runCmd) Run(a *app) error {
	cfg, err := daemon.LoadConfig(c.Config, os.Environ())
	if err != nil {
		return err
	}
	d, err := daemon.New(cfg, daemon.Options{Version: version, UntilEnd: c.UntilEnd, Log: c.logger(a)})
	if err != nil {
		return err
	}
	return d.Run(a.ctx)
}

func (c *runCmd) logger(a *app) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // kong has checked it
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, o))
	}
	return slog.New(slog.NewTextHandler(a.stderr, o))
}
