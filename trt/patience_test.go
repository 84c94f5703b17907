package trt_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// patience is a program that plays runs of given lengths by the rule of the library's
// waits, and prints for each how much later than its end it was answered: a wake-up
// takes 60 µs, and one from CUDA too.
const patience = `
#include <cstdio>
#include <cstdlib>
#include "patience.h"
int main(int n, char **v) {
  using std::chrono::microseconds;
  sightd::Patience p;
  for (int i = 1; i < n; i++) {
    const microseconds took(atoi(v[i])), wake(60);
    sightd::Patience::Time now(0);
    const auto pause = p.sleep(now);
    if (pause.count() > 0) now = pause + wake;
    const bool past = pause.count() > 0 && now >= took;
    if (now < took) now = took <= p.ask(now) ? sightd::Patience::Time(took) : took + wake;
    p.ended(now, past);
    printf("%ld\n", static_cast<long>(std::chrono::duration_cast<microseconds>(now - took).count()));
  }
}
`

// late is how much later than their ends, in microseconds, runs are answered.
func late(t *testing.T, runs ...string) []string {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "patience.cc"), filepath.Join(dir, "patience")
	if err := os.WriteFile(source, []byte(patience), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("g++", "-std=c++17", "-Wall", "-Wextra", "-Ishim", source, "-o", program).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program, runs...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func times(n int, run string) []string { return strings.Fields(strings.Repeat(run+" ", n)) }

func TestRunsOfOneLengthAreAnsweredWhenTheyEnd(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"300", "5000", "40000"} {
		said := late(t, times(100, length)...)
		for i, us := range said[60:] {
			if us != "0" {
				t.Errorf("runs of %s µs: run %d is answered %s µs late", length, 60+i, us)
			}
		}
	}
}

func TestASlowRunIsForgottenSoon(t *testing.T) {
	t.Parallel()
	for _, slow := range []string{"40000", "400000"} {
		said := late(t, append(append(times(60, "1000"), slow), times(40, "1000")...)...)
		for i, us := range said[80:] {
			if us != "0" {
				t.Errorf("%d runs after one of %s µs, one of 1000 is answered %s µs late", 19+i, slow, us)
			}
		}
		for i, us := range said[61:80] {
			if len(us) > 4 {
				t.Errorf("%d runs after one of %s µs, one of 1000 is answered %s µs late", i, slow, us)
			}
		}
		// And one that begins with it.
		said = late(t, append([]string{slow}, times(60, "1000")...)...)
		for i, us := range said[30:] {
			if us != "0" {
				t.Errorf("%d runs after a first one of %s µs, one of 1000 is answered %s µs late", 29+i, slow, us)
			}
		}
	}
}
