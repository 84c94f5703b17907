#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "engine.h"
#include "log.h"

namespace sightd {

namespace {

size_t input_bytes(const sightd_trt_engine &e, int32_t images) {
  return static_cast<size_t>(images) * static_cast<size_t>(e.input.image_stride * e.input_element);
}

size_t output_bytes(const sightd_trt_engine &e, int32_t images) {
  return static_cast<size_t>(images) * static_cast<size_t>(e.output.image_stride * e.output_element);
}

float from_half(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 0) {
    const float small = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -small : small;
  }
  const uint32_t bits = sign | (exponent == 31 ? 255U : exponent + 112) << 23 | fraction << 13;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void softmax(float *scores, int32_t count) {
  float most = scores[0];
  for (int32_t i = 1; i < count; i++) most = std::fmax(most, scores[i]);
  float sum = 0;
  for (int32_t i = 0; i < count; i++) sum += scores[i] = std::exp(scores[i] - most);
  for (int32_t i = 0; i < count; i++) scores[i] /= sum;
}

// Makes INT8 of an image, in the engine's own layout.
void convert(const sightd_trt_engine &e, const uint8_t *pixels, int8_t *image) {
  const Layout &l = e.input;
  for (int64_t channel = 0; channel < l.channels; channel++) {
    const int8_t *table = e.table.data() + channel * 256;
    const uint8_t *from = pixels + e.channels[channel];
    for (int64_t y = 0; y < l.height; y++) {
      int8_t *to = image + l.at(channel, y, 0);
      for (int64_t x = 0; x < l.width; x++, from += 3, to += l.pixel) *to = table[*from];
    }
  }
}

// A core that waits for another leaves its sibling in peace.
void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// An image of a binding as it lies in memory that the GPU reads, where it is brought if
// need be.
const void *prepare(const sightd_trt_binding &b, int32_t image) {
  const sightd_trt_engine &e = *b.engine;
  const uint8_t *pixels = b.pixels + image * e.pixels();
  if (!b.staging) return pixels;
  auto *staged = static_cast<char *>(b.staging.get()) + input_bytes(e, image);
  if (e.table.empty())
    memcpy(staged, pixels, static_cast<size_t>(e.pixels()));
  else
    convert(e, pixels, reinterpret_cast<int8_t *>(staged));
  return staged;
}

// Queues the copy of the input: of the binding's own images that follow each other at
// once, of others one by one, for a copy must not span two pieces of registered memory.
void copy_input(const Driver &c, const sightd_trt_binding &b, const Lane &lane) {
  const sightd_trt_engine &e = *b.engine;
  for (int32_t i = 0, next = 0; i < b.images; i = next) {
    const sightd_trt_binding *other = b.from[static_cast<size_t>(i)];
    const void *first = other != nullptr ? prepare(*other, 0) : prepare(b, i);
    for (next = i + 1; other == nullptr && next < b.images && b.from[static_cast<size_t>(next)] == nullptr; next++)
      prepare(b, next);
    check(c.cuMemcpyHtoDAsync_v2(lane.input.get() + input_bytes(e, i), first, input_bytes(e, next - i), lane.stream.get()),
          "copying to the GPU");
  }
}

// Queues what follows the copy of the input. A plan of one fixed batch always computes
// all of it, and its graph serves bindings of fewer images too.
bool enqueue(const Driver &c, const sightd_trt_engine &e, Lane &lane, CUresult *result) {
  const int32_t images = e.open_batch ? lane.images : e.batch;
  if (!lane.context->enqueueV3(reinterpret_cast<cudaStream_t>(lane.stream.get()))) return false;
  *result = c.cuMemcpyDtoHAsync_v2(lane.result.get(), lane.output.get(), output_bytes(e, images), lane.stream.get());
  return *result == CUDA_SUCCESS;
}

// Captures that; where anything of it fails, the lane does without graphs for good.
void capture(const Driver &c, const sightd_trt_engine &e, Lane &lane) {
  lane.graph = GraphExec();
  lane.graphs = false;
  const Muted muted;
  // Other threads may allocate meanwhile: that isn't this thread's capture's concern.
  if (c.cuStreamBeginCapture_v2(lane.stream.get(), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) != CUDA_SUCCESS) return;
  CUresult result = CUDA_SUCCESS;
  const bool queued = enqueue(c, e, lane, &result);
  CUgraph made = nullptr;
  result = c.cuStreamEndCapture(lane.stream.get(), &made);
  const Graph graph(made);
  if (!queued || result != CUDA_SUCCESS || !graph) return;
  CUgraphExec exec = nullptr;
  if (c.cuGraphInstantiateWithFlags(&exec, graph.get(), 0) != CUDA_SUCCESS) return;
  lane.graph = GraphExec(exec);
  lane.captured = lane.settings;
  lane.graphs = true;
}

void set_images(const sightd_trt_engine &e, Lane &lane, int32_t images) {
  if (!e.open_batch || lane.images == images) return;
  const char *name = e.input_name.c_str();
  nvinfer1::Dims d = e.engine->getTensorShape(name);
  d.d[0] = images;
  const Call call;
  lane.images = 0;
  lane.settings++;
  if (!lane.context->setInputShape(name, d)) call.fail(SIGHTD_TRT_FAILED, "TensorRT doesn't take this number of images");
  lane.images = images;
}

// Queues the run, as a graph or else plainly; the first plain one is the warm-up that
// TensorRT wants before a capture.
void launch(const Driver &c, sightd_trt_binding &b, Lane &lane) {
  const sightd_trt_engine &e = *b.engine;
  const auto current = [&] { return lane.graph && lane.captured == lane.settings; };
  if (lane.graphs && !current() && lane.ran == lane.settings) capture(c, e, lane);
  copy_input(c, b, lane);
  b.launched = lane.graphs && current();
  if (b.launched) {
    check(c.cuGraphLaunch(lane.graph.get(), lane.stream.get()), "launching a run as a graph");
  } else {
    const Call call;
    CUresult result = CUDA_SUCCESS;
    if (!enqueue(c, e, lane, &result)) {
      check(result, "copying from the GPU");
      call.fail(SIGHTD_TRT_FAILED, "TensorRT can't run the engine");
    }
    lane.ran = lane.settings;
  }
  check(c.cuEventRecord(lane.done.get(), lane.stream.get()), "marking the end of a run");
}

// Waits for the lane's run.
void await(const Driver &c, Lane &lane) {
  using Clock = std::chrono::steady_clock;
  const auto so_far = [&] { return Clock::now() - lane.started; };
  CUresult result = c.cuEventQuery(lane.done.get());
  if (result != CUDA_ERROR_NOT_READY) {
    lane.patience.ended_before(so_far());
  } else {
    const auto pause = lane.patience.sleep(so_far());
    if (pause.count() > 0) {
      std::this_thread::sleep_for(pause);
      result = c.cuEventQuery(lane.done.get());
    }
    const bool slept_past = result != CUDA_ERROR_NOT_READY;
    const auto asked = lane.patience.ask(so_far());
    while (result == CUDA_ERROR_NOT_READY && so_far() < asked) {
      relax();
      result = c.cuEventQuery(lane.done.get());
    }
    if (result == CUDA_ERROR_NOT_READY) result = c.cuEventSynchronize(lane.done.get());
    lane.patience.ended(so_far(), slept_past);
  }
  check(result, "running the engine");
}

void read_scores(sightd_trt_binding &b, const Lane &lane) {
  const sightd_trt_engine &e = *b.engine;
  float *scores = b.scores.data();
  if (e.output_type == nvinfer1::DataType::kFLOAT && e.output.plain()) {
    memcpy(scores, lane.result.get(), b.scores.size() * sizeof *scores);
  } else {
    const bool half = e.output_type == nvinfer1::DataType::kHALF;
    for (int32_t i = 0; i < b.images; i++)
      for (int32_t k = 0; k < e.classes; k++) {
        const int64_t at = i * e.output.image_stride + e.output.at(k, 0, 0);
        scores[static_cast<int64_t>(i) * e.classes + k] =
            half ? from_half(static_cast<const uint16_t *>(lane.result.get())[at])
                 : static_cast<const float *>(lane.result.get())[at];
      }
  }
  if (e.softmax)
    for (int32_t i = 0; i < b.images; i++) softmax(scores + static_cast<int64_t>(i) * e.classes, e.classes);
}

}  // namespace

std::unique_ptr<sightd_trt_binding> bind(sightd_trt_engine &e, const uint8_t *pixels, size_t size, int32_t images) {
  cuda();
  if (pixels == nullptr) fail(SIGHTD_TRT_ARGUMENT, "there are no pixels to bind");
  if (images < 1 || images > e.batch) fail(SIGHTD_TRT_ARGUMENT, "%d images are bound: 1 to %d", images, e.batch);
  const size_t wanted = static_cast<size_t>(images) * static_cast<size_t>(e.pixels());
  if (size != wanted) fail(SIGHTD_TRT_ARGUMENT, "%zu bytes of pixels are bound: %d images are %zu", size, images, wanted);
  auto b = std::make_unique<sightd_trt_binding>();
  b->engine = &e;
  b->pixels = pixels;
  b->images = images;
  if (e.table.empty()) b->registered = Registered(pixels, size);
  if (!b->registered) b->staging = pinned_memory(input_bytes(e, images));
  b->from.resize(static_cast<size_t>(images));
  b->scores.resize(static_cast<size_t>(images) * static_cast<size_t>(e.classes));
  const std::lock_guard<std::mutex> lock(e.mutex);
  e.bindings.insert(b.get());
  return b;
}

void unbind(sightd_trt_binding *b) {
  try {
    if (b->running != nullptr) wait(*b);
  } catch (const Failure &) {  // the run's result isn't wanted any more
  }
  {
    const std::lock_guard<std::mutex> lock(b->engine->mutex);
    b->engine->bindings.erase(b);
    for (sightd_trt_binding *other : b->engine->bindings) {
      if (std::find(other->from.begin(), other->from.end(), b) == other->from.end()) continue;
      // Its run may still read this one's memory; the result stays its own to wait for.
      if (other->running != nullptr) cuda().cuEventSynchronize(other->running->done.get());
      std::replace(other->from.begin(), other->from.end(), static_cast<const sightd_trt_binding *>(b),
                   static_cast<const sightd_trt_binding *>(nullptr));
    }
  }
  delete b;
}

void gather(sightd_trt_binding &b, int32_t image, const sightd_trt_binding *from) {
  if (image < 0 || image >= b.images) fail(SIGHTD_TRT_ARGUMENT, "image %d is asked for: 0 to %d", image, b.images - 1);
  if (b.running != nullptr || (from != nullptr && from->running != nullptr))
    fail(SIGHTD_TRT_ARGUMENT, "the binding is still running");
  if (from != nullptr && (from->engine != b.engine || from->images != 1))
    fail(SIGHTD_TRT_ARGUMENT, "an image is gathered from a binding of %s",
         from->engine != b.engine ? "another engine" : "several images");
  const std::lock_guard<std::mutex> lock(b.engine->mutex);
  b.from[static_cast<size_t>(image)] = from;
}

void start(sightd_trt_binding &b, int32_t number) {
  const Driver &c = cuda();
  sightd_trt_engine &e = *b.engine;
  if (number < 0 || number >= static_cast<int32_t>(e.lanes.size()))
    fail(SIGHTD_TRT_ARGUMENT, "lane %d is asked for: 0 to %zu", number, e.lanes.size() - 1);
  Lane &lane = e.lanes[static_cast<size_t>(number)];
  if (b.running != nullptr || lane.busy != nullptr)
    fail(SIGHTD_TRT_ARGUMENT, "%s is still running", b.running != nullptr ? "the binding" : "the lane");
  try {
    set_images(e, lane, b.images);
    lane.started = std::chrono::steady_clock::now();
    launch(c, b, lane);
  } catch (const Failure &) {
    // What was queued before it failed may still read the caller's memory.
    check_works(lane.stream.get(), "running the engine");
    throw;
  }
  b.running = &lane;
  lane.busy = &b;
}

void wait(sightd_trt_binding &b) {
  if (b.running == nullptr) fail(SIGHTD_TRT_ARGUMENT, "the binding isn't running");
  Lane &lane = *b.running;
  b.running = nullptr;
  lane.busy = nullptr;
  await(cuda(), lane);
  read_scores(b, lane);
}

}  // namespace sightd
