package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// A build that failed isn't tried for ever: each failure doubles the time until the
// next try. It is noted beside the engine that there would be, as KEY.failed.json, so
// that a daemon that starts anew knows it too; another key begins afresh.

const (
	failedSuffix = ".failed.json"
	firstBackOff = time.Minute
	longBackOff  = 6 * time.Hour
	maxReason    = 4000 // bytes
)

// ErrBackOff is the error of a build that failed: now, or a while ago, and isn't to
// be tried again before Until.
type ErrBackOff struct {
	Until  time.Time
	Count  int    // of failures in a row
	Reason string // of the last
	cause  error  // that this process saw; nil: only the note tells
}

func (e *ErrBackOff) Error() string {
	if e.cause != nil {
		return e.Reason
	}
	return fmt.Sprintf("the build failed before, and is tried again at %s: %s", e.Until.Local().Format(time.DateTime), e.Reason)
}

// Unwrap is the error of the build, where this process tried it.
func (e *ErrBackOff) Unwrap() error { return e.cause }

// failure is KEY.failed.json.
type failure struct {
	Count  int       `json:"count"`
	Reason string    `json:"reason"`
	Last   time.Time `json:"last"`
	Next   time.Time `json:"next"`
}

// failureOf is the path of KEY.failed.json for KEY.engine.
func failureOf(engine string) string {
	return strings.TrimSuffix(engine, ".engine") + failedSuffix
}

func readFailure(engine string) (f failure, ok bool) {
	b, err := strict.ReadFile(failureOf(engine), maxSidecar)
	if err != nil || json.Unmarshal(b, &f) != nil || f.Count < 1 {
		return failure{}, false // a damaged note costs a build
	}
	return f, true
}

// mayBuild is an [*ErrBackOff] where the build failed and its time hasn't come.
func (s EngineStore) mayBuild(engine string) error {
	f, ok := readFailure(engine)
	now := time.Now()
	// What is further away than any wait comes of a clock that was set.
	if !ok || !now.Before(f.Next) || f.Next.Sub(now) > longBackOff {
		return nil
	}
	return &ErrBackOff{Until: f.Next, Count: f.Count, Reason: f.Reason}
}

// failed notes a failure and makes its error.
func (s EngineStore) failed(engine string, cause error) error {
	f, _ := readFailure(engine)
	now := time.Now().UTC().Truncate(time.Second)
	wait := longBackOff
	if f.Count < 16 { // no overflow
		wait = min(firstBackOff<<f.Count, longBackOff)
	}
	reason := cause.Error()
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	f = failure{Count: f.Count + 1, Reason: reason, Last: now, Next: now.Add(wait)}
	b, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = durable.WriteFile(failureOf(engine), append(b, '\n'), 0o644)
	}
	if err != nil {
		s.Log.Warn("a failed build can't be noted", "err", err)
	}
	if s.Insist {
		return cause
	}
	return &ErrBackOff{Until: f.Next, Count: f.Count, Reason: reason, cause: cause}
}

// succeeded forgets failures.
func (s EngineStore) succeeded(engine string) { _ = os.Remove(failureOf(engine)) }
