package daemon

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
)

func TestThatEventsAreGivenUpIsSaidAtItsBeginningAndItsEnd(t *testing.T) {
	t.Parallel()
	var out testenv.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var l losses
	before := map[string]uint64{"age": 0, "bytes": 0}
	for _, now := range []map[string]uint64{
		{"age": 0, "bytes": 0}, {"age": 0, "bytes": 7}, {"age": 2, "bytes": 9}, {"age": 2, "bytes": 9}, {"age": 2, "bytes": 9},
	} {
		l.say(log, before, now)
		before = now
	}
	if said := out.String(); strings.Count(said, "\n") != 2 || !strings.Contains(said, "given up\" bytes=7\n") || !strings.Contains(said, "no more events") {
		t.Errorf("it says\n%s", said)
	}
}
