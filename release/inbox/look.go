package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/sightd/sightd/release"
)

// look finds out what is to be done about a drop, and does it.
func (i *Inbox) look(ctx context.Context, root *os.Root, name string) {
	if of := dropOfSidecar(root, name); of != "" {
		name = of
	}
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		i.forget(name)
		return
	}
	archive := strings.HasSuffix(name, release.ArchiveSuffix)
	alone := single(root, name)
	if err != nil || !archive && !alone && !info.IsDir() && info.Mode().Type() != fs.ModeSymlink {
		return // some other file
	}
	d := i.drops[name]
	if d == nil && len(i.drops) >= maxDrops {
		return // which the next scan says
	}
	if d == nil {
		d = &drop{touched: time.Now(), said: map[release.Code]bool{}}
		i.drops[name] = d
	}
	if d.unsaid {
		i.write(root, d)
	}
	// A manifest is parsed again only where there is another.
	head, _ := fingerprint(root, []string{name, path.Join(name, release.ManifestName)})
	if d.head != head {
		d.head, d.files = head, filesOf(root, name, alone)
	}
	if !archive && !alone {
		i.watchDirs(root, name, d.files)
	}
	print, newest := fingerprint(root, d.files)
	print += head
	now, wall := time.Now(), i.o.wall()
	if print != d.print {
		d.touched, d.again = now, true
	}
	if d.wrong != nil && print == d.print && now.Sub(d.touched) >= i.o.Patience {
		i.reject(root, d, name, d.result, d.wrong)
		d.wrong = nil
		return
	}
	if d.again {
		d.print, d.again, d.wrong = print, false, nil
		i.receive(ctx, root, name, d)
		if age := wall.Sub(newest); d.result.State == release.Received && age < racy && age > -racy {
			// It may have changed again within the clock's tick.
			d.again = true
			i.due[name] = now.Add(racy)
		}
	}
	if d.wrong != nil {
		i.due[name] = earlier(i.due[name], d.touched.Add(i.o.Patience))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// receive takes a drop in, as far as it goes.
func (i *Inbox) receive(ctx context.Context, root *os.Root, name string, d *drop) {
	result := Result{Drop: name, State: release.Received}
	d.is, d.hash, d.ends = installed{}, "", map[release.State]bool{}
	if before, ok := i.refused[release.IdentityOf(root, name)]; ok {
		before.Drop = name
		i.tell(root, d, before)
		return
	}
	if d.result.State == "" && !resultThere(root, name) {
		i.tell(root, d, result) // else this is a start, and what is said there may be so still
	}
	rel, err := i.bring(ctx, root, name, d, &result)
	if err == nil {
		defer rel.Close()
		result.State = release.Verified
		i.tell(root, d, result)
		result.State = release.Received
		var entry *release.Entry
		if entry, err = i.o.Take(rel); err == nil {
			i.installed(root, d, result, *entry, false)
			return
		}
		if release.CodeOf(err) != "" {
			if len(i.refused) > maxDrops {
				clear(i.refused)
			}
			refused := result
			refused.State, refused.Code, refused.Reason = release.Rejected, release.CodeOf(err), err.Error()
			i.refused[rel.Identity()] = refused
		}
	}
	var more *release.Incomplete
	var known *release.Installed
	switch {
	case ctx.Err() != nil:
		d.again = true
	case errors.As(err, &known):
		i.installed(root, d, result, known.Entry, true)
	case errors.As(err, &more):
		if more.Wrong {
			d.wrong = more.Final()
		}
		result.Code, result.Reason = release.CodeOf(err), err.Error()
		i.tell(root, d, result)
	case release.CodeOf(err) != "":
		i.reject(root, d, name, result, err)
	default: // this device's trouble, which may pass without a change of the drop
		d.again = true
		result.Reason = err.Error()
		i.tell(root, d, result)
	}
}

func (i *Inbox) reject(root *os.Root, d *drop, name string, r Result, err error) {
	r.Drop, r.State, r.Code, r.Reason = name, release.Rejected, release.CodeOf(err), err.Error()
	i.tell(root, d, r)
}

// fingerprint changes when one of the files does, as far as stat can tell, and
// comes with the time of the latest change.
func fingerprint(root *os.Root, files []string) (string, time.Time) {
	hash := sha256.New()
	var newest time.Time
	for _, name := range files {
		info, err := root.Stat(name)
		if err != nil {
			fmt.Fprintf(hash, "%q: none\n", name)
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		if info.IsDir() { // results and other files that come and go in it don't count
			fmt.Fprintf(hash, "%q: dir %d %d\n", name, st.Dev, st.Ino)
			continue
		}
		fmt.Fprintf(hash, "%q: %d %d %d %o %v %v\n", name, st.Dev, st.Ino, st.Size, st.Mode, st.Mtim, st.Ctim)
		if at := time.Unix(st.Ctim.Unix()); at.After(newest) {
			newest = at
		}
	}
	return string(hash.Sum(nil)), newest
}

// watchDirs watches the folders that a drop's files are in.
func (i *Inbox) watchDirs(root *os.Root, name string, files []string) {
	dirs := map[string]bool{name: true}
	for _, file := range files {
		for dir := path.Dir(file); dir != "." && !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		i.watch.add(root, dir, i.o.Dir)
	}
}
