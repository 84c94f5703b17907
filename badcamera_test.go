package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sightd/sightd/daemon"
)

// missingCameras are sources that aren't there, and what has to be said.
func missingCameras(t *testing.T) map[string][]string {
	video := filepath.Join(t.TempDir(), "none.mp4")
	return map[string][]string{
		"v4l2:/dev/video4711":                    {"/dev/video4711", "is the camera plugged in?"},
		"file:" + video:                          {video, "no such file"},
		"rtsp://" + freeAddress(t) + "/entrance": {"rtsp://127.0.0.1:"},
	}
}

func TestACameraThatIsNotThereEndsARunUntilTheEnd(t *testing.T) {
	t.Parallel()
	for source, want := range missingCameras(t) {
		t.Run(source[:4], func(t *testing.T) {
			t.Parallel()
			config, state := serviceConfig(t, source, "")
			prepare(t, state)
			s := startService(t, config, "--until-end")
			if status := s.end(); status != 1 {
				t.Errorf("exit status %d", status)
			}
			wantParts(t, s.refusal(), append(want, `camera "door"`)...)
		})
	}
}

// It may come back, so the daemon stays.
func TestACameraThatIsNotThereIsOffline(t *testing.T) {
	t.Parallel()
	for source, want := range missingCameras(t) {
		t.Run(source[:4], func(t *testing.T) {
			t.Parallel()
			listen := freeAddress(t)
			config, _ := serviceConfig(t, source, fmt.Sprintf("http: {listen: %q}\n", listen))
			s := startService(t, config)
			s.when("tried twice", func(s *daemon.Status) bool { return s.Cameras[0].Restarts > 0 })

			res, err := http.Get("http://" + listen + "/api/v1/status")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var got daemon.Status
			if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if c := got.Cameras[0]; c.Name != "door" || c.State != "offline" || got.Ready {
				t.Errorf("%+v, ready: %v", c, got.Ready)
			}
			wantParts(t, got.Cameras[0].Reason, want...)
			if status := s.stop(syscall.SIGTERM); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}
