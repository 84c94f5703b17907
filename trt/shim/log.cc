#include "log.h"

#include <algorithm>

#include "common.h"

namespace sightd {

namespace {

constexpr size_t max_lines = 4096;
constexpr size_t max_line = 4096;  // bytes
constexpr size_t max_complaints = 256;
constexpr size_t max_quoted = 1500;  // bytes of complaints in a message

thread_local int muted = 0;

bool contains(const std::string &text, const char *word) { return text.find(word) != std::string::npos; }

std::string joined(const std::vector<std::string> &parts) {
  std::string text;
  for (const std::string &part : parts) {
    if (contains(text, part.c_str())) continue;
    if (text.size() + part.size() > max_quoted) {
      if (text.empty()) return part.substr(0, max_quoted) + "…";
      return text + " …";
    }
    if (!text.empty()) text += "; ";
    text += part;
  }
  return text;
}

}  // namespace

Log &Log::instance() {
  static Log *log = new Log;
  return *log;
}

void Log::log(Severity severity, const char *line) noexcept {
  if (muted > 0 || line == nullptr) return;
  try {
    const auto level = static_cast<int32_t>(severity);
    const bool complaint = level <= SIGHTD_TRT_WARNING;
    if (!complaint && level > SIGHTD_TRT_INFO) return;
    Line entry{level, std::string(line).substr(0, max_line)};
    std::replace(entry.text.begin(), entry.text.end(), '\n', ' ');
    while (!entry.text.empty() && entry.text.back() == ' ') entry.text.pop_back();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (complaint) {
      complaints_.push_back({complained_++, std::this_thread::get_id(), entry});
      if (complaints_.size() > max_complaints) complaints_.pop_front();
    }
    if (level > SIGHTD_TRT_INFO) return;
    lines_.push_back(std::move(entry));
    if (lines_.size() > max_lines) {
      lines_.pop_front();
      dropped_++;
    }
  } catch (...) {  // no memory for a line: it is lost
  }
}

bool Log::next(int32_t *severity, std::string *line, uint64_t *dropped) {
  const std::lock_guard<std::mutex> lock(mutex_);
  *dropped = dropped_;
  if (lines_.empty()) return false;
  *severity = lines_.front().severity;
  *line = std::move(lines_.front().text);
  lines_.pop_front();
  return true;
}

Call::Call() {
  Log &log = Log::instance();
  const std::lock_guard<std::mutex> lock(log.mutex_);
  from_ = log.complained_;
}

std::vector<Log::Complaint> Call::since() const {
  Log &log = Log::instance();
  const std::lock_guard<std::mutex> lock(log.mutex_);
  std::vector<Log::Complaint> found;
  for (const auto &c : log.complaints_)
    if (c.number >= from_) found.push_back(c);
  return found;
}

std::string Call::errors() const {
  std::vector<std::string> own, all;
  for (const auto &c : since()) {
    if (c.line.severity > SIGHTD_TRT_ERROR) continue;
    all.push_back(c.line.text);
    if (c.thread == std::this_thread::get_id()) own.push_back(c.line.text);
  }
  return joined(own.empty() ? all : own);
}

std::string Call::mentions(const char *word) const {
  std::vector<std::string> found;
  for (const auto &c : since())
    if (contains(c.line.text, word)) found.push_back(c.line.text);
  return joined(found);
}

void Call::fail(int32_t status, const char *what) const {
  const std::string said = errors();
  sightd::fail(status, "%s: %s", what, said.empty() ? "TensorRT gave no reason" : said.c_str());
}

Muted::Muted() { muted++; }
Muted::~Muted() { muted--; }

}  // namespace sightd
