//go:build ignore

// What the double keeps between calls, and how it handles bytes.
#include <cstdlib>
#include <cstring>

#include "double.h"

namespace sightd_double {

std::mutex state_mutex;
bool opened = false;
std::atomic<bool> building{false}, cancelled{false};
std::atomic<uint64_t> in_use{0};
std::atomic<int64_t> runs{0};
Now now;

namespace {

// What CUDA broke of in this process; it is never mended.
std::mutex broken_mutex;
std::string broken;

}  // namespace

void fail(int32_t status, const std::string &text) {
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

void need_open() {
  std::lock_guard<std::mutex> lock(state_mutex);
  require(opened, "TensorRT isn't open: sightd_trt_open");
}

Log &logged() {
  static Log *log = new Log;
  return *log;
}

uint32_t crc(const void *data, size_t size, uint32_t value) {
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

uint32_t device_hash(const Script &s) {
  std::string text = s.device + " " + std::to_string(s.major) + "." + std::to_string(s.minor);
  return crc(text.data(), text.size());
}

}  // namespace sightd_double
