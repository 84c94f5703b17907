// The network of a build: parsed from ONNX, and what is set on its tensors and layers.
#pragma once

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <memory>

#include "common.h"

namespace sightd {

// The network's input, checked.
struct Input {
  nvinfer1::ITensor *tensor;
  bool open_batch;        // the batch dimension is left to a profile
  int64_t batch;          // 1 where it is open
  int64_t height, width;  // of the images
};

// Parses the job's ONNX into the network; throws all the parser's errors. The parser owns
// weights of the network, and has to outlive the build.
std::unique_ptr<nvonnxparser::IParser> parse(nvinfer1::INetworkDefinition &, const sightd_trt_job &);

// Whether the graph has Q/DQ nodes.
bool has_quantisation(nvinfer1::INetworkDefinition &);

// The one input, in one of the forms that this library runs.
Input find_input(nvinfer1::INetworkDefinition &, const sightd_trt_job &);

// The second form: an INT8 input and an FP16 output in formats that need no reformat.
void direct_input(nvinfer1::INetworkDefinition &, const Input &, const sightd_trt_job &);

// Sets precisions of layers: those that stay in floating point, and for force_int8 all
// others. Returns whether it set any, for then the builder is to prefer them.
bool set_precisions(nvinfer1::INetworkDefinition &, const sightd_trt_job &);

}  // namespace sightd
