// The one logger of the process. TensorRT keeps the first logger that it is given for
// good and calls it from threads of its own, so this one is never destroyed, and it
// calls nobody: its lines wait in a ring until they are taken.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <NvInfer.h>

namespace sightd {

class Log final : public nvinfer1::ILogger {
 public:
  static Log &instance();

  void log(Severity, const char *line) noexcept override;

  // The oldest line; false where there is none.
  bool next(int32_t *severity, std::string *line, uint64_t *dropped);

 private:
  friend class Call;
  friend class Muted;
  struct Line {
    int32_t severity;
    std::string text;
  };
  struct Complaint {
    uint64_t number;
    std::thread::id thread;
    Line line;
  };

  std::mutex mutex_;
  std::deque<Line> lines_;
  uint64_t dropped_ = 0;
  std::deque<Complaint> complaints_;  // warnings and errors, the newest
  uint64_t complained_ = 0;           // in all
};

// Call remembers what TensorRT complains of while it lives.
class Call {
 public:
  Call();

  // Whether an error was logged.
  bool failed() const { return !errors().empty(); }
  // The errors, in one line: this thread's where it had any, else those of TensorRT's
  // own threads too.
  std::string errors() const;
  // Warnings and errors that contain the word, in one line.
  std::string mentions(const char *word) const;
  // Throws: what failed, and the errors.
  [[noreturn]] void fail(int32_t status, const char *what) const;

 private:
  std::vector<Log::Complaint> since() const;
  uint64_t from_;
};

// While one lives, what this thread logs is lost: for attempts that may fail.
class Muted {
 public:
  Muted();
  ~Muted();
};

}  // namespace sightd
