package release

import (
	"errors"
	"fmt"
)

// Code says in a word why a release was refused.
type Code string

// The codes of rejections.
const (
	BadArchive       Code = "bad-archive"
	BadManifest      Code = "bad-manifest"
	BadHash          Code = "bad-hash"
	MissingFile      Code = "missing-file"
	BadModel         Code = "bad-model"
	BadLabels        Code = "bad-labels"
	BadCache         Code = "bad-cache"
	CacheDoesNotFit  Code = "cache-does-not-fit"
	NotNewer         Code = "not-newer"
	NotForThisDevice Code = "not-for-this-device"
	NeedsNewerSightd Code = "needs-newer-sightd"
	NoTrustedKey     Code = "no-trusted-key"
	BadSignature     Code = "bad-signature"
	Unsupported      Code = "unsupported"   // by this version
	UnknownModel     Code = "unknown-model" // no model of the configuration has its name
)

// Rejection is the error of a release that is refused for what it is. Other
// errors, a full disk say, tell nothing of the release.
type Rejection struct {
	Code Code
	Err  error
}

func (r *Rejection) Error() string { return r.Err.Error() }
func (r *Rejection) Unwrap() error { return r.Err }

// CodeOf is the code of a rejection, empty for other errors.
func CodeOf(err error) Code {
	var r *Rejection
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// reject gives err a code, unless it has one.
func reject(code Code, err error) error {
	if CodeOf(err) != "" {
		return err
	}
	return &Rejection{code, err}
}

func rejectf(code Code, format string, args ...any) error {
	return &Rejection{code, fmt.Errorf(format, args...)}
}
