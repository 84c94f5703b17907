package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/trt"
)

var errBroken = errors.New("an operator is missing")

func TestFailedBuildBacksOff(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{fail: errBroken}
	note := failureOf(s.path(b, "graph"))
	for i, minutes := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360} {
		_, err := s.Open(t.Context(), b, preparedOf("graph"), nil)
		var off *ErrBackOff
		if !errors.As(err, &off) || !errors.Is(err, errBroken) || off.Count != i+1 || b.builds != i+1 {
			t.Fatalf("failure %d: error %v, %+v, %d builds", i+1, err, off, b.builds)
		}
		f, ok := readFailure(s.path(b, "graph"))
		if !ok || f.Next.Sub(f.Last) != minutes*time.Minute || !f.Next.Equal(off.Until) {
			t.Fatalf("failure %d: it is noted as %+v, wanted a wait of %v", i+1, f, minutes*time.Minute)
		}
		_, err = s.Open(t.Context(), b, preparedOf("graph"), nil)
		if !errors.As(err, &off) || errors.Is(err, errBroken) || b.builds != i+1 {
			t.Fatalf("before its time: error %v, %d builds", err, b.builds)
		}
		if again := "is tried again at " + f.Next.Format(time.RFC3339); !strings.HasSuffix(again, "Z") || !strings.Contains(err.Error(), again) {
			t.Errorf("error %v, want %q", err, again)
		}
		f.Next = time.Now() // its time has come
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, note, string(text))
	}
	b.fail = nil
	open(t, s, b, "graph")
	if !gone(t, note) {
		t.Error("after a success the failures stand there still")
	}
}

// path is that of a graph's engine.
func (s EngineStore) path(b Backend, graph string) string {
	return s.Dir + "/" + s.ID(b, preparedOf(graph)) + ".engine"
}

func TestCommandsBuildWhatFailedAMomentAgo(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{fail: errBroken}
	for range 3 {
		s.Insist = true
		if _, err := s.Open(t.Context(), b, preparedOf("graph"), nil); !errors.Is(err, errBroken) {
			t.Errorf("error %v", err)
		}
	}
	if b.builds != 3 {
		t.Errorf("%d builds, wanted 3", b.builds)
	}
	s.Insist = false
	var off *ErrBackOff
	if _, err := s.Open(t.Context(), b, preparedOf("graph"), nil); !errors.As(err, &off) || off.Count != 3 {
		t.Errorf("the daemon doesn't heed the command's failures: %v", err)
	}
}

func TestAnotherKeyBeginsAfresh(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{fail: errBroken}
	_, _ = s.Open(t.Context(), b, preparedOf("graph"), nil)
	b.identity = "another version"
	_, _ = s.Open(t.Context(), b, preparedOf("graph"), nil)
	if b.builds != 2 {
		t.Errorf("%d builds, wanted 2", b.builds)
	}
}

// TensorRT refuses a model for an operator that its version lacks.
func TestModelThatIsRefusedIsBuiltAgainOnlyWithAnotherKey(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{fail: &trt.Error{Status: trt.BadModel, Op: "build", Message: "no importer for NonMaxSuppression"}}
	for i := range 3 {
		_, err := s.Open(t.Context(), b, preparedOf("graph"), nil)
		var off *ErrBackOff
		if !errors.As(err, &off) || !off.Refused || !final(err) || !strings.Contains(err.Error(), "NonMaxSuppression") || b.builds != 1 {
			t.Fatalf("time %d: error %v, %d builds", i+1, err, b.builds)
		}
	}
	b.fail = nil
	b.identity = "another version"
	open(t, s, b, "graph")
	if b.builds != 2 {
		t.Errorf("%d builds, wanted 2", b.builds)
	}
	b.identity = ""
	s.Insist = true // somebody asks for it
	open(t, s, b, "graph")
	if b.builds != 3 || !gone(t, failureOf(s.path(b, "graph"))) {
		t.Errorf("%d builds, wanted 3 and no failure noted", b.builds)
	}
}

func TestCancelledBuildIsNoFailure(t *testing.T) {
	t.Parallel()
	s, b := testStore(t), &builder{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Open(ctx, b, preparedOf("graph"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	open(t, s, b, "graph")
}

func TestBackOffSurvivesClocksAndDamage(t *testing.T) {
	t.Parallel()
	write := func(f failure) string {
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, content := range map[string]string{
		"a time beyond all waits": write(failure{Count: 3, Reason: "x", Next: time.Now().Add(100 * time.Hour)}),
		"no JSON":                 "{",
		"nothing":                 "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := testStore(t), &builder{}
			if err := os.MkdirAll(s.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
			rewrite(t, failureOf(s.path(b, "graph")), content)
			open(t, s, b, "graph")
		})
	}
}
