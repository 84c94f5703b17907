package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// stopTime is how long a clean stop may take.
const stopTime = 8 * time.Second

// daemonProcess is sightd under the demo's configuration.
type daemonProcess struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended; err is set then
	err   error
	stop  func() error // ends it in order; safe to call again
}

// startDaemon starts sightd with its broker and its page at these addresses.
func startDaemon(broker, page string) (*daemonProcess, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command("bin/sightd", "run", "-c", configFile)
	cmd.Env = append(os.Environ(), "SIGHTD_MQTT_EMBEDDED="+broker, "SIGHTD_HTTP_LISTEN="+page)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that an interrupt at the terminal reaches the demo
	// alone, which then stops the daemon.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: run `make build` first", err)
	}
	d := &daemonProcess{cmd: cmd, ended: make(chan struct{})}
	go func() {
		d.err = cmd.Wait()
		close(d.ended)
	}()
	d.stop = sync.OnceValue(func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-d.ended:
			return d.err
		case <-time.After(stopTime):
			_ = cmd.Process.Kill()
			<-d.ended
			return fmt.Errorf("sightd didn't stop within %v of SIGTERM", stopTime)
		}
	})
	return d, nil
}

// explain ends the daemon and adds the end of its log to what went wrong.
func (d *daemonProcess) explain(err error) error {
	_ = d.stop() // the log says why it failed
	log, readErr := os.ReadFile(logFile)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	lines = lines[max(0, len(lines)-10):]
	return fmt.Errorf("%w; the end of %s:\n%s", err, logFile, bytes.Join(lines, []byte("\n")))
}

// freeAddress is the wanted address where it is free, or another port.
func freeAddress(wanted string) (string, error) {
	l, err := net.Listen("tcp", wanted)
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// status is what the demo wants to know of GET /api/v1/status.
type status struct {
	Models  []modelStatus
	Cameras []cameraStatus
}

type modelStatus struct {
	Name      string
	State     string
	Precision string
	Coverage  float64
	Engine    *struct {
		Backend string
		Build   float64 `json:"build_seconds"`
	}
}

type cameraStatus struct {
	Name       string
	Captured   uint64
	Classified uint64
}

func readStatus(page string) (*status, error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + page + "/api/v1/status")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", response.Request.URL, response.Status)
	}
	s := new(status)
	if err := json.NewDecoder(response.Body).Decode(s); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Request.URL, err)
	}
	return s, nil
}
