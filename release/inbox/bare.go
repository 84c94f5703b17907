package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/sightd/sightd/release"
)

// single is whether a name in the inbox is that of one file of a release, a bare
// drop-in. A directory may be named as it likes.
func single(root *os.Root, name string) bool {
	if release.DropInFiles(name) == nil {
		return false
	}
	info, err := root.Stat(name)
	return err != nil || !info.IsDir()
}

// dropOfSidecar is the bare drop-in that a file lies beside; empty where it isn't one
// of a drop-in's.
func dropOfSidecar(root *os.Root, name string) string {
	of, is := strings.CutSuffix(name, ".minisig")
	if !is {
		if of, is = strings.CutSuffix(name, ".json"); is {
			of += ".engine"
		}
	}
	if !is || !single(root, of) {
		return ""
	}
	if _, err := root.Lstat(of); err != nil {
		return "" // it isn't there yet
	}
	return of
}

// filesOf are the paths of the files that a drop consists of.
func filesOf(root *os.Root, name string, alone bool) []string {
	if alone {
		return release.DropInFiles(name)
	}
	return release.NamedFiles(root, name)
}

// bring stages what a drop holds: a release, or a file that makes one of the release
// that serves its model.
func (i *Inbox) bring(ctx context.Context, root *os.Root, name string, d *drop, result *Result) (*release.Release, error) {
	if !single(root, name) {
		rel, m, err := i.o.Store.Receive(ctx, root, name, i.o.Policy, i.o.Install)
		if m != nil {
			result.Name, result.Number = m.Name, m.Release
		}
		return rel, err
	}
	rel, err := i.revise(ctx, root, name, result)
	var known *release.Installed
	var more *release.Incomplete
	switch {
	case err == nil:
		id := rel.ID()
		result.Number, result.Revision = id.Number, id.Revision
		if before, ok := i.refused[rel.Identity()]; ok {
			return nil, errors.Join(&release.Rejection{Code: before.Code, Err: errors.New(before.Reason)}, rel.Close())
		}
	case errors.As(err, &known):
		result.Number, result.Revision = known.Entry.Number, known.Entry.Revision
	case errors.As(err, &more) && !more.Wrong && release.CodeOf(err) == release.NotForThisRelease:
		d.again = true // until the release that it is for serves, which isn't seen here
	}
	return rel, err
}

// revise makes a release of a bare drop-in and the release that serves its model.
func (i *Inbox) revise(ctx context.Context, root *os.Root, name string, result *Result) (*release.Release, error) {
	model := release.DropInModel(name)
	if model == "" {
		return nil, &release.Rejection{Code: release.UnknownModel, Err: fmt.Errorf(
			"%s isn't named after a model: a single file is named NAME%s, with the name of the model that it is for", name, path.Ext(name))}
	}
	if i.o.Base == nil {
		return nil, &release.Rejection{Code: release.Unsupported, Err: errors.New("single files aren't taken here: pack a release with the new file")}
	}
	result.Name = model
	base, err := i.o.Base(model)
	if err != nil {
		return nil, err
	}
	result.Number = base.Spec.Release
	return i.o.Store.ReceiveDropIn(ctx, root, name, i.o.Policy, base)
}
