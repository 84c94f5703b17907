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
set -u
here=$(pwd)
kit=$(cd "$(dirname "$0")/.." && pwd)
results=${RESULTS:-build/gpu}
case $results in /*) ;; *) results=$here/$results ;; esac
case ${MODELS:-} in '' | /*) ;; *) MODELS=$here/$MODELS ;; esac
export MODELS
mkdir -p "$results" || exit 1
# shellcheck source=scripts/gpu-env.sh
. "$kit/scripts/gpu-env.sh"

bad=0
flags=$*
measure() {
	# Word splitting is meant.
	# shellcheck disable=SC2086
	python3 -B "$kit/gpu/bench.py" --out "$results/$tensorrt" --tensorrt "$tensorrt" --library "$shim" $flags || bad=1
}
each_tensorrt measure
[ "$tried" -gt 0 ] || bad=1
cat "$results"/*/*.md 2>/dev/null
exit "$bad"
