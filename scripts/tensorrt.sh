#!/bin/sh
# tensorrt.sh OUT: compiles trt/shim into OUT/libsightd-trtMAJOR.so, for the TensorRT
# whose headers are in $TENSORRT_ROOT (or where the compiler looks), with CUDA's of
# $CUDA_ROOT. Nothing of NVIDIA is linked: any machine's compiler will do, and CXX may
# be a cross compiler.
set -eu
out=$1
cxx=${CXX:-g++}
cuda=${CUDA_ROOT:-/usr/local/cuda}
source=$(dirname "$0")/../trt/shim

command -v "$cxx" >/dev/null || {
	echo "$cxx isn't there: install a C++ compiler (apt install g++), or set CXX" >&2
	exit 1
}
# The first folder that has a file, of those given.
find_header() {
	header=$1
	shift
	for folder; do
		if [ -e "$folder/$header" ]; then
			echo "$folder"
			return
		fi
	done
	return 1
}
target=$("$cxx" -dumpmachine)
# Debian's names of architectures have no vendor, as the compiler's may.
multiarch=$(echo "$target" | sed 's/-\(pc\|unknown\|redhat\)-/-/')
if [ -n "${TENSORRT_ROOT:-}" ]; then
	set -- "$TENSORRT_ROOT/include" "$TENSORRT_ROOT/include/$multiarch" "$TENSORRT_ROOT"
else
	set -- "/usr/include/$multiarch" /usr/include /usr/local/include
fi
include=$(find_header NvInfer.h "$@") || {
	echo "TensorRT's headers aren't there: no NvInfer.h in $*." >&2
	echo "Install libnvinfer-dev, or name the folder that has include/: make tensorrt TENSORRT_ROOT=…" >&2
	exit 1
}
[ -e "$include/NvOnnxParser.h" ] || {
	echo "The headers of TensorRT's ONNX parser aren't there: no NvOnnxParser.h in $include." >&2
	echo "Install libnvonnxparsers-dev (libnvonnxparser-dev on TensorRT 8), or put it there." >&2
	exit 1
}
cuda_include=$(find_header cuda.h "$cuda/include" "$cuda/targets/$(uname -m)-linux/include" "$cuda") || {
	echo "CUDA's headers aren't there: no cuda.h in $cuda/include." >&2
	echo "Install cuda-cudart-dev, or name the folder that has include/: make tensorrt CUDA_ROOT=…" >&2
	exit 1
}
macro() {
	printf '#include <NvInferVersion.h>\n%s\n' "$1" |
		"$cxx" -E -P -x c++ -isystem "$include" - | tail -n 1
}
major=$(macro NV_TENSORRT_MAJOR)
minor=$(macro NV_TENSORRT_MINOR)
case $major.$minor in
8.[5-9] | 10.* | 11.*) ;;
*)
	echo "$include is of TensorRT $major.$minor: sightd is for 8.5 to 11.x." >&2
	exit 1
	;;
esac

library=$out/libsightd-trt$major.so
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "Compiling $library with the headers of TensorRT $major.$minor" >&2
for file in "$source"/*.cc; do
	"$cxx" -std=c++17 -O2 -fPIC -fvisibility=hidden -Wall -Wextra ${CXXFLAGS:-} \
		-I "$source/../abi" -isystem "$include" -isystem "$cuda_include" \
		-c -o "$work/$(basename "$file" .cc).o" "$file"
done
# Undefined symbols other than the C++ library's would be found at run time alone.
"$cxx" -shared -o "$work/library" "$work"/*.o -Wl,-soname,"libsightd-trt$major.so" \
	-Wl,--version-script="$source/exports.map" -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,--as-needed \
	-s -pthread -ldl ${LDFLAGS:-}
mv "$work/library" "$library"
