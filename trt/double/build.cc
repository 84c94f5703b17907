//go:build ignore

// How the double builds: it checks, waits, and writes down what it was given.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "double.h"

namespace sightd_double {

namespace {

const char timing_magic[] = "sightd double's timing 1 ";

const char *calibrator_names[] = {"", "EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration", "LegacyCalibration"};

// As NV_TENSORRT_VERSION counts.
int header_version(const Script &s) {
  int major = s.version / 10000;
  return major < 10 ? major * 1000 + s.version / 100 % 100 * 100 + s.version % 100 : s.version;
}

void check_job(const Script &s, const sightd_trt_job &j) {
  require(j.onnx != nullptr && j.onnx_size > 0, "no model");
  for (int32_t f : {j.int8, j.fp16, j.strongly_typed, j.force_int8, j.gpu_fallback, j.direct_input})
    require(f == 0 || f == 1, "a flag that is neither 0 nor 1");
  require(!j.strongly_typed || (!j.int8 && !j.fp16 && j.cache == nullptr), "strongly typed with precisions or a cache");
  require(j.calibrator >= SIGHTD_TRT_NO_CALIBRATOR && j.calibrator <= SIGHTD_TRT_LEGACY, "no such calibrator");
  require((j.cache == nullptr) == (j.cache_size == 0), "a cache without size, or the other way round");
  require(j.cache == nullptr || j.int8, "a cache without INT8");
  require(j.keep_count >= 0 && (j.keep != nullptr || j.keep_count == 0), "no names of tensors to keep");
  for (int32_t i = 0; i < j.keep_count; i++) require(j.keep[i] != nullptr && *j.keep[i] != '\0', "an empty name to keep");
  require(j.images >= -1, "no such file of images");
  require(j.channel_count >= 0 && j.channel_count <= 3 && (j.table != nullptr) == (j.channel_count > 0), "wrong channels");
  for (int32_t c = 0; c < j.channel_count; c++) require(j.channels[c] >= 0 && j.channels[c] < 3, "wrong channels");
  require(j.batch >= 1, "batch of less than 1");
  require(j.optimisation >= -1 && j.optimisation <= 5, "no such optimisation level");
  require((j.timing_cache == nullptr) == (j.timing_cache_size == 0), "a timing cache without size, or the other way round");
  require(j.dla_core >= -1, "no such DLA core");
  require(!j.direct_input || (j.dla_core >= 0 && j.input_scale > 0), "direct input without DLA or scale");
  if (j.dla_core >= s.cores)
    fail(SIGHTD_TRT_UNSUPPORTED, "DLA core " + std::to_string(j.dla_core) + ": this machine has " + std::to_string(s.cores));
  if (s.version >= 110000 && (j.int8 || j.fp16 || j.cache != nullptr))
    fail(SIGHTD_TRT_UNSUPPORTED, "TensorRT 11 has no calibration and no precisions: the graph says them");
  if (s.version < 100000 && j.strongly_typed) fail(SIGHTD_TRT_UNSUPPORTED, "TensorRT 8 has no strongly typed networks");
}

// Reads the next image, or tells that there are none left.
bool read_image(int file, std::vector<uint8_t> &image) {
  size_t have = 0;
  while (have < image.size()) {
    ssize_t n = read(file, image.data() + have, image.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(SIGHTD_TRT_CACHE, std::string("the images can't be read: ") + strerror(errno));
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  if (have > 0 && have < image.size()) fail(SIGHTD_TRT_CACHE, "the images end within one");
  return have > 0;
}

// Returns the table that a calibration on the device wrote: see Scale in double.go.
std::string calibrate(const Script &s, const sightd_trt_job &j, bool quantised) {
  if (!j.int8 || (quantised && j.cache == nullptr)) return "";
  if (j.cache != nullptr) {
    require(j.calibrator != SIGHTD_TRT_NO_CALIBRATOR, "a cache without calibrator");
    std::string cache(static_cast<const char *>(j.cache), j.cache_size), want = "TRT-" + std::to_string(header_version(s)) + "-" + calibrator_names[j.calibrator];
    if (cache.substr(0, cache.find('\n')) == want && !s.calibration_asks) return "";
    logged().add(SIGHTD_TRT_WARNING, "Calibration table does not match calibrator algorithm type.");
  }
  if (j.images < 0)
    fail(SIGHTD_TRT_CACHE, "the calibration cache wasn't taken: TensorRT asks for images, and there are none");
  std::vector<uint8_t> image(static_cast<size_t>(s.height) * static_cast<size_t>(s.width) * 3);
  uint32_t sum = 0;
  size_t images = 0;
  while (read_image(j.images, image)) {
    if (images++ == 0) suffer(s, "calibrate");
    sum = crc(image.data(), image.size(), sum);
  }
  if (images == 0) fail(SIGHTD_TRT_CACHE, "there are no images to calibrate with");
  auto scale = static_cast<float>((1 + sum % 1000 / 1000.0) / 127);
  uint32_t bits = 0;
  memcpy(&bits, &scale, sizeof bits);
  char line[32];
  snprintf(line, sizeof line, "input: %08x\n", bits);
  int kind = j.calibrator == SIGHTD_TRT_NO_CALIBRATOR ? SIGHTD_TRT_ENTROPY_2 : j.calibrator;
  return "TRT-" + std::to_string(header_version(s)) + "-" + calibrator_names[kind] + "\n" + line;
}

void wait_phases(const Script &s) {
  std::vector<Phase> phases;
  if (auto found = s.delays.find("build"); found != s.delays.end()) phases = found->second;
  const Milliseconds tick(10);
  for (const Phase &phase : phases) {
    auto steps = static_cast<int32_t>(phase.time / tick);
    for (int32_t i = 0; i <= steps; i++) {
      now.set(phase.name, i, steps);
      if (cancelled && !s.deaf) fail(SIGHTD_TRT_CANCELLED, "the build was cancelled");
      std::this_thread::sleep_for(tick);
    }
  }
}

}  // namespace

void build(const sightd_trt_job &j, sightd_trt_built &b) {
  Script s = script();
  check_job(s, j);
  now.set("parse", 0, 0);
  std::vector<Node> nodes = nodes_of(j.onnx, j.onnx_size);
  bool quantised = std::any_of(nodes.begin(), nodes.end(), [](const Node &n) { return n.op == "QuantizeLinear"; });
  for (const auto &[severity, line] : s.log) logged().add(severity, line);
  std::string calibrated = calibrate(s, j, quantised);
  int64_t known = 0;
  if (j.timing_cache != nullptr) {
    std::string given(static_cast<const char *>(j.timing_cache), j.timing_cache_size), body = given.substr(0, given.rfind(' '));
    char *end = nullptr;
    std::string start = timing_magic + std::to_string(s.version) + " ";
    b.timing_refused = given.rfind(start, 0) != 0 || given.rfind(' ') + 1 >= given.size() ||
                       strtoul(given.c_str() + given.rfind(' ') + 1, &end, 10) != crc(body.data(), body.size()) || *end != '\0';
    if (!b.timing_refused) known = strtoll(given.c_str() + start.size(), nullptr, 10);
    if (b.timing_refused) logged().add(SIGHTD_TRT_WARNING, "The timing cache can't be used.");
  }
  now.set("build", 0, 0);
  suffer(s, "build");
  wait_phases(s);
  now.set("serialise", 0, 0);
  Plan plan{};
  plan.version = s.version, plan.batch = j.batch;
  plan.height = s.height, plan.width = s.width, plan.classes = s.classes, plan.gain = s.gain;
  plan.int8 = j.int8 || quantised, plan.fp16 = j.fp16, plan.dla = j.dla_core >= 0, plan.fallback = j.gpu_fallback;
  plan.direct = j.direct_input, plan.input_scale = j.input_scale, plan.keeps = j.keep_count;
  plan.floats = j.channel_count > 0;
  plan.device = device_hash(s), plan.graph = crc(j.onnx, j.onnx_size);
  std::string bytes(reinterpret_cast<const char *>(&plan), sizeof plan);
  uint32_t sum = crc(bytes.data(), bytes.size());
  bytes.append(reinterpret_cast<const char *>(&sum), sizeof sum);
  std::string timing = timing_magic + std::to_string(s.version) + " " + std::to_string(known + 1);
  timing += " " + std::to_string(crc(timing.data(), timing.size()));
  std::string dla;
  if (plan.dla)
    for (const Node &n : nodes) dla += (n.op == "Softmax" || n.op == "Cast" ? "0 " : "1 ") + n.name + "\n";
  give(b.plan, bytes);
  give(b.timing_cache, timing);
  give(b.cache, calibrated);
  give(b.dla, dla);
  if (plan.dla && dla.find("0 ") != std::string::npos)
    for (const Node &n : nodes)
      if (n.op == "Softmax" || n.op == "Cast") {
        if (!plan.fallback && !plan.direct) {
          sightd_trt_buffer *all[] = {&b.plan, &b.timing_cache, &b.cache, &b.dla};
          for (sightd_trt_buffer *buffer : all) sightd_trt_free(buffer);
          fail(SIGHTD_TRT_UNSUPPORTED, "layer " + n.name + " can't run on DLA, and the GPU isn't allowed to");
        }
        logged().add(SIGHTD_TRT_WARNING, "Layer '" + n.name + "' is not supported on DLA. Switching this layer's device type to GPU.");
      }
}

}  // namespace sightd_double
