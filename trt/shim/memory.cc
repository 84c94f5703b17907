#include "memory.h"

#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

namespace sightd {

namespace {

// For destructors, which can't throw: null where CUDA can't be used, and what it holds is
// lost until the process ends.
const Driver *usable() {
  try {
    return &cuda();
  } catch (const Failure &) {
    return nullptr;
  }
}

struct Range {
  size_t size;
  int users;
};

std::mutex mutex;

std::map<uintptr_t, Range> &ranges() {
  static auto *all = new std::map<uintptr_t, Range>;
  return *all;
}

}  // namespace

void free_device(CUdeviceptr p) {
  if (const Driver *c = usable()) c->cuMemFree_v2(p);
}
void free_pinned(void *p) {
  if (const Driver *c = usable()) c->cuMemFreeHost(p);
}
void free_stream(CUstream s) {
  if (const Driver *c = usable()) c->cuStreamDestroy_v2(s);
}
void free_event(CUevent e) {
  if (const Driver *c = usable()) c->cuEventDestroy_v2(e);
}
void free_graph(CUgraph g) {
  if (const Driver *c = usable()) c->cuGraphDestroy(g);
}
void free_graph_exec(CUgraphExec g) {
  if (const Driver *c = usable()) c->cuGraphExecDestroy(g);
}

Device device_memory(size_t bytes) {
  const Driver &c = cuda();
  CUdeviceptr p = 0;
  check(c.cuMemAlloc_v2(&p, bytes), format("allocating %zu bytes on the GPU", bytes).c_str());
  Device memory(p);
  check(c.cuMemsetD8_v2(p, 0, bytes), "clearing memory on the GPU");
  return memory;
}

Pinned pinned_memory(size_t bytes) {
  void *p = nullptr;
  check(cuda().cuMemHostAlloc(&p, bytes, CU_MEMHOSTALLOC_PORTABLE),
        format("allocating %zu bytes of pinned memory", bytes).c_str());
  Pinned memory(p);
  memset(p, 0, bytes);
  return memory;
}

Stream new_stream() {
  CUstream s = nullptr;
  check(cuda().cuStreamCreate(&s, CU_STREAM_NON_BLOCKING), "making a stream");
  return Stream(s);
}

Event new_event() {
  CUevent e = nullptr;
  check(cuda().cuEventCreate(&e, CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING), "making an event");
  return Event(e);
}

Registered::Registered(const void *memory, size_t size) {
  const Driver &c = cuda();
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t from = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t start = from / page * page;
  const uintptr_t end = (from + size + page - 1) / page * page;
  const std::lock_guard<std::mutex> lock(mutex);
  auto next = ranges().upper_bound(start);
  if (next != ranges().begin()) {
    auto &[first, range] = *std::prev(next);
    if (end <= first + range.size) {
      range.users++;
      start_ = first;
      return;
    }
  }
  // One that overlaps in part is refused by CUDA, and a copy must not span two.
  void *p = reinterpret_cast<void *>(start);
  CUresult result = c.cuMemHostRegister_v2(p, end - start, CU_MEMHOSTREGISTER_PORTABLE);
  if (result != CUDA_SUCCESS && result != CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED)
    // 8 is CU_MEMHOSTREGISTER_READ_ONLY: a mapping that may not be written.
    result = c.cuMemHostRegister_v2(p, end - start, CU_MEMHOSTREGISTER_PORTABLE | 8);
  if (result != CUDA_SUCCESS) return;
  ranges()[start] = {end - start, 1};
  start_ = start;
}

Registered::~Registered() {
  if (start_ == 0) return;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = ranges().find(start_);
  if (found == ranges().end() || --found->second.users > 0) return;
  ranges().erase(found);
  if (const Driver *c = usable()) c->cuMemHostUnregister(reinterpret_cast<void *>(start_));
}

}  // namespace sightd
