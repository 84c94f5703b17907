// The functions of the C interface: they check what is given, and turn whatever is
// thrown into a status and a message.
#include <cstdlib>
#include <cstring>
#include <new>

#include "build.h"
#include "driver.h"
#include "engine.h"
#include "library.h"
#include "log.h"
#include "progress.h"

namespace {

using namespace sightd;

template <class F> int32_t guarded(char *message, size_t message_size, F what) noexcept {
  int32_t status = SIGHTD_TRT_FAILED;
  try {
    what();
    copy_text(message, message_size, "");
    return SIGHTD_TRT_OK;
  } catch (const Failure &f) {
    copy_text(message, message_size, f.message.c_str());
    return f.status;
  } catch (const std::bad_alloc &) {
    copy_text(message, message_size, "no memory left");
    return SIGHTD_TRT_MEMORY;
  } catch (const std::exception &e) {
    copy_text(message, message_size, e.what());
  } catch (...) {
    copy_text(message, message_size, "an exception without a message");
  }
  return status;
}

template <class T> T &given(T *p, const char *name) {
  if (p == nullptr) fail(SIGHTD_TRT_ARGUMENT, "%s isn't given", name);
  return *p;
}

// Clears what a caller's struct is filled with, but not what a newer caller has behind it.
template <class T> void clear(T *s) {
  const size_t size = s->size;
  memset(s, 0, sizeof *s);
  s->size = size;
}

void copy_uuid(const Driver &c, char *to, size_t size) {
  CUuuid id{};
  if (c.get_uuid == nullptr || c.get_uuid(&id, c.device) != CUDA_SUCCESS) return;
  std::string text = "GPU-";
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += format("%02x", static_cast<unsigned>(static_cast<unsigned char>(id.bytes[i])));
  }
  copy_text(to, size, text.c_str());
}

}  // namespace

int32_t sightd_trt_abi(void) { return SIGHTD_TRT_ABI; }

int32_t sightd_trt_open(const char *nvinfer, char *message, size_t message_size) {
  return guarded(message, message_size, [&] {
    open_driver();  // first: TensorRT's libraries run code as they are opened
    open_nvinfer(nvinfer);
  });
}

int32_t sightd_trt_get_version(struct sightd_trt_version *v) {
  return guarded(nullptr, 0, [&] {
    check_size(v, "version");
    clear(v);
    v->compiled = compiled_version;
    v->found = found_version();
    v->parser = parser_version();
    const int32_t driver = driver_version();
    v->cuda = driver / 1000 * 10000 + driver % 1000 / 10 * 100;
  });
}

int32_t sightd_trt_get_device(struct sightd_trt_device *d, char *message, size_t message_size) {
  return guarded(message, message_size, [&] {
    check_size(d, "device");
    clear(d);
    const Driver &c = cuda();
    const auto attribute = [&](CUdevice_attribute which) {
      int value = 0;
      check(c.cuDeviceGetAttribute(&value, which, c.device), "asking the GPU for its kind");
      return value;
    };
    check(c.cuDeviceGetName(d->name, sizeof d->name, c.device), "asking the GPU for its name");
    d->major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    d->minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    d->integrated = attribute(CU_DEVICE_ATTRIBUTE_INTEGRATED);
    size_t free_bytes = 0, total = 0;
    check(c.cuMemGetInfo_v2(&free_bytes, &total), "asking the GPU for its memory");
    d->memory = total;
    d->free = free_bytes;
    copy_uuid(c, d->uuid, sizeof d->uuid);
    d->dla_cores = runtime(-1).getNbDLACores();
  });
}

int32_t sightd_trt_next_log(int32_t *severity, char *line, size_t line_size, uint64_t *dropped) {
  int32_t level = 0;
  std::string text;
  uint64_t lost = 0;
  bool found = false;
  guarded(nullptr, 0, [&] { found = Log::instance().next(&level, &text, &lost); });
  if (severity != nullptr) *severity = level;
  if (dropped != nullptr) *dropped = lost;
  copy_text(line, line_size, text.c_str());
  return found ? 1 : 0;
}

int32_t sightd_trt_build(const struct sightd_trt_job *job, struct sightd_trt_built *built, char *message,
                         size_t message_size) {
  const int32_t status = guarded(message, message_size, [&] {
    check_size(job, "job");
    check_size(built, "built");
    clear(built);
    build(*job, *built);
  });
  if (status != SIGHTD_TRT_OK && built != nullptr && built->size >= sizeof *built) {
    sightd_trt_free(&built->plan);
    sightd_trt_free(&built->timing_cache);
    sightd_trt_free(&built->cache);
    sightd_trt_free(&built->dla);
  }
  return status;
}

int32_t sightd_trt_get_progress(struct sightd_trt_progress *p) {
  return guarded(nullptr, 0, [&] {
    check_size(p, "progress");
    clear(p);
    std::string phase;
    Progress::instance().get(&phase, &p->step, &p->steps);
    copy_text(p->phase, sizeof p->phase, phase.c_str());
  });
}

int32_t sightd_trt_cancel(void) { return cancel() ? 1 : 0; }

int32_t sightd_trt_load_engine(const struct sightd_trt_load *l, sightd_trt_engine **engine, char *message,
                               size_t message_size) {
  return guarded(message, message_size, [&] {
    given(engine, "engine") = nullptr;
    check_size(l, "load");
    *engine = load(*l).release();
  });
}

int32_t sightd_trt_get_engine_info(const sightd_trt_engine *engine, struct sightd_trt_engine_info *info) {
  return guarded(nullptr, 0, [&] {
    given(engine, "engine");
    check_size(info, "info");
    clear(info);
    describe_engine(*engine, *info);
  });
}

int32_t sightd_trt_inspect(sightd_trt_engine *engine, struct sightd_trt_buffer *json, char *message,
                           size_t message_size) {
  return guarded(message, message_size, [&] {
    given(json, "json") = {nullptr, 0};
    inspect(given(engine, "engine"), *json);
  });
}

void sightd_trt_unload(sightd_trt_engine *engine) {
  if (engine == nullptr) return;
  guarded(nullptr, 0, [&] {
    try {
      cuda();
    } catch (const Failure &) {  // freed all the same, as far as it goes
    }
    unload(engine);
  });
}

int32_t sightd_trt_bind(sightd_trt_engine *engine, const uint8_t *pixels, size_t pixels_size, int32_t images,
                        sightd_trt_binding **binding, const float **scores, char *message, size_t message_size) {
  return guarded(message, message_size, [&] {
    given(binding, "binding") = nullptr;
    given(scores, "scores") = nullptr;
    *binding = bind(given(engine, "engine"), pixels, pixels_size, images).release();
    *scores = (*binding)->scores.data();
  });
}

int32_t sightd_trt_get_binding_info(const sightd_trt_binding *binding, struct sightd_trt_binding_info *info) {
  return guarded(nullptr, 0, [&] {
    given(binding, "binding");
    check_size(info, "info");
    clear(info);
    info->registered = binding->registered ? 1 : 0;
    info->graphs = binding->launched ? 1 : 0;
  });
}

void sightd_trt_unbind(sightd_trt_binding *binding) {
  if (binding == nullptr) return;
  guarded(nullptr, 0, [&] { unbind(binding); });
}

int32_t sightd_trt_gather(sightd_trt_binding *binding, int32_t image, const sightd_trt_binding *from, char *message,
                          size_t message_size) {
  return guarded(message, message_size, [&] { gather(given(binding, "binding"), image, from); });
}

int32_t sightd_trt_start(sightd_trt_binding *binding, int32_t lane, char *message, size_t message_size) {
  return guarded(message, message_size, [&] { start(given(binding, "binding"), lane); });
}

int32_t sightd_trt_wait(sightd_trt_binding *binding, char *message, size_t message_size) {
  return guarded(message, message_size, [&] { wait(given(binding, "binding")); });
}

void sightd_trt_free(struct sightd_trt_buffer *buffer) {
  if (buffer == nullptr) return;
  free(buffer->data);
  buffer->data = nullptr;
  buffer->size = 0;
}
