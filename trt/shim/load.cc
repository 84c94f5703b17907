#include <cstring>

#include "engine.h"
#include "library.h"
#include "log.h"

namespace sightd {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::ICudaEngine;

namespace {

constexpr int32_t max_lanes = 8;
constexpr int64_t max_images = 4096;
constexpr int64_t max_side = 16384;
constexpr int64_t max_classes = 1 << 20;

void check_load(const sightd_trt_load &l) {
  if (l.plan == nullptr || l.plan_size == 0) fail(SIGHTD_TRT_ARGUMENT, "there is no plan to load");
  if (l.lanes < 1 || l.lanes > max_lanes) fail(SIGHTD_TRT_ARGUMENT, "%d lanes are asked for: 1 to %d", l.lanes, max_lanes);
  if (l.table == nullptr) return;
  if (l.channel_count < 1 || l.channel_count > 3)
    fail(SIGHTD_TRT_ARGUMENT, "a table of %d channels can't be used", l.channel_count);
  for (int32_t i = 0; i < l.channel_count; i++)
    if (l.channels[i] < 0 || l.channels[i] > 2)
      fail(SIGHTD_TRT_ARGUMENT, "channel %d is of byte %d of a pixel, which has 3", i, l.channels[i]);
}

// Another plan than sightd builds: TensorRT takes it and sightd can't run it.
template <class... A> [[noreturn]] void other_plan(const char *form, A... arguments) {
  fail(SIGHTD_TRT_PLAN, "the plan isn't one of sightd's: %s", format(form, arguments...).c_str());
}

int64_t dla_row(const Driver &c) {
  int major = 0, minor = 0;
  c.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, c.device);
  c.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, c.device);
  return major == 7 && minor == 2 ? 32 : 64;  // 7.2 is Xavier
}

void find_tensors(sightd_trt_engine &e, const ICudaEngine &engine) {
  const int32_t count = engine.getNbIOTensors();
  for (int32_t i = 0; i < count; i++) {
    const char *name = engine.getIOTensorName(i);
    const bool in = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    std::string &place = in ? e.input_name : e.output_name;
    if (!place.empty()) other_plan("it has more than one %s", in ? "input" : "output");
    place = name;
  }
  if (e.input_name.empty() || e.output_name.empty()) other_plan("it lacks an input or an output");
}

void read_input(sightd_trt_engine &e, const ICudaEngine &engine, const sightd_trt_load &l, int64_t row) {
  const char *name = e.input_name.c_str();
  const Dims d = engine.getTensorShape(name);
  e.input_type = engine.getTensorDataType(name);
  if (d.nbDims != 4) other_plan("its input has %d dimensions, not 4", d.nbDims);
  e.open_batch = d.d[0] < 0;
  int64_t images = d.d[0];
  if (e.open_batch) {
    const Dims most = engine.getProfileShape(name, 0, nvinfer1::OptProfileSelector::kMAX);
    if (most.nbDims != 4) other_plan("%s", "it has no profile");
    images = most.d[0];
  }
  const bool bytes = e.input_type == DataType::kUINT8;
  if (!bytes && e.input_type != DataType::kINT8)
    other_plan("its input is neither of bytes nor INT8 (TensorRT's type %d)", static_cast<int>(e.input_type));
  const int64_t height = bytes ? d.d[1] : d.d[2], width = bytes ? d.d[2] : d.d[3], depth = bytes ? d.d[3] : d.d[1];
  if (images < 1 || images > max_images || height < 1 || height > max_side || width < 1 || width > max_side)
    other_plan("its input is %d × %d × %d", static_cast<int>(images), static_cast<int>(height), static_cast<int>(width));
  e.batch = static_cast<int32_t>(images);
  const nvinfer1::TensorFormat form = engine.getTensorFormat(name);
  if (bytes) {
    if (depth != 3 || form != nvinfer1::TensorFormat::kLINEAR) other_plan("%s", "its input isn't packed 8-bit RGB");
    if (l.table != nullptr) fail(SIGHTD_TRT_ARGUMENT, "a table is given, and the plan takes the bytes as they are");
    e.input.channels = 3;
    e.input.height = height;
    e.input.width = width;
    e.input.image_stride = height * width * 3;
    return;
  }
  if (l.table == nullptr) fail(SIGHTD_TRT_ARGUMENT, "the plan's input is INT8, and no table is given to make it of bytes");
  if (depth != l.channel_count)
    fail(SIGHTD_TRT_ARGUMENT, "the plan's input has %d channels, and the table %d", static_cast<int>(depth), l.channel_count);
  e.input = layout_of(form, depth, height, width, 1, row);
  e.table.assign(l.table, l.table + depth * 256);
  memcpy(e.channels, l.channels, sizeof e.channels);
}

void read_output(sightd_trt_engine &e, const ICudaEngine &engine, int64_t row) {
  const char *name = e.output_name.c_str();
  const Dims d = engine.getTensorShape(name);
  e.output_type = engine.getTensorDataType(name);
  if (e.output_type != DataType::kFLOAT && e.output_type != DataType::kHALF)
    other_plan("its output is neither float nor half (TensorRT's type %d)", static_cast<int>(e.output_type));
  e.output_element = e.output_type == DataType::kHALF ? 2 : 4;
  if (d.nbDims < 2 || d.nbDims > 4) other_plan("its output has %d dimensions", d.nbDims);
  for (int32_t i = 2; i < d.nbDims; i++)
    if (d.d[i] != 1) other_plan("%s", "its output isn't images × classes");
  if (d.d[1] < 1 || d.d[1] > max_classes || (e.open_batch ? d.d[0] >= 0 : d.d[0] != e.batch))
    other_plan("its output is %d × %d for %d images", static_cast<int>(d.d[0]), static_cast<int>(d.d[1]), e.batch);
  e.classes = static_cast<int32_t>(d.d[1]);
  e.output = layout_of(engine.getTensorFormat(name), d.d[1], 1, 1, e.output_element, row);
}

// Contexts need activations, one set each. Of the weights TensorRT tells nothing: they are
// most of the plan, which stands for them.
uint64_t memory_needed(const ICudaEngine &engine, int32_t lanes, size_t plan) {
#if NV_TENSORRT_MAJOR >= 10
  const auto context = static_cast<uint64_t>(engine.getDeviceMemorySizeV2());
#else
  const auto context = static_cast<uint64_t>(engine.getDeviceMemorySize());
#endif
  return context * static_cast<uint64_t>(lanes) + plan;
}

bool out_of_memory(const std::string &said) {
  return said.find("ut of memory") != std::string::npos || said.find("OutOfMemory") != std::string::npos;
}

void add_context(sightd_trt_engine &e, Lane &lane) {
  const Call call;
  lane.context.reset(e.engine->createExecutionContext());
  if (lane.context == nullptr) {
    check_works(nullptr, "loading the engine");
    call.fail(out_of_memory(call.errors()) ? SIGHTD_TRT_MEMORY : SIGHTD_TRT_FAILED, "TensorRT makes no execution context");
  }
  // A plan of 8.5 has several profiles, of which no two contexts use the same; all are alike.
  const auto number = static_cast<int32_t>(e.lanes.size()) - 1, profiles = e.engine->getNbOptimizationProfiles();
  if (e.open_batch && profiles > 1 && number > 0) {
    if (number >= profiles)
      fail(SIGHTD_TRT_UNSUPPORTED, "an engine of TensorRT 8.5 with an open batch has %d lanes: set fewer, or fix the batch",
           profiles);
    if (!lane.context->setOptimizationProfileAsync(number, reinterpret_cast<cudaStream_t>(lane.stream.get())))
      call.fail(SIGHTD_TRT_FAILED, "TensorRT doesn't take the profile");
  }
  // How a tensor without height and width is laid out in DLA's own format isn't written
  // down, but TensorRT tells its strides.
  const char *name = e.output_name.c_str();
  if (e.engine->getTensorFormat(name) != nvinfer1::TensorFormat::kDLA_LINEAR) return;
  const Dims strides = lane.context->getTensorStrides(name);
  if (strides.nbDims < 2 || strides.d[1] < 1 || strides.d[0] < strides.d[1] * (e.classes - 1) + 1) return;
  e.output.plane = strides.d[1];
  e.output.image_stride = strides.d[0];
}

void add_lane(sightd_trt_engine &e, bool graphs) {
  e.lanes.emplace_back();
  Lane &lane = e.lanes.back();
  lane.stream = new_stream();
  lane.done = new_event();
  lane.graphs = graphs;
  add_context(e, lane);
  const auto images = static_cast<size_t>(e.batch);
  lane.input = device_memory(images * static_cast<size_t>(e.input.image_stride * e.input_element));
  const size_t output = images * static_cast<size_t>(e.output.image_stride * e.output_element);
  lane.output = device_memory(output);
  lane.result = pinned_memory(output);
  const Call call;
  if (!lane.context->setTensorAddress(e.input_name.c_str(), reinterpret_cast<void *>(lane.input.get())) ||
      !lane.context->setTensorAddress(e.output_name.c_str(), reinterpret_cast<void *>(lane.output.get())))
    call.fail(SIGHTD_TRT_FAILED, "TensorRT doesn't take the memory of its input and output");
}

std::mutex deserialising;

}  // namespace

std::unique_ptr<sightd_trt_engine> load(const sightd_trt_load &l) {
  check_load(l);
  const Driver &c = cuda();
  auto e = std::make_unique<sightd_trt_engine>();
  nvinfer1::IRuntime &from = runtime(l.dla_core);
  {
    const std::lock_guard<std::mutex> lock(deserialising);
    const Call call;
    e->engine.reset(from.deserializeCudaEngine(l.plan, l.plan_size));
    if (e->engine == nullptr) {
      check_works(nullptr, "loading the engine");
      call.fail(out_of_memory(call.errors()) ? SIGHTD_TRT_MEMORY : SIGHTD_TRT_PLAN, "TensorRT doesn't take the plan");
    }
  }
  const int64_t row = dla_row(c);
  find_tensors(*e, *e->engine);
  read_input(*e, *e->engine, l, row);
  read_output(*e, *e->engine, row);
  e->softmax = l.softmax != 0;
  e->device_memory = memory_needed(*e->engine, l.lanes, l.plan_size);
  e->lanes.reserve(static_cast<size_t>(l.lanes));
  for (int32_t i = 0; i < l.lanes; i++) add_lane(*e, l.graphs != 0 && l.dla_core < 0);  // DLA's work can't be captured
  // What was cleared on the default stream is there before another stream writes it.
  check(c.cuStreamSynchronize(nullptr), "preparing the engine's memory");
  return e;
}

void describe_engine(const sightd_trt_engine &e, sightd_trt_engine_info &info) {
  info.batch = e.batch;
  info.height = static_cast<int32_t>(e.input.height);
  info.width = static_cast<int32_t>(e.input.width);
  info.classes = e.classes;
  info.input_type = e.input_type == DataType::kUINT8 ? SIGHTD_TRT_UINT8 : SIGHTD_TRT_INT8;
  info.output_type = e.output_type == DataType::kHALF ? SIGHTD_TRT_HALF : SIGHTD_TRT_FLOAT;
  info.lanes = static_cast<int32_t>(e.lanes.size());
  info.device_memory = e.device_memory;
}

void inspect(sightd_trt_engine &e, sightd_trt_buffer &json) {
  cuda();
  const Call call;
  const std::unique_ptr<nvinfer1::IEngineInspector> inspector(e.engine->createEngineInspector());
  if (inspector == nullptr) call.fail(SIGHTD_TRT_FAILED, "TensorRT makes no engine inspector");
  const char *text = inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON);
  if (text == nullptr) call.fail(SIGHTD_TRT_FAILED, "TensorRT's engine inspector says nothing");
  fill(&json, text, strlen(text));
}

void unload(sightd_trt_engine *e) {
  while (!e->bindings.empty()) unbind(*e->bindings.begin());
  delete e;
}

}  // namespace sightd
