// A loaded engine, its lanes, and its bindings.
#pragma once

#include <NvInfer.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "layout.h"
#include "memory.h"
#include "patience.h"

namespace sightd {

// A lane runs one binding at a time, beside the other lanes.
struct Lane {
  Stream stream;
  Event done;
  Device input, output;  // for the largest batch
  Pinned result;         // the output, copied
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  int32_t images = 0;     // that the context is set to, where the batch is open; 0: none yet
  uint64_t settings = 1;  // counts changes of that

  // What a run does after its copy in, as CUDA's graph: one for all bindings, since
  // only that copy is of their memory.
  bool graphs = false;    // wanted, and not known to fail
  GraphExec graph;
  uint64_t captured = 0;  // settings when the graph was captured: it must not be launched with others
  uint64_t ran = 0;       // settings of the last run without a graph: the warm-up

  std::chrono::steady_clock::time_point started;
  Patience patience;
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
  bool softmax = false;
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
  sightd_trt_engine *engine = nullptr;
  const uint8_t *pixels = nullptr;
  int32_t images = 0;
  sightd::Registered registered;
  sightd::Pinned staging;  // of the input, where the pixels can't be read or aren't the input
  std::vector<const sightd_trt_binding *> from;  // by image; null: the binding's own
  std::vector<float> scores;
  bool launched = false;  // the last run was launched as a graph
  sightd::Lane *running = nullptr;
};

namespace sightd {

std::unique_ptr<sightd_trt_engine> load(const sightd_trt_load &);
void describe_engine(const sightd_trt_engine &, sightd_trt_engine_info &);
void inspect(sightd_trt_engine &, sightd_trt_buffer &);
void unload(sightd_trt_engine *);

std::unique_ptr<sightd_trt_binding> bind(sightd_trt_engine &, const uint8_t *pixels, size_t size, int32_t images);
void unbind(sightd_trt_binding *);
void gather(sightd_trt_binding &, int32_t image, const sightd_trt_binding *from);
void start(sightd_trt_binding &, int32_t lane);
void wait(sightd_trt_binding &);

}  // namespace sightd
