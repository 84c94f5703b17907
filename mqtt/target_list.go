package mqtt

import "fmt"

// maxBrokers bounds the list of brokers.
const maxBrokers = 16

// targets are the brokers of the options, the first one first.
func (o *Options) targets() ([]target, error) {
	if len(o.Others) >= maxBrokers {
		return nil, fmt.Errorf("mqtt.url has %d brokers: at most %d are taken", len(o.Others)+1, maxBrokers)
	}
	var all []target
	for i, raw := range append([]string{o.URL}, o.Others...) {
		t, err := parseTarget(raw)
		if err != nil && len(o.Others) > 0 {
			err = fmt.Errorf("broker %d of the list: %w", i+1, err)
		}
		if err != nil {
			return nil, err
		}
		for j, other := range all {
			if t == other {
				return nil, fmt.Errorf("mqtt.url: brokers %d and %d of the list are the same, %s: leave one out", j+1, i+1, t)
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// readFiles says what is wrong with the options for files, and with the files.
func (o *Options) readFiles(targets []target) error {
	for _, t := range targets {
		if err := o.checkFiles(t); err != nil {
			return err
		}
	}
	for _, t := range targets {
		if _, err := o.tlsConfig(t); err != nil {
			return err
		}
	}
	_, err := o.password()
	return err
}
