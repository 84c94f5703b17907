#include "library.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>

#include "common.h"
#include "driver.h"
#include "log.h"

namespace sightd {

namespace {

using Factory = void *(*)(void *logger, int32_t version);
using ParserFactory = void *(*)(void *network, void *logger, int version);
using Version = int32_t (*)();

std::mutex mutex;
void *nvinfer = nullptr;
Factory create_builder = nullptr, create_runtime = nullptr;
ParserFactory create_parser = nullptr;
int32_t raw_version = 0;  // as the library writes it
int32_t found = 0, parser = 0;
std::string folder;  // of libnvinfer, where it was opened by a path; ends with /

// Until 8.x TensorRT wrote major × 1000.
int32_t normal(int32_t raw) {
  if (raw >= 100000) return raw;
  return raw / 1000 * 10000 + raw % 1000;
}

std::string text(int32_t version) {
  return format("%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

// The version to name to a factory, which refuses one newer than itself.
int32_t asked_version() {
  const int32_t own =
      NV_TENSORRT_MAJOR >= 10 ? compiled_version
                              : NV_TENSORRT_MAJOR * 1000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;
  return std::min(own, raw_version);
}

const char *why_not() {
  const char *why = dlerror();
  return why != nullptr ? why : "the loader gives no reason";
}

template <class T> T symbol(void *library, const char *library_name, const char *name) {
  void *address = dlsym(library, name);
  if (address == nullptr) fail(SIGHTD_TRT_MISSING, "%s has no %s: it isn't TensorRT's", library_name, name);
  return reinterpret_cast<T>(address);
}

// Opens a library of TensorRT: beside libnvinfer, where that was opened by its path,
// else where the loader finds it. Null where neither has it.
void *open_sibling(const std::string &name) {
  if (!folder.empty())
    if (void *library = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  return dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
}

// A factory that fails may return anything but null, so an error that is logged
// meanwhile counts, and then the pointer isn't touched.
template <class T> T *made(void *object, const Call &call, const char *what) {
  if (object != nullptr && !call.failed()) return static_cast<T *>(object);
  const std::string said = call.errors();
  const bool old = said.find("insufficient") != std::string::npos || said.find("error: 35") != std::string::npos;
  if (old)
    fail(SIGHTD_TRT_NO_DEVICE, "NVIDIA's driver, which takes %s at most, is too old for TensorRT %s: install a newer one (%s)",
         cuda_name(driver_version()).c_str(), text(found).c_str(), said.c_str());
  const bool memory = said.find("ut of memory") != std::string::npos || said.find("OutOfMemory") != std::string::npos;
  call.fail(memory ? SIGHTD_TRT_MEMORY : SIGHTD_TRT_FAILED, what);
}

}  // namespace

void open_nvinfer(const char *given) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (nvinfer != nullptr) return;
  const std::string name =
      given != nullptr && *given != '\0' ? given : format("libnvinfer.so.%d", static_cast<int>(NV_TENSORRT_MAJOR));
  void *library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail(SIGHTD_TRT_MISSING, "TensorRT %d can't be opened: %s", static_cast<int>(NV_TENSORRT_MAJOR), why_not());
  const auto version = symbol<Version>(library, name.c_str(), "getInferLibVersion");
  const auto builder = dlsym(library, "createInferBuilder_INTERNAL");
  const auto runtime = symbol<Factory>(library, name.c_str(), "createInferRuntime_INTERNAL");
  raw_version = version();
  found = normal(raw_version);
  // It stays open whatever comes: closing TensorRT again isn't safe.
  if (found / 10000 != NV_TENSORRT_MAJOR)
    fail(SIGHTD_TRT_VERSION, "%s is TensorRT %s, and this library is made for %d: take libsightd-trt%d.so", name.c_str(),
         text(found).c_str(), static_cast<int>(NV_TENSORRT_MAJOR), found / 10000);
  if (found < 80500)
    fail(SIGHTD_TRT_VERSION, "%s is TensorRT %s, and sightd needs 8.5 or newer", name.c_str(), text(found).c_str());
  create_builder = reinterpret_cast<Factory>(builder);
  create_runtime = runtime;
  if (name.find('/') != std::string::npos) {
    link_map *map = nullptr;
    if (dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr && map->l_name != nullptr) {
      folder = map->l_name;
      folder.resize(folder.rfind('/') + 1);
    }
  }
  nvinfer = library;
}

int32_t found_version() {
  const std::lock_guard<std::mutex> lock(mutex);
  return found;
}

int32_t parser_version() {
  const std::lock_guard<std::mutex> lock(mutex);
  return parser;
}

nvinfer1::IRuntime &runtime(int32_t dla_core) {
  cuda();  // no factory before there is a device: without one they crash
  const std::lock_guard<std::mutex> lock(mutex);
  if (create_runtime == nullptr) fail(SIGHTD_TRT_ARGUMENT, "TensorRT isn't open: sightd_trt_open");
  static auto *runtimes = new std::map<int32_t, nvinfer1::IRuntime *>;
  const auto known = runtimes->find(dla_core);
  if (known != runtimes->end()) return *known->second;
  const Call call;
  auto *made_runtime = made<nvinfer1::IRuntime>(create_runtime(&Log::instance(), asked_version()), call,
                                                "TensorRT's runtime can't be made");
  if (dla_core >= 0) {
    const int32_t cores = made_runtime->getNbDLACores();
    if (dla_core >= cores) {
      delete made_runtime;
      fail(SIGHTD_TRT_UNSUPPORTED, "DLA core %d is asked for, and TensorRT %s counts %d here", dla_core,
           text(found).c_str(), cores);
    }
    made_runtime->setDLACore(dla_core);
  }
  (*runtimes)[dla_core] = made_runtime;
  return *made_runtime;
}

std::unique_ptr<nvinfer1::IBuilder> make_builder() {
#if NV_TENSORRT_MAJOR >= 10
  runtime(-1);  // where CUDA doesn't work it says so, and 10.6's builder aborts
#else
  cuda();
#endif
  const std::lock_guard<std::mutex> lock(mutex);
  if (nvinfer == nullptr) fail(SIGHTD_TRT_ARGUMENT, "TensorRT isn't open: sightd_trt_open");
  if (create_builder == nullptr)
    fail(SIGHTD_TRT_MISSING, "this libnvinfer runs engines alone, it can't build them: install TensorRT in full");
  // TensorRT looks for its kernels by name alone, which fails where it was opened by a
  // path that the loader doesn't search: opened before, they are found.
  if (!folder.empty())
    dlopen(format("%slibnvinfer_builder_resource.so.%s", folder.c_str(), text(found).c_str()).c_str(),
           RTLD_NOW | RTLD_LOCAL);
  const Call call;
  return std::unique_ptr<nvinfer1::IBuilder>(made<nvinfer1::IBuilder>(
      create_builder(&Log::instance(), asked_version()), call, "TensorRT's builder can't be made"));
}

std::unique_ptr<nvonnxparser::IParser> make_parser(nvinfer1::INetworkDefinition &network) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (create_parser == nullptr) {
    const std::string name = format("libnvonnxparser.so.%d", static_cast<int>(NV_TENSORRT_MAJOR));
    void *library = open_sibling(name);
    if (library == nullptr)
      fail(SIGHTD_TRT_MISSING, "TensorRT's ONNX parser, which a build needs, can't be opened: %s", why_not());
    const auto factory = symbol<ParserFactory>(library, name.c_str(), "createNvOnnxParser_INTERNAL");
    const auto version = symbol<Version>(library, name.c_str(), "getNvOnnxParserVersion");
    parser = version();
    create_parser = factory;
  }
  const Call call;
  return std::unique_ptr<nvonnxparser::IParser>(
      made<nvonnxparser::IParser>(create_parser(&network, &Log::instance(), NV_ONNX_PARSER_VERSION), call,
                                  "TensorRT's ONNX parser can't be made"));
}

bool loader_finds(const char *const *names) {
  for (; *names != nullptr; names++)
    if (void *library = dlopen(*names, RTLD_LAZY | RTLD_LOCAL)) {
      dlclose(library);
      return true;
    }
  return false;
}

}  // namespace sightd
