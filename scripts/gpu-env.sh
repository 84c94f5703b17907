# Read by gpu-test.sh and gpu-bench.sh: finds TensorRT and the driver, without which
# it ends them.
# shellcheck shell=sh

export ORT_DISABLE_TELEMETRY=1 TESTENV_ROOT="$kit"
given_path=${LD_LIBRARY_PATH:-}
tried=0

# The driver's library may lie where the loader doesn't look by itself.
driver=
if ! python3 -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null &&
	! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1 '; then
	for dir in /usr/local/nvidia/lib64 /usr/lib/x86_64-linux-gnu/nvidia/current /usr/lib/aarch64-linux-gnu/tegra; do
		if [ -e "$dir/libcuda.so.1" ]; then driver=$dir; fi
	done
	if [ -z "$driver" ]; then
		echo "No libcuda.so.1: without NVIDIA's driver nothing here can run. Install it, or give the container" >&2
		echo "the GPU (docker run --gpus all); LD_LIBRARY_PATH may name the folder where it lies." >&2
		exit 1
	fi
fi

# each_tensorrt COMMAND: runs it for each TensorRT, with the loader's path set, and
# $tensorrt (its version, as its libraries' names tell it) and $shim (sightd's library,
# which sightd finds by itself, since it lies in ../lib/sightd of every program here).
each_tensorrt() {
	if [ -z "${TENSORRT_LIBS:-}" ]; then
		found=$(ldconfig -p 2>/dev/null | sed -n 's,.* => \(/.*\)/libnvinfer\.so\..*,\1,p' | head -1)
		if [ -z "$found" ]; then
			echo "No TensorRT: TENSORRT_LIBS names no folder, and the loader knows none." >&2
			return
		fi
		TENSORRT_LIBS=$found
	fi
	saved=$IFS
	IFS=:
	# shellcheck disable=SC2086
	set -- "$1" $TENSORRT_LIBS
	IFS=$saved
	command=$1
	shift
	for dir; do
		library=$(find "$dir/" -maxdepth 1 -name 'libnvinfer.so.*' 2>/dev/null | sort | head -1)
		if [ -z "$library" ]; then
			echo "$dir: no libnvinfer.so.N there" >&2
			continue
		fi
		major=${library##*.so.}
		major=${major%%.*}
		builder=$(find "$dir/" -maxdepth 1 -name 'libnvinfer_builder_resource*.so.*.*' | sort | head -1)
		tensorrt=${builder##*.so.}
		tensorrt=${tensorrt:-$major}
		shim=$kit/lib/sightd/libsightd-trt$major.so
		if [ ! -e "$shim" ]; then
			echo "$dir: TensorRT $tensorrt, but the kit has no $(basename "$shim")" >&2
			continue
		fi
		tried=$((tried + 1))
		export LD_LIBRARY_PATH="$dir${driver:+:$driver}${given_path:+:$given_path}"
		"$command"
	done
}
