package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sightd/sightd/trt"
)

// `sightd build -c` and the daemon share a folder.
func TestCleaningLeavesWhatAnotherBuilds(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	if err := os.MkdirAll(filepath.Join(s.Dir, buildPrefix+"left"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := s.Open(t.Context(), cleaning{b, s}, preparedOf("graph"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir, buildPrefix+"*")); err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

// cleaning cleans the store up while it builds.
type cleaning struct {
	*builder
	store EngineStore
}

func (b cleaning) Build(ctx context.Context, p *Prepared, dir string, progress func(BuildProgress)) (*BuildReport, error) {
	if err := b.store.Clean(); err != nil {
		return nil, err
	}
	return b.builder.Build(ctx, p, dir, progress)
}

// The same machine may load it another time: it isn't the model that was refused.
func TestEngineThatCannotBeLoadedWhenBuiltIsTriedAgain(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{refuse: &trt.Error{Status: trt.Unsupported, Op: "load", Message: "more lanes than it has profiles"}}
	_, err := s.Open(t.Context(), b, preparedOf("graph"), nil)
	var off *ErrBackOff
	if !errors.As(err, &off) || off.Refused || off.Until.IsZero() || trt.StatusOf(err) != trt.Unsupported {
		t.Errorf("error %v, %+v", err, off)
	}
}
