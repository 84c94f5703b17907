#!/bin/sh
# gpu-test.sh: runs the tests that need a GPU, with each TensorRT that it is given.
# It lies in a kit that `make gpu-kit` made, and needs no Go.
#
#   TENSORRT_LIBS  folders with TensorRT's libraries, with colons between; without,
#                  the TensorRT that the loader finds
#   RESULTS        folder for logs and tests.md (build/gpu)
#   TIMEOUT        most seconds for one test program (600)
#
# Exit status 1: a test failed, or a program ended without a verdict.
set -u
here=$(pwd)
kit=$(cd "$(dirname "$0")/.." && pwd)
results=${RESULTS:-build/gpu}
case ${1:-} in -h | --help)
	sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
	exit
	;;
esac
case $results in /*) ;; *) results=$here/$results ;; esac
mkdir -p "$results" || exit 1
report=$results/tests.md
# shellcheck source=scripts/gpu-env.sh
. "$kit/scripts/gpu-env.sh"

say() { echo "$*" | tee -a "$report"; }

: >"$report"
say "### Tests on the GPU"
say ""
say "| TensorRT | package | passed | skipped | failed | seconds |"
say "| --- | --- | --: | --: | --: | --: |"
bad=0
for_each_tensorrt() {
	grep -v '^#' "$kit/gpu/tests.txt" | while read -r package tests; do
		[ -n "$package" ] || continue
		name=$(basename "$package")
		[ "$name" != . ] || name=sightd
		log=$results/test-$tensorrt-$name.log
		if [ ! -x "$kit/test/$name.test" ]; then
			say "| $tensorrt | $package | not in the kit | | | |"
			: >"$results/.failed"
			continue
		fi
		start=$(date +%s)
		# The suite of package trt is told which library; sightd itself would take that
		# variable for a key of its configuration.
		real=
		[ "$package" != ./trt ] || real=SIGHTD_TRT_TEST_LIBRARY=$shim
		# The folder that go test would run it in.
		(cd "$kit/$package" 2>/dev/null || cd "$kit" || exit 1
			exec env ${real:+"$real"} timeout -k 10 "${TIMEOUT:-600}" "$kit/test/$name.test" -test.v -test.timeout "${TIMEOUT:-600}s" -test.run "$tests") >"$log" 2>&1
		status=$?
		failed=$(count FAIL)
		[ "$status" -eq 0 ] || [ "$failed" -ne 0 ] || failed="ended with status $status"
		say "| $tensorrt | $package | $(count PASS) | $(count SKIP) | $failed | $(($(date +%s) - start)) |"
		if grep -q '^testing: warning: no tests to run' "$log"; then
			say "|   | no test is named as $tests | | | | |"
			status=1
		fi
		if [ "$status" -ne 0 ]; then
			: >"$results/.failed"
			grep -E '^ *--- FAIL|^panic|^fatal|^SIG' "$log" | head -40 >&2
		fi
	done
}
count() { grep -cE "^ *--- $1:" "$log"; }

rm -f "$results/.failed"
each_tensorrt for_each_tensorrt
[ "$tried" -gt 0 ] || bad=1
if [ -e "$results/.failed" ]; then
	rm -f "$results/.failed"
	bad=1
fi
say ""
if [ "$bad" -eq 0 ]; then say "All passed."; else say "**Not all passed**: the logs are beside this report."; fi
exit "$bad"
