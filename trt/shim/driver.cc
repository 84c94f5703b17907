#include "driver.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>

namespace sightd {

namespace {

std::mutex mutex;
Driver driver;
std::atomic<bool> opened{false};
std::atomic<int32_t> version{0};

std::mutex broken_mutex;
std::string broken;  // the first error that CUDA doesn't recover from
std::atomic<bool> is_broken{false};

void load(void *library) {
#define SIGHTD_CUDA_LOAD(name)                                                                             \
  driver.name = reinterpret_cast<decltype(driver.name)>(dlsym(library, #name));                            \
  if (driver.name == nullptr)                                                                              \
    fail(SIGHTD_TRT_NO_DEVICE, "NVIDIA's driver is too old: libcuda.so.1 has no " #name                    \
                               ", which came with CUDA 11.4: install a newer driver");
  SIGHTD_CUDA_FUNCTIONS(SIGHTD_CUDA_LOAD)
#undef SIGHTD_CUDA_LOAD
  driver.get_uuid = reinterpret_cast<decltype(driver.get_uuid)>(dlsym(library, "cuDeviceGetUuid"));
}

// Errors after which every call in the process fails, until it ends.
bool lasting(CUresult result) {
  switch (result) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_UNKNOWN:  // such as a GPU that went away: little works after it
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string cuda_name(int32_t v) { return format("CUDA %d.%d", v / 1000, v % 1000 / 10); }

int32_t driver_version() { return version; }

std::string describe(CUresult result) {
  const char *name = nullptr, *text = nullptr;
  if (driver.cuGetErrorName != nullptr) driver.cuGetErrorName(result, &name);
  if (driver.cuGetErrorString != nullptr) driver.cuGetErrorString(result, &text);
  if (name == nullptr) return format("CUDA's error %d", static_cast<int>(result));
  return text == nullptr ? std::string(name) : format("%s: %s", name, text);
}

void check(CUresult result, const char *what) {
  if (result == CUDA_SUCCESS) return;
  std::string message = format("%s: %s", what, describe(result).c_str());
  if (lasting(result)) {
    const std::lock_guard<std::mutex> lock(broken_mutex);
    if (broken.empty()) broken = message;
    is_broken = true;
    throw Failure{SIGHTD_TRT_BROKEN, std::move(message)};
  }
  throw Failure{result == CUDA_ERROR_OUT_OF_MEMORY ? SIGHTD_TRT_MEMORY : SIGHTD_TRT_FAILED, std::move(message)};
}

void check_works(CUstream stream, const char *what) {
  const CUresult result = driver.cuStreamSynchronize(stream);
  if (lasting(result)) check(result, what);
}

void open_driver() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (opened) return;
  // Never closed: TensorRT and CUDA have threads that outlive any use here.
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char *why = dlerror();
    fail(SIGHTD_TRT_NO_DEVICE, "NVIDIA's driver isn't there: install it (%s)",
         why != nullptr ? why : "libcuda.so.1 can't be opened");
  }
  load(library);
  int number = 0;
  if (driver.cuDriverGetVersion(&number) == CUDA_SUCCESS) version = number;
  const CUresult started = driver.cuInit(0);
  if (started == CUDA_ERROR_NO_DEVICE)
    fail(SIGHTD_TRT_NO_DEVICE, "NVIDIA's driver is there, but finds no GPU: nvidia-smi or dmesg say why (%s)",
         describe(started).c_str());
  if (started != CUDA_SUCCESS)
    fail(SIGHTD_TRT_NO_DEVICE,
         "NVIDIA's driver doesn't start (%s): look that its kernel module is loaded, is of the same version, and that "
         "this user may open /dev/nvidia* (on a Jetson: groups video and render)",
         describe(started).c_str());
  int count = 0;
  const CUresult counted = driver.cuDeviceGetCount(&count);
  if (counted != CUDA_SUCCESS || count == 0)
    fail(SIGHTD_TRT_NO_DEVICE, "NVIDIA's driver finds no GPU%s%s", counted != CUDA_SUCCESS ? ": " : "",
         counted != CUDA_SUCCESS ? describe(counted).c_str() : " (is CUDA_VISIBLE_DEVICES set?)");
  CUresult result = driver.cuDeviceGet(&driver.device, 0);
  if (result == CUDA_SUCCESS) result = driver.cuDevicePrimaryCtxRetain(&driver.context, driver.device);
  if (result != CUDA_SUCCESS)
    fail(result == CUDA_ERROR_OUT_OF_MEMORY ? SIGHTD_TRT_MEMORY : SIGHTD_TRT_NO_DEVICE, "the GPU can't be used: %s",
         describe(result).c_str());
  opened = true;
}

const Driver &cuda() {
  if (!opened) fail(SIGHTD_TRT_ARGUMENT, "the library isn't open: sightd_trt_open");
  if (is_broken) {
    const std::lock_guard<std::mutex> lock(broken_mutex);
    fail(SIGHTD_TRT_BROKEN, "CUDA doesn't work any more in this process, which has to be started again: %s",
         broken.c_str());
  }
  const CUresult result = driver.cuCtxSetCurrent(driver.context);
  if (result != CUDA_SUCCESS) check(result, "the GPU can't be chosen");
  return driver;
}

}  // namespace sightd
