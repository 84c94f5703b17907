//go:build ignore

// The double of sightd's library for TensorRT: the C ABI of abi/sightd_trt.h.
#include <cstdlib>

#include "double.h"

using namespace sightd_double;

extern "C" {

int32_t sightd_trt_abi(void) { return SIGHTD_TRT_DOUBLE_ABI; }

int32_t sightd_trt_open(const char *nvinfer, char *message, size_t size) {
  return call(message, size, [&] {
    require(nvinfer != nullptr, "no name");
    suffer(script(), "open");
    std::lock_guard<std::mutex> lock(state_mutex);
    opened = true;
  });
}

int32_t sightd_trt_get_version(sightd_trt_version *v) {
  char message[256];
  return call(message, sizeof message, [&] {
    require(v != nullptr && v->size == sizeof *v, "wrong size of struct");
    Script s = script();
    v->compiled = s.compiled, v->found = s.version, v->parser = s.version, v->cuda = s.cuda;
  });
}

int32_t sightd_trt_get_device(sightd_trt_device *d, char *message, size_t size) {
  return call(message, size, [&] {
    require(d != nullptr && d->size == sizeof *d, "wrong size of struct");
    need_open();
    Script s = script();
    suffer(s, "device");
    snprintf(d->name, sizeof d->name, "%s", s.device.c_str());
    snprintf(d->uuid, sizeof d->uuid, "%s", s.uuid.c_str());
    d->major = s.major, d->minor = s.minor, d->integrated = s.integrated, d->dla_cores = s.cores;
    d->memory = s.memory, d->free = s.memory - std::min<uint64_t>(in_use, s.memory);
  });
}

int32_t sightd_trt_next_log(int32_t *severity, char *line, size_t size, uint64_t *dropped) {
  if (severity == nullptr || line == nullptr || size == 0 || dropped == nullptr) return 0;
  Log &log = logged();
  std::lock_guard<std::mutex> lock(log.mutex);
  *dropped = log.dropped;
  *line = '\0';
  if (log.lines.empty()) return 0;
  *severity = log.lines.front().first;
  snprintf(line, size, "%s", log.lines.front().second.c_str());
  log.lines.pop_front();
  return 1;
}

int32_t sightd_trt_build(const sightd_trt_job *j, sightd_trt_built *b, char *message, size_t size) {
  return call(message, size, [&] {
    require(j != nullptr && j->size == sizeof *j && b != nullptr && b->size == sizeof *b, "wrong size of struct");
    need_open();
    require(!building.exchange(true), "a build is under way");
    struct End {
      ~End() { building = false, cancelled = false; }
    } end;
    *b = {};
    b->size = sizeof *b;
    build(*j, *b);
  });
}

int32_t sightd_trt_get_progress(sightd_trt_progress *p) {
  if (p == nullptr || p->size != sizeof *p) return SIGHTD_TRT_ARGUMENT;
  std::lock_guard<std::mutex> lock(now.mutex);
  snprintf(p->phase, sizeof p->phase, "%s", now.phase.c_str());
  p->step = now.step, p->steps = now.steps;
  return SIGHTD_TRT_OK;
}

int32_t sightd_trt_cancel(void) {
  cancelled = true;
  char message[256];
  bool deaf = false, old = false;
  call(message, sizeof message, [&] {
    Script s = script();
    deaf = s.deaf, old = s.version < 100000;
  });
  return deaf || !old;
}

int32_t sightd_trt_load_engine(const sightd_trt_load *l, sightd_trt_engine **e, char *message, size_t size) {
  return call(message, size, [&] {
    require(l != nullptr && l->size == sizeof *l && e != nullptr, "wrong size of struct");
    need_open();
    *e = nullptr;
    *e = load(*l);
  });
}

int32_t sightd_trt_get_engine_info(const sightd_trt_engine *e, sightd_trt_engine_info *i) {
  if (e == nullptr || i == nullptr || i->size != sizeof *i) return SIGHTD_TRT_ARGUMENT;
  i->batch = e->plan.batch, i->height = e->plan.height, i->width = e->plan.width, i->classes = e->plan.classes;
  i->input_type = e->plan.direct ? SIGHTD_TRT_INT8 : SIGHTD_TRT_UINT8;
  i->output_type = e->plan.direct ? SIGHTD_TRT_HALF : SIGHTD_TRT_FLOAT;
  i->lanes = static_cast<int32_t>(e->lanes.size()), i->device_memory = e->memory;
  return SIGHTD_TRT_OK;
}

int32_t sightd_trt_inspect(sightd_trt_engine *e, sightd_trt_buffer *b, char *message, size_t size) {
  return call(message, size, [&] {
    require(e != nullptr && b != nullptr, "no engine");
    give(*b, inspect(*e));
  });
}

void sightd_trt_unload(sightd_trt_engine *e) {
  if (e == nullptr) return;
  while (!e->bindings.empty()) sightd_trt_unbind(*e->bindings.begin());
  in_use -= e->memory;
  delete e;
}

int32_t sightd_trt_bind(sightd_trt_engine *e, const uint8_t *pixels, size_t pixels_size, int32_t images, sightd_trt_binding **made,
                        const float **scores, char *message, size_t size) {
  return call(message, size, [&] {
    require(e != nullptr && pixels != nullptr && made != nullptr && scores != nullptr, "no engine, pixels or results");
    Script s = script();
    suffer(s, "bind");
    require(images >= 1 && images <= e->plan.batch, "more images than the engine's batch, or none");
    require(pixels_size == static_cast<size_t>(images) * static_cast<size_t>(e->plan.height) * static_cast<size_t>(e->plan.width) * 3,
            "wrong size of the pixels");
    auto *b = new sightd_trt_binding;
    b->engine = e, b->pixels = pixels, b->images = images, b->registered = s.registers, b->graphs = e->graphs;
    b->from.resize(static_cast<size_t>(images));
    b->scores.resize(static_cast<size_t>(images) * static_cast<size_t>(e->plan.classes));
    *made = b, *scores = b->scores.data();
    std::lock_guard<std::mutex> lock(e->mutex);
    e->bindings.insert(b);
  });
}

int32_t sightd_trt_get_binding_info(const sightd_trt_binding *b, sightd_trt_binding_info *i) {
  if (b == nullptr || i == nullptr || i->size != sizeof *i) return SIGHTD_TRT_ARGUMENT;
  i->registered = b->registered, i->graphs = b->graphs;
  return SIGHTD_TRT_OK;
}

void sightd_trt_unbind(sightd_trt_binding *b) {
  if (b == nullptr) return;
  if (b->lane >= 0) finish(*b);
  {
    std::lock_guard<std::mutex> lock(b->engine->mutex);
    b->engine->bindings.erase(b);
    for (sightd_trt_binding *other : b->engine->bindings)
      for (const sightd_trt_binding *&from : other->from)
        if (from == b) from = nullptr;
  }
  delete b;
}

int32_t sightd_trt_gather(sightd_trt_binding *b, int32_t image, const sightd_trt_binding *from, char *message, size_t size) {
  return call(message, size, [&] {
    require(b != nullptr, "no binding");
    if (image < 0 || image >= b->images)
      fail(SIGHTD_TRT_ARGUMENT, "image " + std::to_string(image) + " is asked for: 0 to " + std::to_string(b->images - 1));
    require(b->lane < 0, "the binding is still running");
    require(from == nullptr || from->engine == b->engine, "an image is gathered from a binding of another engine");
    require(from == nullptr || from->images == 1, "an image is gathered from a binding of several images");
    b->from[static_cast<size_t>(image)] = from;
  });
}

int32_t sightd_trt_start(sightd_trt_binding *b, int32_t lane, char *message, size_t size) {
  return call(message, size, [&] {
    require(b != nullptr, "no binding");
    sightd_trt_engine &e = *b->engine;
    require(lane >= 0 && lane < static_cast<int32_t>(e.lanes.size()), "no such lane");
    Script s = script();
    suffer(s, "run");
    std::lock_guard<std::mutex> lock(e.mutex);
    require(b->lane < 0, "the binding's last run hasn't been waited for");
    require(e.lanes[static_cast<size_t>(lane)] == nullptr, "the lane is busy");
    e.lanes[static_cast<size_t>(lane)] = b;
    b->lane = lane;
    b->ready = Clock::now();
    if (auto found = s.delays.find("run"); found != s.delays.end()) b->ready += found->second[0].time;
    b->failing = s.run_fails_after >= 0 && runs++ >= s.run_fails_after;
    b->failure = s.run_failure;
  });
}

#ifndef SIGHTD_TRT_DOUBLE_WITHOUT_WAIT
int32_t sightd_trt_wait(sightd_trt_binding *b, char *message, size_t size) {
  return call(message, size, [&] {
    require(b != nullptr && b->lane >= 0, "nothing was started");
    suffer(script(), "wait");
    finish(*b);
    if (b->failing) {
      logged().add(SIGHTD_TRT_ERROR, "IExecutionContext::enqueueV3: " + b->failure.text);
      fail(b->failure.status, b->failure.text);
    }
  });
}
#endif

void sightd_trt_free(sightd_trt_buffer *b) {
  if (b == nullptr) return;
  free(b->data);
  *b = {nullptr, 0};
}

}  // extern "C"
