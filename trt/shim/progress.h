// How far the build is, for other threads to ask, and whether it is to end.
#pragma once

#include <NvInfer.h>

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

namespace sightd {

class Progress
#if NV_TENSORRT_MAJOR >= 10
    final : public nvinfer1::IProgressMonitor
#endif
{
 public:
  // There is one, as there is one build at a time. It is never destroyed.
  static Progress &instance();

  // Begins a build; nothing was cancelled then.
  void begin();
  // A phase of sightd's own, about which TensorRT says nothing.
  void phase(const char *name);
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

  void get(std::string *phase, int32_t *step, int32_t *steps);

#if NV_TENSORRT_MAJOR >= 10
  void phaseStart(char const *name, char const *parent, int32_t steps) noexcept override;
  bool stepComplete(char const *name, int32_t step) noexcept override;
  void phaseFinish(char const *name) noexcept override;
#endif

 private:
  struct Phase {
    std::string name;
    int32_t step, steps;
  };
  std::mutex mutex_;
  std::vector<Phase> phases_;  // the first is sightd's, the others TensorRT's, nested
  std::atomic<bool> cancelled_{false};
};

}  // namespace sightd
