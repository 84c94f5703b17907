#!/bin/sh
# gpu-kit.sh DIR TAGS LDFLAGS: puts into DIR, laid out as the repository is, all that
# the tests and measurements on a GPU machine need (gpu/README.md): the programs with
# OpenCV's libraries, the test programs, and what these read.
set -eu
kit=$1
tags=$2
ldflags=$3

mkdir -p "$kit/bin" "$kit/lib/sightd" "$kit/lib/opencv" "$kit/test"

echo "Building the programs" >&2
go build -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$kit/bin/sightd" .
# RPATH, not RUNPATH: the libraries' own libraries are looked for there as well.
# shellcheck disable=SC2016
go build -trimpath -buildvcs=false -tags "$tags" \
	-ldflags '-s -w -extldflags "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib/opencv"' \
	-o "$kit/bin/sightd-camera" ./camera/cmd/sightd-camera
rm -rf "$kit/lib/opencv"
python3 -B gpu/libraries.py bin/sightd-camera "$kit/lib/opencv"

cp lib/sightd/libonnxruntime.so "$kit/lib/sightd/"
strip --strip-unneeded "$kit/lib/sightd/libonnxruntime.so"
shims=0
rm -f "$kit"/lib/sightd/libsightd-trt*
for library in lib/sightd/libsightd-trt*.so; do
	[ -e "$library" ] || continue
	cp "$library" "$kit/lib/sightd/"
	shims=$((shims + 1))
done
[ "$shims" -gt 0 ] || echo "warning: no lib/sightd/libsightd-trt*.so: make tensorrt TENSORRT_ROOT=… CUDA_ROOT=…" >&2

# The bare loop, where there are headers for it: folders with TensorRT's include/ and
# lib/, and CUDA's in cuda/.
saved=$IFS
IFS=:
for root in ${TENSORRT_ROOTS:-}; do
	IFS=$saved
	major=$(sed -n 's/^#define NV_TENSORRT_MAJOR \([0-9]*\).*/\1/p' "$root/include/NvInferVersion.h")
	g++ -std=c++17 -O2 -s -Wall -Wextra -isystem "$root/include" -isystem "$root/cuda/include" gpu/enqueue.cc \
		-o "$kit/bin/enqueue-trt$major" -L"$root/lib" -L"$root/cuda/lib" -Wl,--allow-shlib-undefined \
		-l":libnvinfer.so.$major" -lcudart
done
IFS=$saved

echo "Building the tests" >&2
rm -f "$kit"/test/*
sed '/^#/d' gpu/tests.txt | while read -r package _; do
	name=$(basename "$(realpath --relative-to=. "$package")")
	[ "$name" != . ] || name=sightd
	# Without -trimpath: internal/testenv finds the root by TESTENV_ROOT.
	go test -c -ldflags '-s -w' -o "$kit/test/$name.test" "$package"
done

# What the tests and measurements read: the files that git knows, but no Go.
rm -rf "$kit/bench" "$kit/gpu" "$kit/scripts" "$kit/trt"
git ls-files --cached --others --exclude-standard \
	-- demo/lite0 demo/photos demo/video.mp4 daemon/testdata testdata trt gpu \
	bench/programs.py bench/report.py bench/swap.py \
	scripts/gpu-test.sh scripts/gpu-bench.sh scripts/gpu-env.sh | grep -v '\.go$' | while read -r file; do
	[ -e "$file" ] || continue
	mkdir -p "$kit/$(dirname "$file")"
	cp "$file" "$kit/$file"
done

echo "Trying the kit as it is, with no other environment" >&2
env -i "$kit/bin/sightd" version >/dev/null
env -i "$kit/bin/sightd-camera" --version >/dev/null
env -i "$kit/bin/sightd" classify "$kit/demo/lite0" "$kit/demo/photos/rocket.jpg" "$kit/demo/video.mp4" --backend ort >/dev/null

du -sm "$kit" | while read -r size _; do echo "$kit: $size MiB, $shims of TensorRT's libraries" >&2; done
if command -v zstd >/dev/null; then
	tar -C "$kit" -cf - . | zstd -q -T0 -19 --long=27 -f -o "$kit.tar.zst"
	ls -l "$kit.tar.zst" >&2
fi
