// TensorRT's libraries, opened at run time. Of each only the few functions with C names
// are taken; all else is virtual.
#pragma once

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <memory>

namespace sightd {

// The version whose headers this library was compiled with, as the ABI writes it.
constexpr int32_t compiled_version = NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;

// Opens libnvinfer at a path or a loader's name; "" is libnvinfer.so.MAJOR. Throws
// where it isn't there or is of another major version. Again it does nothing.
void open_nvinfer(const char *name);

// The version that was opened, as the ABI writes it; 0: none.
int32_t found_version();
// The ONNX parser's, in a numbering of its own; 0: not opened.
int32_t parser_version();

// The runtime of a DLA core, -1 the GPU's, which lives as long as the process: it is
// where engines come from, and they must not outlive it. Needs the driver.
nvinfer1::IRuntime &runtime(int32_t dla_core);

// Makers of the objects of a build. Need the driver.
std::unique_ptr<nvinfer1::IBuilder> make_builder();
std::unique_ptr<nvonnxparser::IParser> make_parser(nvinfer1::INetworkDefinition &);

// Whether the loader finds a library of one of these names: the list ends with null.
bool loader_finds(const char *const *names);

}  // namespace sightd
