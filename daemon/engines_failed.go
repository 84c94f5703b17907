package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/trt"
)

// A build that failed isn't tried for ever: each failure doubles the time until the
// next try. It is noted beside the engine that there would be, as KEY.failed.json, so
// that a daemon that starts anew knows it too; another key begins afresh. A full disk is
// never noted: it says nothing of the key, and whoever starts sightd again has perhaps made
// room.
//
// Where the model itself was refused, waiting mends nothing, so there is no next try
// for that key. It says nothing of the release: another version of TensorRT, another
// precision or another back end may take the same file.

const (
	failedSuffix = ".failed.json"
	firstBackOff = time.Minute
	longBackOff  = 6 * time.Hour
	maxReason    = 4000 // bytes
)

// ErrBackOff is the error of a build that failed: now, or a while ago, and isn't to
// be tried again before Until.
type ErrBackOff struct {
	Until   time.Time
	Count   int    // of failures in a row
	Reason  string // of the last
	Refused bool   // the model was: there is no next try, and Until means nothing
	cause   error  // that this process saw; nil: only the note tells
}

func (e *ErrBackOff) Error() string {
	if e.cause != nil {
		return e.Reason
	}
	if e.Refused {
		return "the build failed before, and isn't tried again with this version and these settings: " + e.Reason
	}
	return fmt.Sprintf("the build failed before, and is tried again at %s: %s", e.Until.UTC().Format(time.RFC3339), e.Reason)
}

// Unwrap is the error of the build, where this process tried it.
func (e *ErrBackOff) Unwrap() error { return e.cause }

// final is whether no wait mends what there is no engine for: the model was refused,
// now or before, this machine or version can't do what is asked for, or the engine
// isn't one that the placement allows.
func final(err error) bool {
	var noted *ErrBackOff
	if errors.As(err, &noted) {
		return noted.Refused
	}
	var loading *unloadable
	if errors.As(err, &loading) {
		return false
	}
	switch trt.StatusOf(err) {
	case trt.BadModel, trt.Unsupported:
		return true
	}
	var over *dla.LimitError
	var wish *unfit
	return errors.As(err, &over) || errors.As(err, &wish)
}

// failure is KEY.failed.json.
type failure struct {
	Count   int       `json:"count"`
	Reason  string    `json:"reason"`
	Refused bool      `json:"refused,omitempty"` // Next is nothing then
	Last    time.Time `json:"last"`
	Next    time.Time `json:"next"`
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
	if ok && f.Refused {
		return &ErrBackOff{Count: f.Count, Reason: f.Reason, Refused: true}
	}
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
	f = failure{Count: f.Count + 1, Reason: reason, Refused: final(cause), Last: now, Next: now.Add(wait)}
	if f.Refused {
		f.Next = time.Time{}
	}
	if !full(cause) {
		s.note(engine, f)
	}
	if s.Insist {
		return cause
	}
	return &ErrBackOff{Until: f.Next, Count: f.Count, Reason: reason, Refused: f.Refused, cause: cause}
}

// note writes KEY.failed.json.
func (s EngineStore) note(engine string, f failure) {
	b, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = durable.WriteFile(failureOf(engine), append(b, '\n'), 0o644)
	}
	if err != nil {
		s.Log.Warn("a failed build can't be noted", "err", err)
	}
}

// succeeded forgets failures.
func (s EngineStore) succeeded(engine string) { _ = os.Remove(failureOf(engine)) }
