package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/release"
)

// oldKernel names the directory with an inbox that the test program, started anew, is
// to read without openat2.
const oldKernel = "INBOX_TEST_OLD_KERNEL"

// Kernels before 5.6 and some sandboxes lack openat2: links are followed inside and
// nowhere else all the same.
func TestLinksAreFollowedInsideAloneWithoutOpenat2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, bad := packed(t, 2), packed(t, 3)
	must(t, os.Mkdir(filepath.Join(dir, "inbox"), 0o755))
	must(t, os.Rename(good, filepath.Join(dir, "inbox", ".two")))
	must(t, os.Symlink(".two", filepath.Join(dir, "inbox", "good")))
	must(t, os.Rename(filepath.Join(bad, release.ManifestName), filepath.Join(dir, "outside")))
	must(t, os.Symlink("../../outside", filepath.Join(bad, release.ManifestName)))
	must(t, os.Rename(bad, filepath.Join(dir, "inbox", "bad")))
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), oldKernel+"="+dir)
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), "no seccomp:") {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func receiveWithoutOpenat2(dir string) int {
	if err := forbid(unix.SYS_OPENAT2); err != nil {
		fmt.Println("no seccomp:", err)
		return 1
	}
	if _, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_RDONLY}); !errors.Is(err, unix.ENOSYS) {
		fmt.Println("openat2 is there:", err)
		return 1
	}
	store, err := release.OpenStore(filepath.Join(dir, "state"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	root, err := os.OpenRoot(filepath.Join(dir, "inbox"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer root.Close()
	r, _, err := store.Receive(context.Background(), root, "good", release.Policy{}, nil)
	if err != nil {
		fmt.Println("a link inside:", err)
		return 1
	}
	r.Close()
	if _, _, err = store.Receive(context.Background(), root, "bad", release.Policy{}, nil); release.CodeOf(err) != release.BadHash || !strings.Contains(err.Error(), "a link out of the inbox") {
		fmt.Println("a link out of it:", err)
		return 1
	}
	return 0
}

// forbid has a system call answer that there is none, in all threads.
func forbid(call uint32) error {
	const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: load}, // the call's number
		{Code: equal, K: call, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	// The other threads get no_new_privs with the filter.
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}
