// The calibrator of a build: hands TensorRT the cache, or the images, and notices when
// TensorRT asks for what isn't there. TensorRT 11 has no calibrators.
#pragma once

#include <NvInfer.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory.h"

namespace sightd {

// Feed is what the four kinds of calibrator have in common. It outlives the build.
class Feed {
 public:
  Feed(const sightd_trt_job &, int64_t images_at_once, int64_t height, int64_t width);

  int32_t images_at_once() const { return static_cast<int32_t>(at_once_); }
  bool next(void *bindings[], int32_t count) noexcept;
  const void *cache(size_t &size) noexcept;
  void keep(const void *data, size_t size) noexcept;

  // TensorRT asked for images, and there are none: the cache was refused.
  bool refused() const { return refused_; }
  // What went wrong in a callback; "" is nothing.
  const std::string &trouble() const { return trouble_; }
  // The table that a calibration wrote; empty where the cache was taken, which TensorRT
  // may write back as well.
  std::vector<char> written() const { return fed_ > 0 ? written_ : std::vector<char>(); }

 private:
  bool read();
  void upload();
  void convert(const uint8_t *pixels, float *to) const;

  const sightd_trt_job &job_;
  int64_t at_once_, height_, width_;
  int64_t fed_ = 0;  // images
  bool ended_ = false;
  std::vector<uint8_t> pixels_;  // of the images at once
  Device device_;
  std::vector<float> floats_;
  bool refused_ = false;
  std::string trouble_;
  std::vector<char> written_;
};

#if NV_TENSORRT_MAJOR < 11
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
using Calibrator = nvinfer1::IInt8Calibrator;
#pragma GCC diagnostic pop
// The calibrator of a kind, which asks the feed.
std::unique_ptr<Calibrator> make_calibrator(int32_t kind, Feed &);
#endif

}  // namespace sightd
