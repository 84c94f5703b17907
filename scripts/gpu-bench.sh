#!/bin/sh
# gpu-bench.sh [FLAGS]: measures on a GPU, with each TensorRT that it is given; see
# gpu/README.md. It lies in a kit that `make gpu-kit` made, and needs no Go.
#
#   TENSORRT_LIBS, RESULTS  as for gpu-test.sh
#   MODELS                  folder of models to measure; the demo's alone without
#   TRTEXEC                 NVIDIA's trtexec for that TensorRT; {} in it stands for
#                           the version; without, gpu/enqueue.cc is compiled
#   CUDA_INCLUDE, TENSORRT_INCLUDE  headers for that; {} again
#
# FLAGS go to gpu/bench.py, as --budget SECONDS or --only accuracy,speed.
# Exit status 1: a target was missed or a part failed; 2: wrong usage.
set -u
here=$(pwd)
kit=$(cd "$(dirname "$0")/.." && pwd)
results=${RESULTS:-build/gpu}
for flag; do
	case $flag in -h | --help)
		sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
		echo
		exec python3 -B "$kit/gpu/bench.py" --help
		;;
	esac
done
case $results in /*) ;; *) results=$here/$results ;; esac
case ${MODELS:-} in '' | /*) ;; *) MODELS=$here/$MODELS ;; esac
export MODELS
mkdir -p "$results" || exit 1
# shellcheck source=scripts/gpu-env.sh
. "$kit/scripts/gpu-env.sh"

bad=0
flags=$*
# What is newer is of this run: RESULTS may hold earlier ones.
begin=$(mktemp)
trap 'rm -f "$begin"' EXIT
measure() {
	[ "$bad" -ne 2 ] || return # the next TensorRT wouldn't take these flags either
	# Word splitting is meant.
	# shellcheck disable=SC2086
	python3 -B "$kit/gpu/bench.py" --out "$results/$tensorrt" --tensorrt "$tensorrt" --library "$shim" $flags
	case $? in
	0) ;;
	2) bad=2 ;;
	*) bad=1 ;;
	esac
}
each_tensorrt measure
[ "$tried" -gt 0 ] || bad=1
find "$results" -mindepth 2 -maxdepth 2 -name '*.md' -newer "$begin" 2>/dev/null | sort | while read -r table; do
	cat "$table"
done
exit "$bad"
