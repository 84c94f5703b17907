//go:build ignore

// A double of sightd's library for TensorRT: the C ABI of abi/sightd_trt.h without
// NVIDIA's software. It builds, loads and runs engines of one model, which classifies
// by mean colour: with the pixels' bytes p, the score of class c is the softmax of
//
//	logit[c] = gain · mean of channel c / 255   for c < 3, else 0
//
// What machine it plays, how large images are, and what goes wrong is read from the
// file that SIGHTD_TRT_DOUBLE names, again at each call: double.go tells the lines.
//
// It is one file, however long, so that a test compiles it by one command, also where
// it was embedded in a test program.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../abi/sightd_trt.h"

#ifndef SIGHTD_TRT_DOUBLE_ABI
#define SIGHTD_TRT_DOUBLE_ABI SIGHTD_TRT_ABI
#endif

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

struct Failure {
  int32_t status;
  std::string text;
};

// What CUDA broke of in this process; it is never mended.
std::mutex broken_mutex;
std::string broken;

[[noreturn]] void fail(int32_t status, const std::string &text) {
  if (status == SIGHTD_TRT_BROKEN) {
    std::lock_guard<std::mutex> lock(broken_mutex);
    if (broken.empty()) broken = text;
  }
  throw Failure{status, text};
}

void need_works() {
  std::string text;
  {
    std::lock_guard<std::mutex> lock(broken_mutex);
    text = broken;
  }
  if (!text.empty()) fail(SIGHTD_TRT_BROKEN, "CUDA doesn't work any more in this process: " + text);
}

void require(bool holds, const char *what) {
  if (!holds) fail(SIGHTD_TRT_ARGUMENT, what);
}

// call runs f, turns what it throws into status and message, and checks the message's room.
template <typename F>
int32_t call(char *message, size_t size, F f) {
  if (message == nullptr || size == 0) return SIGHTD_TRT_ARGUMENT;
  *message = '\0';
  try {
    f();
    return SIGHTD_TRT_OK;
  } catch (const Failure &e) {
    snprintf(message, size, "%s", e.text.c_str());
    return e.status;
  } catch (const std::bad_alloc &) {
    snprintf(message, size, "no memory left");
    return SIGHTD_TRT_MEMORY;
  } catch (const std::exception &e) {
    snprintf(message, size, "%s", e.what());
    return SIGHTD_TRT_FAILED;
  }
}

// --- The script ---

struct Fail {
  int32_t status;
  std::string text;
};

struct Phase {
  std::string name;
  Milliseconds time;
};

struct Script {
  int height = 8, width = 8, classes = 5, cores = 0;
  float gain = 8;
  std::string device = "Double GPU";
  int major = 8, minor = 7;
  bool integrated = true;
  uint64_t memory = 8ull << 30, engine_memory = 1 << 20;
  int32_t version = 100300, compiled = 0, cuda = 120600;
  std::map<std::string, Fail> failures;  // by operation
  std::map<std::string, std::string> crashes;
  std::map<std::string, std::vector<Phase>> delays;
  int64_t run_fails_after = -1;
  Fail run_failure{SIGHTD_TRT_FAILED, "the run failed"};
  std::vector<std::pair<int, std::string>> log;
  std::string layers, uuid = "GPU-00000000-0000-0000-0000-000000000000";
  bool calibration_asks = false, registers = true, graphs = true, deaf = false;
};

int32_t version_of(const std::string &text) {
  int a = 0, b = 0, c = 0;
  sscanf(text.c_str(), "%d.%d.%d", &a, &b, &c);
  return a * 10000 + b * 100 + c;
}

Milliseconds duration(const std::string &text) {
  char *end = nullptr;
  double value = strtod(text.c_str(), &end);
  return Milliseconds(static_cast<int64_t>(std::string(end) == "ms" ? value : value * 1000));
}

// The words of a line, of which a quoted one may hold spaces; # begins a comment.
std::vector<std::string> words(const std::string &line) {
  std::vector<std::string> all;
  for (size_t i = 0; i < line.size();) {
    if (isspace(static_cast<unsigned char>(line[i]))) {
      i++;
    } else if (line[i] == '#') {
      break;
    } else if (line[i] == '"') {
      size_t end = line.find('"', i + 1);
      if (end == std::string::npos) end = line.size();
      all.push_back(line.substr(i + 1, end - i - 1));
      i = end + 1;
    } else {
      size_t end = i;
      while (end < line.size() && !isspace(static_cast<unsigned char>(line[end]))) end++;
      all.push_back(line.substr(i, end - i));
      i = end;
    }
  }
  return all;
}

void read_line(Script &s, const std::vector<std::string> &w) {
  auto at = [&](size_t i) {
    if (i >= w.size()) throw std::runtime_error("the double's script: " + w[0] + " wants more words");
    return w[i];
  };
  auto number = [&](size_t i) { return std::stoll(at(i)); };
  const std::string &verb = w[0];
  if (verb == "image") {
    s.height = static_cast<int>(number(1)), s.width = static_cast<int>(number(2));
  } else if (verb == "classes") {
    s.classes = static_cast<int>(number(1));
  } else if (verb == "gain") {
    s.gain = std::stof(at(1));
  } else if (verb == "cores") {
    s.cores = static_cast<int>(number(1));
  } else if (verb == "device") {
    s.device = at(1);
    sscanf(at(2).c_str(), "%d.%d", &s.major, &s.minor);
    s.integrated = at(3) == "integrated";
  } else if (verb == "uuid") {
    s.uuid = at(1);
  } else if (verb == "memory") {  // MiB
    s.memory = static_cast<uint64_t>(number(1)) << 20;
  } else if (verb == "engine-memory") {  // MiB
    s.engine_memory = static_cast<uint64_t>(number(1)) << 20;
  } else if (verb == "version") {
    s.version = version_of(at(1));
  } else if (verb == "compiled") {
    s.compiled = version_of(at(1));
  } else if (verb == "cuda") {
    s.cuda = version_of(at(1));
  } else if (verb == "fail" && at(1) == "run" && at(2) == "after") {
    s.run_fails_after = number(3);
    if (w.size() > 4) s.run_failure = {static_cast<int32_t>(number(4)), at(5)};
  } else if (verb == "fail") {
    s.failures[at(1)] = {static_cast<int32_t>(number(2)), at(3)};
  } else if (verb == "crash") {
    s.crashes[at(1)] = w.size() > 2 ? w[2] : "abort";
  } else if (verb == "delay") {
    s.delays[at(1)].push_back({w.size() > 4 ? w[4] : "build", duration(at(2))});
  } else if (verb == "log") {
    s.log.emplace_back(static_cast<int>(number(1)), at(2));
  } else if (verb == "layers") {
    s.layers = at(1);
  } else if (verb == "calibration" && at(1) == "asks") {
    s.calibration_asks = true;
  } else if (verb == "no" && at(1) == "registration") {
    s.registers = false;
  } else if (verb == "no" && at(1) == "graphs") {
    s.graphs = false;
  } else if (verb == "no" && at(1) == "cancelling") {
    s.deaf = true;
  } else {
    throw std::runtime_error("the double's script: no line begins with " + verb);
  }
}

Script script() {
  Script s;
  const char *path = getenv("SIGHTD_TRT_DOUBLE");
  if (path != nullptr && *path != '\0') {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(std::string("the double's script can't be read: ") + path);
    for (std::string line; std::getline(file, line);)
      if (auto w = words(line); !w.empty()) read_line(s, w);
  }
  if (s.compiled == 0) s.compiled = s.version;
  return s;
}

// What the script has happen at an operation.
void suffer(const Script &s, const std::string &operation) {
  need_works();
  if (auto found = s.crashes.find(operation); found != s.crashes.end()) {
    const std::string &how = found->second;
    if (how == "segv") raise(SIGSEGV);
    if (how == "kill") raise(SIGKILL);
    if (how.rfind("exit", 0) == 0) _Exit(how.size() > 4 ? atoi(how.c_str() + 4) : 3);
    abort();
  }
  if (operation != "build" && operation != "run")
    if (auto found = s.delays.find(operation); found != s.delays.end())
      for (const Phase &phase : found->second) std::this_thread::sleep_for(phase.time);
  if (auto found = s.failures.find(operation); found != s.failures.end()) fail(found->second.status, found->second.text);
}

// --- The log ---

struct Log {
  std::mutex mutex;
  std::deque<std::pair<int32_t, std::string>> lines;
  uint64_t dropped = 0;

  void add(int32_t severity, const std::string &line) {
    std::lock_guard<std::mutex> lock(mutex);
    if (severity > SIGHTD_TRT_INFO) return;
    if (lines.size() == 4096) lines.pop_front(), dropped++;
    lines.emplace_back(severity, line);
  }
};

Log &logged() {
  static Log *log = new Log;
  return *log;
}

// --- Bytes ---

uint32_t crc(const void *data, size_t size, uint32_t value = 0) {
  auto *p = static_cast<const uint8_t *>(data);
  value = ~value;
  for (size_t i = 0; i < size; i++) {
    value ^= p[i];
    for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
  }
  return ~value;
}

void give(sightd_trt_buffer &buffer, const std::string &bytes) {
  buffer.data = bytes.empty() ? nullptr : malloc(bytes.size());
  if (buffer.data == nullptr && !bytes.empty()) throw std::bad_alloc();
  buffer.size = bytes.size();
  if (!bytes.empty()) memcpy(buffer.data, bytes.data(), bytes.size());
}

// A plan: this, and its crc.
struct Plan {
  char magic[16] = "sightd double 1";
  int32_t version, batch, height, width, classes;
  int32_t int8, fp16, dla, direct, fallback, keeps;
  float gain, input_scale;
  uint32_t device, graph;
};

uint32_t device_hash(const Script &s) {
  std::string text = s.device + " " + std::to_string(s.major) + "." + std::to_string(s.minor);
  return crc(text.data(), text.size());
}

const char timing_magic[] = "sightd double's timing 1 ";

// --- ONNX, as far as the nodes' names and operators ---

struct Reader {
  const uint8_t *p, *end;

  bool more() const { return p < end; }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (p == end) fail(SIGHTD_TRT_MODEL, "not an ONNX model, or cut short");
      value |= static_cast<uint64_t>(*p & 0x7f) << shift;
      if (!(*p++ & 0x80)) return value;
    }
    fail(SIGHTD_TRT_MODEL, "not an ONNX model");
  }
  // The next field; what it holds, where that has a length.
  int field(Reader &held) {
    uint64_t tag = varint();
    uint64_t size = 0;
    held = {nullptr, nullptr};
    switch (tag & 7) {
      case 0: varint(); return static_cast<int>(tag >> 3);
      case 1: size = 8; break;
      case 2: size = varint(); break;
      case 5: size = 4; break;
      default: fail(SIGHTD_TRT_MODEL, "not an ONNX model");
    }
    if (size > static_cast<uint64_t>(end - p)) fail(SIGHTD_TRT_MODEL, "not an ONNX model, or cut short");
    held = {p, p + size};
    p += size;
    return static_cast<int>(tag >> 3);
  }
  std::string text() const { return p == nullptr ? "" : std::string(reinterpret_cast<const char *>(p), static_cast<size_t>(end - p)); }
};

struct Node {
  std::string name, op, domain;
};

std::vector<Node> nodes_of(const void *onnx, size_t size) {
  std::vector<Node> nodes;
  bool graph_there = false;
  Reader model{static_cast<const uint8_t *>(onnx), static_cast<const uint8_t *>(onnx) + size}, graph{}, node{}, field{};
  while (model.more()) {
    if (model.field(graph) != 7 || graph.p == nullptr) continue;
    graph_there = true;
    while (graph.more()) {
      if (graph.field(node) != 1 || node.p == nullptr) continue;
      Node n;
      while (node.more()) {
        int number = node.field(field);
        if (number == 3) n.name = field.text();
        if (number == 4) n.op = field.text();
        if (number == 7) n.domain = field.text();
      }
      nodes.push_back(n);
    }
  }
  if (!graph_there || nodes.empty()) fail(SIGHTD_TRT_MODEL, "not an ONNX model: it has no nodes");
  for (size_t i = 0; i < nodes.size(); i++)
    if (!nodes[i].domain.empty() && nodes[i].domain != "ai.onnx")
      fail(SIGHTD_TRT_MODEL, "node " + std::to_string(i) + " \"" + nodes[i].name + "\" (" + nodes[i].op +
                                 "): no importer registered for this operator");
  return nodes;
}

// --- State ---

std::mutex state_mutex;
bool opened = false;
std::atomic<bool> building{false}, cancelled{false};
std::atomic<uint64_t> in_use{0};  // of the device's memory
std::atomic<int64_t> runs{0};

struct Now {
  std::mutex mutex;
  std::string phase;
  int32_t step = 0, steps = 0;

  void set(const std::string &p, int32_t s, int32_t n) {
    std::lock_guard<std::mutex> lock(mutex);
    phase = p, step = s, steps = n;
  }
} now;

void need_open() {
  std::lock_guard<std::mutex> lock(state_mutex);
  require(opened, "TensorRT isn't open: sightd_trt_open");
}

// --- Building ---

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
  require((j.images == nullptr) == (j.image_count == 0) && j.image_count >= 0, "images without count, or the other way round");
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

// Returns the table that a calibration on the device wrote.
std::string calibrate(const Script &s, const sightd_trt_job &j, bool quantised) {
  if (!j.int8 || (quantised && j.cache == nullptr)) return "";
  if (j.cache != nullptr) {
    require(j.calibrator != SIGHTD_TRT_NO_CALIBRATOR, "a cache without calibrator");
    std::string cache(static_cast<const char *>(j.cache), j.cache_size), want = "TRT-" + std::to_string(header_version(s)) + "-" + calibrator_names[j.calibrator];
    if (cache.substr(0, cache.find('\n')) == want && !s.calibration_asks) return "";
    logged().add(SIGHTD_TRT_WARNING, "Calibration table does not match calibrator algorithm type.");
  }
  if (j.images == nullptr)
    fail(SIGHTD_TRT_CACHE, "the calibration cache wasn't taken: TensorRT asks for images, and there are none");
  uint64_t sum = 0;
  size_t size = static_cast<size_t>(j.image_count) * static_cast<size_t>(s.height) * static_cast<size_t>(s.width) * 3;
  for (size_t i = 0; i < size; i++) sum += j.images[i];
  logged().add(SIGHTD_TRT_INFO, "calibrated with " + std::to_string(j.image_count) + " images, mean " + std::to_string(sum / size));
  int kind = j.calibrator == SIGHTD_TRT_NO_CALIBRATOR ? SIGHTD_TRT_ENTROPY_2 : j.calibrator;
  return "TRT-" + std::to_string(header_version(s)) + "-" + calibrator_names[kind] + "\ninput: 3c010a14\n";
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

}  // namespace

// --- Running ---

struct sightd_trt_engine {
  Plan plan{};
  int32_t core = -1;
  bool graphs = false, softmax = false;
  std::vector<int8_t> table;
  std::vector<int32_t> channels;
  std::vector<sightd_trt_binding *> lanes;  // what runs on each
  std::set<sightd_trt_binding *> bindings;
  std::mutex mutex;
  uint64_t memory = 0;
};

struct sightd_trt_binding {
  sightd_trt_engine *engine = nullptr;
  const uint8_t *pixels = nullptr;
  int32_t images = 0, lane = -1;
  bool registered = false, graphs = false, failing = false;
  Fail failure{};
  std::vector<float> scores;
  Clock::time_point ready;
};

namespace {

void classify(sightd_trt_binding &b) {
  const sightd_trt_engine &e = *b.engine;
  auto size = static_cast<size_t>(e.plan.height) * static_cast<size_t>(e.plan.width), classes = static_cast<size_t>(e.plan.classes);
  for (size_t i = 0; i < static_cast<size_t>(b.images); i++) {
    double sums[3] = {0, 0, 0};
    for (size_t p = 0; p < size; p++)
      for (size_t c = 0; c < 3; c++) {
        const uint8_t *pixel = b.pixels + (i * size + p) * 3;
        if (e.table.empty())
          sums[c] += pixel[c] / 255.0;
        else if (c < e.channels.size())
          sums[c] += e.table[c * 256 + pixel[e.channels[c]]] * static_cast<double>(e.plan.input_scale);
      }
    float *scores = &b.scores[i * classes];
    double total = 0;
    for (size_t c = 0; c < classes; c++) {
      double logit = c < 3 ? e.plan.gain * sums[c] / static_cast<double>(size) : 0;
      scores[c] = static_cast<float>(e.plan.direct && !e.softmax ? logit : std::exp(logit));
      total += scores[c];
    }
    if (!e.plan.direct || e.softmax)
      for (size_t c = 0; c < classes; c++) scores[c] = static_cast<float>(scores[c] / total);
  }
}

// Ends the binding's run, under the engine's mutex or alone.
void finish(sightd_trt_binding &b) {
  std::this_thread::sleep_until(b.ready);
  if (!b.failing) classify(b);
  std::lock_guard<std::mutex> lock(b.engine->mutex);
  b.engine->lanes[static_cast<size_t>(b.lane)] = nullptr;
  b.lane = -1;
}

void check_plan(const Script &s, const sightd_trt_load &l, Plan &plan) {
  uint32_t sum = 0;
  if (l.plan_size != sizeof plan + sizeof sum) fail(SIGHTD_TRT_PLAN, "the plan is cut short, or not one");
  memcpy(&plan, l.plan, sizeof plan);
  memcpy(&sum, static_cast<const char *>(l.plan) + sizeof plan, sizeof sum);
  if (memcmp(plan.magic, Plan().magic, sizeof plan.magic) != 0) fail(SIGHTD_TRT_PLAN, "not a plan");
  if (sum != crc(&plan, sizeof plan)) fail(SIGHTD_TRT_PLAN, "the plan is damaged");
  if (plan.version != s.version)
    fail(SIGHTD_TRT_PLAN, "the plan is of version " + std::to_string(plan.version) + ", this is " + std::to_string(s.version));
  if (plan.device != device_hash(s)) fail(SIGHTD_TRT_PLAN, "the plan was made for another device");
}

sightd_trt_engine *load(const sightd_trt_load &l) {
  Script s = script();
  require(l.plan != nullptr && l.plan_size > 0, "no plan");
  require(l.lanes >= 1 && l.lanes <= 8, "lanes: wanted 1 to 8");
  require(l.dla_core >= -1, "no such DLA core");
  require(l.channel_count >= 0 && l.channel_count <= 3 && (l.table != nullptr) == (l.channel_count > 0), "wrong channels");
  for (int32_t c = 0; c < l.channel_count; c++) require(l.channels[c] >= 0 && l.channels[c] < 3, "wrong channels");
  suffer(s, "load");
  Plan plan;
  check_plan(s, l, plan);
  if (l.dla_core >= s.cores)
    fail(SIGHTD_TRT_UNSUPPORTED, "DLA core " + std::to_string(l.dla_core) + ": this machine has " + std::to_string(s.cores));
  if ((l.dla_core >= 0) != (plan.dla != 0)) fail(SIGHTD_TRT_PLAN, "the plan was made for another kind of device: GPU or DLA");
  require((l.table != nullptr) == (plan.direct != 0), "a table without direct input, or the other way round");
  require(plan.direct || !l.softmax, "softmax without direct input");
  if (in_use + s.engine_memory > s.memory) fail(SIGHTD_TRT_MEMORY, "no memory left on the device");
  auto *e = new sightd_trt_engine;
  e->plan = plan, e->core = l.dla_core, e->graphs = l.graphs && s.graphs, e->softmax = l.softmax;
  if (l.table != nullptr) {
    e->table.assign(l.table, l.table + static_cast<ptrdiff_t>(l.channel_count) * 256);
    e->channels.assign(l.channels, l.channels + l.channel_count);
  }
  e->lanes.resize(static_cast<size_t>(l.lanes));
  e->memory = s.engine_memory;
  in_use += e->memory;
  return e;
}

std::string quoted(const std::string &text) { return "\"" + text + "\""; }

std::string inspect(const sightd_trt_engine &e) {
  Script s = script();
  suffer(s, "inspect");
  if (!s.layers.empty()) {
    std::ifstream file(s.layers);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  auto layer = [](const std::string &name, const std::string &type, const std::string &format) {
    return "{" + quoted("Name") + ": " + quoted(name) + ", " + quoted("LayerType") + ": " + quoted(type) + ", " + quoted("Inputs") +
           ": [{" + quoted("Name") + ": " + quoted("in") + ", " + quoted("Dimensions") + ": [1,3,8,8], " + quoted("Format/Datatype") +
           ": " + quoted(format) + "}], " + quoted("Outputs") + ": []}";
  };
  std::string precision = e.plan.int8 ? "Thirty-two wide channel vectorized row major Int8 format"
                          : e.plan.fp16 ? "Row major linear FP16 format" : "Row major linear FP32";
  std::string rest = e.plan.keeps > 0 && e.plan.fp16 ? "Row major linear FP16 format" : "Row major linear FP32";
  std::string text = "{" + quoted("Layers") + ": [";
  if (e.plan.dla) {
    if (!e.plan.direct) text += layer("Reformatting CopyNode for Input Tensor 0 to {ForeignNode[conv...pool]}", "Reformat", "Row major linear FP32") + ", ";
    text += layer("{ForeignNode[conv...pool]}", "DLA", precision);
  } else {
    text += layer("cast", "Reformat", "Row major linear UInt8") + ", " + layer("conv", "CaskConvolution", precision) + ", " +
            layer("pool", "CaskPooling", rest);
  }
  if (!e.plan.direct) text += ", " + layer("softmax", "CudaSoftMax", "Row major linear FP32");
  return text + "], " + quoted("Bindings") + ": [" + quoted("input") + ", " + quoted("output") + "]}";
}

}  // namespace

extern "C" {

int32_t sightd_trt_abi(void) { return SIGHTD_TRT_DOUBLE_ABI; }

int32_t sightd_trt_open(const char *nvinfer, char *message, size_t size) {
  return call(message, size, [&] {
    require(nvinfer != nullptr, "no name");
    suffer(script(), "open");
    std::lock_guard<std::mutex> lock(state_mutex);
    opened = true;
  });
}

int32_t sightd_trt_get_version(sightd_trt_version *v) {
  char message[256];
  return call(message, sizeof message, [&] {
    require(v != nullptr && v->size == sizeof *v, "wrong size of struct");
    Script s = script();
    v->compiled = s.compiled, v->found = s.version, v->parser = s.version, v->cuda = s.cuda;
  });
}

int32_t sightd_trt_get_device(sightd_trt_device *d, char *message, size_t size) {
  return call(message, size, [&] {
    require(d != nullptr && d->size == sizeof *d, "wrong size of struct");
    need_open();
    Script s = script();
    suffer(s, "device");
    snprintf(d->name, sizeof d->name, "%s", s.device.c_str());
    snprintf(d->uuid, sizeof d->uuid, "%s", s.uuid.c_str());
    d->major = s.major, d->minor = s.minor, d->integrated = s.integrated, d->dla_cores = s.cores;
    d->memory = s.memory, d->free = s.memory - std::min<uint64_t>(in_use, s.memory);
  });
}

int32_t sightd_trt_next_log(int32_t *severity, char *line, size_t size, uint64_t *dropped) {
  if (severity == nullptr || line == nullptr || size == 0 || dropped == nullptr) return 0;
  Log &log = logged();
  std::lock_guard<std::mutex> lock(log.mutex);
  *dropped = log.dropped;
  *line = '\0';
  if (log.lines.empty()) return 0;
  *severity = log.lines.front().first;
  snprintf(line, size, "%s", log.lines.front().second.c_str());
  log.lines.pop_front();
  return 1;
}

int32_t sightd_trt_build(const sightd_trt_job *j, sightd_trt_built *b, char *message, size_t size) {
  return call(message, size, [&] {
    require(j != nullptr && j->size == sizeof *j && b != nullptr && b->size == sizeof *b, "wrong size of struct");
    need_open();
    require(!building.exchange(true), "a build is under way");
    struct End {
      ~End() { building = false, cancelled = false; }
    } end;
    *b = {};
    b->size = sizeof *b;
    build(*j, *b);
  });
}

int32_t sightd_trt_get_progress(sightd_trt_progress *p) {
  if (p == nullptr || p->size != sizeof *p) return SIGHTD_TRT_ARGUMENT;
  std::lock_guard<std::mutex> lock(now.mutex);
  snprintf(p->phase, sizeof p->phase, "%s", now.phase.c_str());
  p->step = now.step, p->steps = now.steps;
  return SIGHTD_TRT_OK;
}

int32_t sightd_trt_cancel(void) {
  cancelled = true;
  char message[256];
  bool deaf = false, old = false;
  call(message, sizeof message, [&] {
    Script s = script();
    deaf = s.deaf, old = s.version < 100000;
  });
  return deaf || !old;
}

int32_t sightd_trt_load_engine(const sightd_trt_load *l, sightd_trt_engine **e, char *message, size_t size) {
  return call(message, size, [&] {
    require(l != nullptr && l->size == sizeof *l && e != nullptr, "wrong size of struct");
    need_open();
    *e = nullptr;
    *e = load(*l);
  });
}

int32_t sightd_trt_get_engine_info(const sightd_trt_engine *e, sightd_trt_engine_info *i) {
  if (e == nullptr || i == nullptr || i->size != sizeof *i) return SIGHTD_TRT_ARGUMENT;
  i->batch = e->plan.batch, i->height = e->plan.height, i->width = e->plan.width, i->classes = e->plan.classes;
  i->input_type = e->plan.direct ? SIGHTD_TRT_INT8 : SIGHTD_TRT_UINT8;
  i->output_type = e->plan.direct ? SIGHTD_TRT_HALF : SIGHTD_TRT_FLOAT;
  i->lanes = static_cast<int32_t>(e->lanes.size()), i->device_memory = e->memory;
  return SIGHTD_TRT_OK;
}

int32_t sightd_trt_inspect(sightd_trt_engine *e, sightd_trt_buffer *b, char *message, size_t size) {
  return call(message, size, [&] {
    require(e != nullptr && b != nullptr, "no engine");
    give(*b, inspect(*e));
  });
}

void sightd_trt_unload(sightd_trt_engine *e) {
  if (e == nullptr) return;
  while (!e->bindings.empty()) sightd_trt_unbind(*e->bindings.begin());
  in_use -= e->memory;
  delete e;
}

int32_t sightd_trt_bind(sightd_trt_engine *e, const uint8_t *pixels, size_t pixels_size, int32_t images, sightd_trt_binding **made,
                        const float **scores, char *message, size_t size) {
  return call(message, size, [&] {
    require(e != nullptr && pixels != nullptr && made != nullptr && scores != nullptr, "no engine, pixels or results");
    Script s = script();
    suffer(s, "bind");
    require(images >= 1 && images <= e->plan.batch, "more images than the engine's batch, or none");
    require(pixels_size == static_cast<size_t>(images) * static_cast<size_t>(e->plan.height) * static_cast<size_t>(e->plan.width) * 3,
            "wrong size of the pixels");
    auto *b = new sightd_trt_binding;
    b->engine = e, b->pixels = pixels, b->images = images, b->registered = s.registers, b->graphs = e->graphs;
    b->scores.resize(static_cast<size_t>(images) * static_cast<size_t>(e->plan.classes));
    *made = b, *scores = b->scores.data();
    std::lock_guard<std::mutex> lock(e->mutex);
    e->bindings.insert(b);
  });
}

int32_t sightd_trt_get_binding_info(const sightd_trt_binding *b, sightd_trt_binding_info *i) {
  if (b == nullptr || i == nullptr || i->size != sizeof *i) return SIGHTD_TRT_ARGUMENT;
  i->registered = b->registered, i->graphs = b->graphs;
  return SIGHTD_TRT_OK;
}

void sightd_trt_unbind(sightd_trt_binding *b) {
  if (b == nullptr) return;
  if (b->lane >= 0) finish(*b);
  {
    std::lock_guard<std::mutex> lock(b->engine->mutex);
    b->engine->bindings.erase(b);
  }
  delete b;
}

int32_t sightd_trt_start(sightd_trt_binding *b, int32_t lane, char *message, size_t size) {
  return call(message, size, [&] {
    require(b != nullptr, "no binding");
    sightd_trt_engine &e = *b->engine;
    require(lane >= 0 && lane < static_cast<int32_t>(e.lanes.size()), "no such lane");
    Script s = script();
    suffer(s, "run");
    std::lock_guard<std::mutex> lock(e.mutex);
    require(b->lane < 0, "the binding's last run hasn't been waited for");
    require(e.lanes[static_cast<size_t>(lane)] == nullptr, "the lane is busy");
    e.lanes[static_cast<size_t>(lane)] = b;
    b->lane = lane;
    b->ready = Clock::now();
    if (auto found = s.delays.find("run"); found != s.delays.end()) b->ready += found->second[0].time;
    b->failing = s.run_fails_after >= 0 && runs++ >= s.run_fails_after;
    b->failure = s.run_failure;
  });
}

#ifndef SIGHTD_TRT_DOUBLE_WITHOUT_WAIT
int32_t sightd_trt_wait(sightd_trt_binding *b, char *message, size_t size) {
  return call(message, size, [&] {
    require(b != nullptr && b->lane >= 0, "nothing was started");
    suffer(script(), "wait");
    finish(*b);
    if (b->failing) {
      logged().add(SIGHTD_TRT_ERROR, "IExecutionContext::enqueueV3: " + b->failure.text);
      fail(b->failure.status, b->failure.text);
    }
  });
}
#endif

void sightd_trt_free(sightd_trt_buffer *b) {
  if (b == nullptr) return;
  free(b->data);
  *b = {nullptr, 0};
}

}  // extern "C"
