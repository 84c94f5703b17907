#!/bin/sh
# onnxruntime.sh PYTHON DIR: puts ONNX Runtime's library and its notices into
# DIR. The wheel's version and hashes are in onnxruntime.txt; its Python tag is
# named, so that the host's Python doesn't matter.
set -eu
python=$1
dir=$2

machine=$(uname -m)
case $machine in
x86_64 | aarch64) ;;
*)
	echo "No ONNX Runtime for $machine: there are wheels for x86_64 and aarch64." >&2
	exit 1
	;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "Fetching ONNX Runtime" >&2
"$python" -m pip --disable-pip-version-check download --quiet --dest "$work" \
	--no-deps --only-binary=:all: --require-hashes \
	--implementation cp --python-version 3.13 --platform "manylinux_2_28_$machine" \
	-r "$(dirname "$0")/onnxruntime.txt"
"$python" -m zipfile -e "$work"/onnxruntime-*.whl "$work"

mkdir -p "$dir"
cp "$work/onnxruntime/LICENSE" "$dir/onnxruntime-LICENSE"
cp "$work/onnxruntime/ThirdPartyNotices.txt" "$dir/onnxruntime-ThirdPartyNotices.txt"
# Renamed in last: the library being there says that all is.
cp "$work"/onnxruntime/capi/libonnxruntime.so.* "$dir/libonnxruntime.so.new"
chmod 755 "$dir/libonnxruntime.so.new"
mv "$dir/libonnxruntime.so.new" "$dir/libonnxruntime.so"
