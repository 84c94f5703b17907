// Owners of what the driver hands out. Freeing needs the context to be current, which
// every entry point sees to, and ignores errors: there is nothing left to do then.
#pragma once

#include <utility>

#include "driver.h"

namespace sightd {

// A handle and how it is freed.
template <class T, void (*release)(T)> class Owned {
 public:
  Owned() = default;
  explicit Owned(T handle) : handle_(handle) {}
  Owned(Owned &&other) noexcept : handle_(std::exchange(other.handle_, T{})) {}
  Owned &operator=(Owned &&other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_) release(handle_);
  }
  T get() const { return handle_; }
  explicit operator bool() const { return handle_ != T{}; }

 private:
  T handle_{};
};

void free_device(CUdeviceptr);
void free_pinned(void *);
void free_stream(CUstream);
void free_event(CUevent);
void free_graph(CUgraph);
void free_graph_exec(CUgraphExec);

using Device = Owned<CUdeviceptr, free_device>;
using Pinned = Owned<void *, free_pinned>;
using Stream = Owned<CUstream, free_stream>;
using Event = Owned<CUevent, free_event>;
using Graph = Owned<CUgraph, free_graph>;
using GraphExec = Owned<CUgraphExec, free_graph_exec>;

Device device_memory(size_t bytes);  // zeroes
Pinned pinned_memory(size_t bytes);  // zeroes
Stream new_stream();                 // apart from the default stream
Event new_event();                   // waiting for it leaves the core to others

// The caller's memory, registered with CUDA so that the GPU reads it where it lies.
// Registrations are counted for the process: several bindings may be of the same memory.
class Registered {
 public:
  Registered() = default;
  // False in get() where CUDA can't register this memory.
  Registered(const void *memory, size_t size);
  Registered(Registered &&other) noexcept : start_(std::exchange(other.start_, 0)) {}
  Registered &operator=(Registered &&other) noexcept {
    std::swap(start_, other.start_);
    return *this;
  }
  ~Registered();
  explicit operator bool() const { return start_ != 0; }

 private:
  uintptr_t start_ = 0;
};

}  // namespace sightd
