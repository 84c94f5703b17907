//go:build ignore

// The double's script: how it is read, and what it has happen.
#include <csignal>
#include <cstdlib>
#include <fstream>

#include "double.h"

namespace sightd_double {

namespace {

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

}  // namespace

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

}  // namespace sightd_double
