package release

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/sightd/sightd/internal/strict"
)

// Incomplete is the error of a drop that isn't whole: more of it may be on its
// way. Its cause is the [Rejection] that it deserves if nothing more comes.
type Incomplete struct {
	Err error
	// Wrong is whether all that is awaited is there, only with other content: as
	// a copy looks that writes in place, and a drop that never gets any better.
	Wrong bool
}

func (i *Incomplete) Error() string { return i.Err.Error() }
func (i *Incomplete) Unwrap() error { return i.Err }

func missing(format string, args ...any) error {
	return &Incomplete{Err: rejectf(MissingFile, format, args...)}
}

func wrong(err error) error { return &Incomplete{Err: err, Wrong: true} }

// Installed is the error of a drop whose very manifest is in the store already.
type Installed struct {
	Name  string
	Entry Entry // what became of it
}

func (i *Installed) Error() string {
	return fmt.Sprintf("release %s of %s is installed already: it is %s", i.Entry.ID(), i.Name, i.Entry.State)
}

// unread says what the failure to open a drop's file means for the drop; at is
// the file's path, for messages.
func unread(at string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return missing("%s is missing", at)
	case errors.Is(err, fs.ErrPermission):
		return missing("%s can't be read: permission denied: give it to the inbox's group, and that group the right to read", at)
	case errors.Is(err, syscall.ELOOP), strings.Contains(err.Error(), "escapes from parent"): // os.Root has no name for it
		return rejectf(BadHash, "%s is a link out of the inbox, or one that ends nowhere: links are followed only inside", at)
	case errors.Is(err, syscall.ENXIO): // a socket
		return irregular(at)
	}
	return fmt.Errorf("read %s: %w", at, errno(err))
}

func irregular(at string) error { return rejectf(BadHash, "%s is no regular file", at) }

// errno is the cause without the path in it, which [Store.hint] would take for
// one of the store's own where the inbox lies in the state directory.
func errno(err error) error {
	var cause syscall.Errno
	if errors.As(err, &cause) {
		return cause
	}
	return err
}

// unquoted is an error about a file's content without the content: who may
// write to the inbox must not have sightd read files to them.
func unquoted(at string, code Code, err error) error {
	const wayOut = "`sightd release verify` shows what is wrong"
	var one *strict.Error
	var all strict.Errors
	where := ""
	if errors.As(err, &all) && len(all) > 0 {
		one = all[0]
	}
	if one != nil || errors.As(err, &one) {
		where = fmt.Sprintf(":%d:%d", one.Line, one.Column)
	}
	what := map[Code]string{BadManifest: "it isn't what a manifest must be", BadLabels: "it isn't text in UTF-8 with a label a line"}[code]
	return rejectf(code, "%s%s: %s: %s", at, where, what, wayOut)
}
