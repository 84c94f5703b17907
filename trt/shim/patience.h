// How long a run may be slept for before its end is looked for, from the runs before.
#pragma once

#include <algorithm>
#include <chrono>

namespace sightd {

// Being woken takes as long as a small network's run, so the core is left to others until
// shortly before the end that is expected, and then the event is asked again and again. A
// run that takes longer than that is waited for in CUDA.
struct Patience {
  using Time = std::chrono::nanoseconds;

  // Before and after the expected end. Sleeping ends up to 100 µs late on a common kernel.
  static constexpr Time early = std::chrono::microseconds(200), late = std::chrono::microseconds(200);

  Time expected{0};  // what a run takes; 0: not known

  // How long to sleep when a run has taken so long already; 0: not at all.
  Time sleep(Time so_far) const { return expected - so_far > early + late ? expected - so_far - early : Time(0); }

  // Until when to ask for its end.
  Time ask(Time so_far) const { return std::max(so_far, expected) + late; }

  // A run has ended. Whoever slept until after its end learns only that too much was
  // expected; one slow run, as beside the build of an engine, says little of the next.
  void ended(Time took, bool slept_past) {
    if (slept_past)
      expected /= 2;
    else if (expected.count() == 0)
      expected = std::min<Time>(took, std::chrono::milliseconds(1));
    else
      expected = std::min<Time>(expected + (took - expected) / 8, 2 * expected);
  }

  // It had ended before anybody asked, after so long at most.
  void ended_before(Time took) { expected = std::min(expected, took); }
};

}  // namespace sightd
