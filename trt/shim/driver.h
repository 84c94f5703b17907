// CUDA's driver, opened at run time: libcuda.so.1 belongs to the driver, so that one
// build of this library serves all versions of CUDA.
#pragma once

#include <cuda.h>

#include <string>

#include "common.h"

namespace sightd {

// Functions with the names under which the driver has exported them since CUDA 11.4.
#define SIGHTD_CUDA_FUNCTIONS(F)                                                                                   \
  F(cuInit) F(cuDriverGetVersion) F(cuGetErrorName) F(cuGetErrorString)                                            \
  F(cuDeviceGetCount) F(cuDeviceGet) F(cuDeviceGetName) F(cuDeviceGetAttribute) F(cuDeviceTotalMem_v2)             \
  F(cuDevicePrimaryCtxRetain) F(cuCtxSetCurrent) F(cuCtxGetCurrent)                                                \
  F(cuMemAlloc_v2) F(cuMemFree_v2) F(cuMemGetInfo_v2) F(cuMemsetD8_v2) F(cuMemHostAlloc) F(cuMemFreeHost)          \
  F(cuMemHostRegister_v2) F(cuMemHostUnregister)                                                                   \
  F(cuMemcpyHtoD_v2) F(cuMemcpyHtoDAsync_v2) F(cuMemcpyDtoHAsync_v2)                                               \
  F(cuStreamCreate) F(cuStreamDestroy_v2) F(cuStreamSynchronize) F(cuStreamBeginCapture_v2) F(cuStreamEndCapture)  \
  F(cuEventCreate) F(cuEventDestroy_v2) F(cuEventRecord) F(cuEventQuery) F(cuEventSynchronize)                     \
  F(cuGraphInstantiateWithFlags) F(cuGraphLaunch) F(cuGraphDestroy) F(cuGraphExecDestroy)

struct Driver {
#define SIGHTD_CUDA_FUNCTION(name) decltype(&::name) name;
  SIGHTD_CUDA_FUNCTIONS(SIGHTD_CUDA_FUNCTION)
#undef SIGHTD_CUDA_FUNCTION
  // Its second version has the same arguments; headers differ in which they declare.
  CUresult (*get_uuid)(CUuuid *, CUdevice);

  CUdevice device = 0;         // the first
  CUcontext context = nullptr;  // its primary context, which TensorRT uses too
};

// Opens the driver, and retains the first device's context for the process. Throws
// where there is no driver or no device. Again it does nothing.
void open_driver();

// The opened driver, with its context current in this thread. Throws where it isn't
// open, and after an error that CUDA doesn't recover from.
const Driver &cuda();

// The newest CUDA that the driver takes, major × 1000 + minor × 10; 0: not known.
int32_t driver_version();

// "CUDA 12.2", of what driver_version gives.
std::string cuda_name(int32_t version);

// Throws where result isn't success: what was done, CUDA's name of the error, its text.
// Errors that CUDA doesn't recover from are kept for all calls after.
void check(CUresult result, const char *what);

// Waits for what is queued on the stream and throws where CUDA has failed for good.
// TensorRT tells of its own failures only that there were some, and CUDA reports such
// an error to whoever asks next.
void check_works(CUstream stream, const char *what);

// "CUDA_ERROR_…: its text".
std::string describe(CUresult result);

}  // namespace sightd
