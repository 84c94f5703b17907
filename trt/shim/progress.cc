#include "progress.h"

namespace sightd {

Progress &Progress::instance() {
  static auto *progress = new Progress;
  return *progress;
}

void Progress::begin() {
  cancelled_ = false;
  const std::lock_guard<std::mutex> lock(mutex_);
  phases_.clear();
}

void Progress::phase(const char *name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  phases_.assign(1, {name, 0, 0});
}

void Progress::get(std::string *phase, int32_t *step, int32_t *steps) {
  const std::lock_guard<std::mutex> lock(mutex_);
  *step = *steps = 0;
  phase->clear();
  if (phases_.empty()) return;
  *phase = phases_.back().name;
  *step = phases_.back().step;
  *steps = phases_.back().steps;
}

#if NV_TENSORRT_MAJOR >= 10

void Progress::phaseStart(char const *name, char const *, int32_t steps) noexcept {
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    phases_.push_back({name != nullptr ? name : "", 0, steps});
  } catch (...) {  // a phase less is told
  }
}

bool Progress::stepComplete(char const *name, int32_t step) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Phase &phase : phases_)
    if (name != nullptr && phase.name == name) phase.step = step + 1;
  return !cancelled_;
}

void Progress::phaseFinish(char const *name) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = phases_.size(); i-- > 1;)
    if (name != nullptr && phases_[i].name == name) {
      phases_.erase(phases_.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
}

#endif

}  // namespace sightd
