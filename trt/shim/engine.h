// A loaded engine, its lanes, and its bindings.
#pragma once

#include <NvInfer.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "layout.h"
#include "memory.h"

namespace sightd {

// A lane runs one binding at a time, beside the other lanes.
struct Lane {
  Stream stream;
  Event done;
  Device input, output;  // for the largest batch
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  int32_t images = 0;       // that the context is set to, where the batch is open; 0: none yet
  uint64_t settings = 0;    // counts changes of that: graphs of an earlier one must not be launched
  sightd_trt_binding *busy = nullptr;
};

}  // namespace sightd

struct sightd_trt_engine {
  std::string input_name, output_name;
  sightd::Layout input, output;
  int64_t input_element = 1, output_element = 4;  // bytes
  nvinfer1::DataType input_type{}, output_type{};
  int32_t batch = 0, classes = 0;
  bool open_batch = false;
  bool graphs = false, softmax = false;
  uint64_t device_memory = 0;
  std::vector<int8_t> table;  // channels × 256; empty: bytes go as they are
  int32_t channels[3] = {};

  // In this order, for they are freed from the last to the first: contexts before the
  // engine. The engine's runtime lives as long as the process.
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
  std::vector<sightd::Lane> lanes;
  std::mutex mutex;  // of bindings
  std::set<sightd_trt_binding *> bindings;

  int64_t pixels() const { return input.height * input.width * 3; }  // bytes of an image
};

struct sightd_trt_binding {
  // A run on a lane as CUDA's graph.
  struct Captured {
    sightd::GraphExec exec;
    uint64_t settings = 0;  // the lane's, when it was captured
    uint64_t ran = 0;       // settings + 1 of the last run without a graph: the warm-up
  };

  sightd_trt_engine *engine = nullptr;
  const uint8_t *pixels = nullptr;
  int32_t images = 0;
  sightd::Registered registered;
  sightd::Pinned staging;  // of the input, where the pixels can't be read or aren't the input
  sightd::Pinned output;   // as the engine gives it
  std::vector<float> converted;
  float *scores = nullptr;  // in output where that can be, else in converted
  std::vector<Captured> captured;  // by lane
  bool graphs = false;             // runs are to be captured
  bool launched = false;           // the last run was launched as a graph
  sightd::Lane *running = nullptr;
};

namespace sightd {

std::unique_ptr<sightd_trt_engine> load(const sightd_trt_load &);
void describe_engine(const sightd_trt_engine &, sightd_trt_engine_info &);
void inspect(sightd_trt_engine &, sightd_trt_buffer &);
void unload(sightd_trt_engine *);

std::unique_ptr<sightd_trt_binding> bind(sightd_trt_engine &, const uint8_t *pixels, size_t size, int32_t images);
void unbind(sightd_trt_binding *);
void start(sightd_trt_binding &, int32_t lane);
void wait(sightd_trt_binding &);

}  // namespace sightd
