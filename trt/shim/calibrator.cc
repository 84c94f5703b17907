#include "calibrator.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "log.h"

namespace sightd {

Feed::Feed(const sightd_trt_job &job, int64_t images_at_once, int64_t height, int64_t width)
    : job_(job), at_once_(images_at_once), height_(height), width_(width) {}

bool Feed::next(void *bindings[], int32_t count) noexcept {
  if (job_.images < 0) {
    refused_ = true;
    Log::instance().log(nvinfer1::ILogger::Severity::kERROR,
                        "sightd: TensorRT asked for calibration images, and has none: it refused the calibration cache");
    return false;
  }
  if (!trouble_.empty()) return false;
  try {
    // The images are gone once they are read. No calibrator asks again, as far as is known;
    // one that did would go on without, and its table be wrong.
    if (ended_) fail(SIGHTD_TRT_CACHE, "TensorRT asks for the calibration images again, which come once");
    if (count != 1) fail(SIGHTD_TRT_MODEL, "the calibration asks for %d inputs, and the model has 1", count);
    if (!read()) {
      ended_ = true;
      return false;
    }
    upload();
    bindings[0] = reinterpret_cast<void *>(device_.get());
    fed_ += at_once_;
    return true;
  } catch (const Failure &f) {
    trouble_ = f.message;
  } catch (...) {
    trouble_ = "no memory left for calibration images";
  }
  return false;
}

// Reads the next images, or tells that there are none left. A rest that doesn't fill the
// batch is left out: it would have to be filled up, and count twice.
bool Feed::read() {
  const auto image = static_cast<size_t>(height_ * width_ * 3);
  pixels_.resize(static_cast<size_t>(at_once_) * image);
  size_t have = 0;
  while (have < pixels_.size()) {
    const ssize_t n = ::read(job_.images, pixels_.data() + have, pixels_.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      pollfd ready{job_.images, POLLIN, 0};
      ::poll(&ready, 1, -1);
      continue;
    }
    if (n < 0) fail(SIGHTD_TRT_CACHE, "the calibration images can't be read: %s", strerror(errno));
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  if (have % image != 0)
    fail(SIGHTD_TRT_CACHE, "the calibration images end within one: %zu bytes of the %zu of %d × %d × 3", have % image, image,
         static_cast<int>(height_), static_cast<int>(width_));
  if (have < pixels_.size() && fed_ == 0)
    fail(SIGHTD_TRT_CACHE, "%zu calibration images don't fill a batch of %d", have / image, images_at_once());
  return have == pixels_.size();
}

void Feed::upload() {
  const auto pixels = static_cast<size_t>(height_ * width_ * 3);
  const size_t planes = static_cast<size_t>(height_ * width_ * job_.channel_count);
  const bool bytes = job_.channel_count == 0;
  const size_t size = static_cast<size_t>(at_once_) * (bytes ? pixels : planes * sizeof(float));
  const Driver &c = cuda();
  if (!device_) device_ = device_memory(size);
  if (bytes) {
    check(c.cuMemcpyHtoD_v2(device_.get(), pixels_.data(), size), "copying calibration images to the GPU");
    return;
  }
  floats_.resize(size / sizeof(float));
  for (int64_t i = 0; i < at_once_; i++)
    convert(pixels_.data() + static_cast<size_t>(i) * pixels, floats_.data() + static_cast<size_t>(i) * planes);
  check(c.cuMemcpyHtoD_v2(device_.get(), floats_.data(), size), "copying calibration images to the GPU");
}

void Feed::convert(const uint8_t *pixels, float *to) const {
  for (int32_t channel = 0; channel < job_.channel_count; channel++) {
    const float *table = job_.table + channel * 256;
    const uint8_t *from = pixels + job_.channels[channel];
    for (int64_t i = 0; i < height_ * width_; i++) *to++ = table[from[i * 3]];
  }
}

const void *Feed::cache(size_t &size) noexcept {
  size = job_.cache_size;
  return job_.cache_size > 0 ? job_.cache : nullptr;
}

void Feed::keep(const void *data, size_t size) noexcept {
  try {
    const auto *bytes = static_cast<const char *>(data);
    written_.assign(bytes, bytes + size);
  } catch (...) {
    trouble_ = "no memory left for the calibration table";
  }
}

#if NV_TENSORRT_MAJOR < 11

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace {

template <class Kind> class Fed : public Kind {
 public:
  explicit Fed(Feed &feed) : feed_(feed) {}
  int32_t getBatchSize() const noexcept override { return feed_.images_at_once(); }
  bool getBatch(void *bindings[], char const *[], int32_t count) noexcept override {
    return feed_.next(bindings, count);
  }
  void const *readCalibrationCache(size_t &size) noexcept override { return feed_.cache(size); }
  void writeCalibrationCache(void const *data, size_t size) noexcept override { feed_.keep(data, size); }

 private:
  Feed &feed_;
};

// The values that NVIDIA's samples use.
class LegacyCalibrator final : public Fed<nvinfer1::IInt8LegacyCalibrator> {
 public:
  using Fed::Fed;
  double getQuantile() const noexcept override { return 0.9999; }
  double getRegressionCutoff() const noexcept override { return 1.0; }
  void const *readHistogramCache(size_t &size) noexcept override {
    size = 0;
    return nullptr;
  }
  void writeHistogramCache(void const *, size_t) noexcept override {}
};

}  // namespace

std::unique_ptr<Calibrator> make_calibrator(int32_t kind, Feed &feed) {
  switch (kind) {
    case SIGHTD_TRT_ENTROPY_2:
      return std::make_unique<Fed<nvinfer1::IInt8EntropyCalibrator2>>(feed);
    case SIGHTD_TRT_MINMAX:
      return std::make_unique<Fed<nvinfer1::IInt8MinMaxCalibrator>>(feed);
    case SIGHTD_TRT_ENTROPY:
      return std::make_unique<Fed<nvinfer1::IInt8EntropyCalibrator>>(feed);
    case SIGHTD_TRT_LEGACY:
      return std::make_unique<LegacyCalibrator>(feed);
    default:
      fail(SIGHTD_TRT_ARGUMENT, "there is no calibrator of kind %d", kind);
  }
}

#pragma GCC diagnostic pop

#endif

}  // namespace sightd
