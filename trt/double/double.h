// What the double's parts have in common. What it does is told in double.go.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../abi/sightd_trt.h"

#ifndef SIGHTD_TRT_DOUBLE_ABI
#define SIGHTD_TRT_DOUBLE_ABI SIGHTD_TRT_ABI
#endif

namespace sightd_double {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

struct Failure {
  int32_t status;
  std::string text;
};

// Throws; after SIGHTD_TRT_BROKEN nothing works any more in this process.
[[noreturn]] void fail(int32_t status, const std::string &text);
// Fails where CUDA is broken.
void need_works();

inline void require(bool holds, const char *what) {
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
  std::map<std::string, Failure> failures;  // by operation
  std::map<std::string, std::string> crashes;
  std::map<std::string, std::vector<Phase>> delays;
  int64_t run_fails_after = -1;
  Failure run_failure{SIGHTD_TRT_FAILED, "the run failed"};
  std::vector<std::pair<int, std::string>> log;
  std::string layers, uuid = "GPU-00000000-0000-0000-0000-000000000000";
  bool calibration_asks = false, registers = true, graphs = true, deaf = false;
};

// Reads the script, again at each call.
Script script();
// What the script has happen at an operation.
void suffer(const Script &, const std::string &operation);

// --- State ---

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

Log &logged();

struct Now {
  std::mutex mutex;
  std::string phase;
  int32_t step = 0, steps = 0;

  void set(const std::string &p, int32_t s, int32_t n) {
    std::lock_guard<std::mutex> lock(mutex);
    phase = p, step = s, steps = n;
  }
};

extern Now now;
extern std::mutex state_mutex;
extern bool opened;
extern std::atomic<bool> building, cancelled;
extern std::atomic<uint64_t> in_use;  // of the device's memory
extern std::atomic<int64_t> runs;

void need_open();

// --- Bytes ---

uint32_t crc(const void *data, size_t size, uint32_t value = 0);
void give(sightd_trt_buffer &, const std::string &bytes);

// A plan: this, and its crc.
struct Plan {
  char magic[16] = "sightd double 1";
  int32_t version, batch, height, width, classes;
  int32_t int8, fp16, dla, direct, fallback, keeps, floats;
  float gain, input_scale;
  uint32_t device, graph;
};

uint32_t device_hash(const Script &);

// --- What it does ---

struct Node {
  std::string name, op, domain;
};

// The nodes of an encoded ONNX model.
std::vector<Node> nodes_of(const void *onnx, size_t size);

void build(const sightd_trt_job &, sightd_trt_built &);
sightd_trt_engine *load(const sightd_trt_load &);
std::string inspect(const sightd_trt_engine &);
// Ends the binding's run, under the engine's mutex or alone.
void finish(sightd_trt_binding &);

}  // namespace sightd_double

struct sightd_trt_engine {
  sightd_double::Plan plan{};
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
  sightd_double::Failure failure{};
  std::vector<const sightd_trt_binding *> from;  // by image; null: its own
  std::vector<float> scores;
  sightd_double::Clock::time_point ready;
};
