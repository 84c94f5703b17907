package mqtt

import (
	"errors"
	"fmt"
	"slices"
)

// maxBrokers bounds the list of brokers.
const maxBrokers = 16

// An OptionError is what is wrong with one of the options. Key is how sightd.yaml
// names it, such as mqtt.ca_file, or mqtt.url[1] where there are several.
type OptionError struct {
	Key string
	Err error
}

func (e *OptionError) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

func optionErrorf(key, format string, args ...any) *OptionError {
	return &OptionError{key, fmt.Errorf(format, args...)}
}

// Faults are all that is wrong with the options themselves. No file is read.
func (o *Options) Faults() []*OptionError {
	_, faults := o.targets()
	return faults
}

// FileFaults are all that is wrong with the files that options without faults
// name.
func (o *Options) FileFaults() (faults []*OptionError) {
	targets, _ := o.targets()
	if i := slices.IndexFunc(targets, target.secure); i >= 0 {
		_, err := o.authorities()
		faults = append(faults, optionErrors(err)...)
		_, err = o.certificate()
		faults = append(faults, optionErrors(err)...)
	}
	_, err := o.password()
	return append(faults, optionErrors(err)...)
}

func optionErrors(err error) []*OptionError {
	var e *OptionError
	if errors.As(err, &e) {
		return []*OptionError{e}
	}
	return nil
}

// check is what stands against a start, or nil.
func (o *Options) check() ([]target, error) {
	targets, faults := o.targets()
	if len(faults) == 0 {
		faults = o.FileFaults()
	}
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return targets, errors.Join(errs...)
}

// targets are the brokers of the options, the first one first, and the faults of
// all options.
func (o *Options) targets() (all []target, faults []*OptionError) {
	add := func(key, format string, args ...any) {
		faults = append(faults, optionErrorf(key, format, args...))
	}
	if err := checkPrefix(o.prefix()); err != nil {
		add("mqtt.prefix", "%w", err)
	}
	if err := CheckName(o.Device); err != nil {
		add("device", "%w", err)
	}
	if len(o.Others) >= maxBrokers {
		add("mqtt.url", "%d brokers: at most %d are taken", len(o.Others)+1, maxBrokers)
		return nil, faults
	}
	for i, raw := range append([]string{o.URL}, o.Others...) {
		key := "mqtt.url"
		if len(o.Others) > 0 {
			key = fmt.Sprintf("mqtt.url[%d]", i)
		}
		t, err := parseTarget(raw)
		if err != nil {
			add(key, "%w", err)
		} else if j := slices.Index(all, t); j >= 0 {
			add(key, "the same as mqtt.url[%d], %s: leave one out", j, t)
		}
		all = append(all, t)
	}
	for _, t := range all {
		if t == (target{}) || t.secure() {
			continue
		}
		for _, file := range []struct{ key, path string }{{"ca_file", o.CAFile}, {"cert_file", o.CertFile}, {"key_file", o.KeyFile}} {
			if file.path != "" {
				add("mqtt."+file.key, "it needs an encrypted connection: mqtt.url has %s, want mqtts or wss", t.scheme)
			}
		}
		break
	}
	switch {
	case o.CertFile != "" && o.KeyFile == "":
		add("mqtt.cert_file", "mqtt.cert_file and mqtt.key_file belong together: give both or neither")
	case o.CertFile == "" && o.KeyFile != "":
		add("mqtt.key_file", "mqtt.cert_file and mqtt.key_file belong together: give both or neither")
	}
	if o.PasswordFile != "" && o.Username == "" {
		add("mqtt.password_file", "it needs mqtt.username: MQTT 3.1.1 has no password without a user name")
	}
	return all, faults
}
