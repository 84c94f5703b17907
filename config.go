package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/sightd/sightd/daemon"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Check a configuration and the files that it names: every fault with its line and column."`
	Show  configShowCmd  `cmd:"" help:"Show a configuration with defaults and environment, without secrets."`
}

type configCheckCmd struct {
	Config string `short:"c" required:"" type:"path" placeholder:"FILE" help:"sightd.yaml."`
}

func (c *configCheckCmd) Run(a *app) error {
	warnings, err := daemon.CheckConfig(c.Config, os.Environ())
	for _, w := range warnings {
		fmt.Fprintf(a.stderr, "sightd: warning: %s: %s\n", c.Config, w)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%s is a good configuration\n", c.Config)
	return nil
}

type configShowCmd struct {
	Config string `short:"c" required:"" type:"path" placeholder:"FILE" help:"sightd.yaml."`
	JSON   bool   `name:"json" help:"One JSON document."`
}

func (c *configShowCmd) Run(a *app) error {
	cfg, err := daemon.LoadConfig(c.Config, os.Environ())
	if err != nil {
		return err
	}
	shown := cfg.Redacted()
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(shown)
	}
	b, err := shown.YAML()
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(b)
	return err
}
