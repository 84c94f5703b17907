#include "build.h"

#include <mutex>

#include "calibrator.h"
#include "library.h"
#include "log.h"
#include "network.h"
#include "progress.h"

namespace sightd {

using nvinfer1::BuilderFlag;
using nvinfer1::IBuilder;
using nvinfer1::IBuilderConfig;
using nvinfer1::INetworkDefinition;
using nvinfer1::MemoryPoolType;

namespace {

void check_job(const sightd_trt_job &job) {
  if (job.onnx == nullptr || job.onnx_size == 0) fail(SIGHTD_TRT_ARGUMENT, "there is no ONNX model to build");
  if (job.batch < 1) fail(SIGHTD_TRT_ARGUMENT, "a batch of %d images is asked for", job.batch);
  if (job.keep_count < 0 || (job.keep_count > 0 && job.keep == nullptr))
    fail(SIGHTD_TRT_ARGUMENT, "%d tensors to keep in floating point aren't given", job.keep_count);
  if (job.images < -1) fail(SIGHTD_TRT_ARGUMENT, "%d is no file of calibration images", job.images);
  if (job.channel_count < 0 || job.channel_count > 3 || (job.channel_count > 0 && job.table == nullptr))
    fail(SIGHTD_TRT_ARGUMENT, "a table of %d channels can't be used", job.channel_count);
  for (int32_t i = 0; i < job.channel_count; i++)
    if (job.channels[i] < 0 || job.channels[i] > 2)
      fail(SIGHTD_TRT_ARGUMENT, "channel %d is of byte %d of a pixel, which has 3", i, job.channels[i]);
  if ((job.cache_size > 0 || job.images >= 0) && job.calibrator == SIGHTD_TRT_NO_CALIBRATOR)
    fail(SIGHTD_TRT_ARGUMENT, "a calibration is asked for without a kind of calibrator");
  if (job.calibrator != SIGHTD_TRT_NO_CALIBRATOR && !job.int8)
    fail(SIGHTD_TRT_ARGUMENT, "a calibrator is of use with int8 alone");
  if (job.strongly_typed && (job.int8 || job.fp16))
    fail(SIGHTD_TRT_ARGUMENT, "a strongly typed build takes its types from the graph alone: no int8, no fp16");
#if NV_TENSORRT_MAJOR >= 11
  if (job.int8 || job.fp16)
    fail(SIGHTD_TRT_UNSUPPORTED,
         "TensorRT %d has no calibration and no choice of precision: quantise the graph by Q/DQ nodes and build it "
         "strongly typed",
         NV_TENSORRT_MAJOR);
#elif NV_TENSORRT_MAJOR < 10
  if (job.strongly_typed)
    fail(SIGHTD_TRT_UNSUPPORTED, "TensorRT %d builds no strongly typed network: that begins with 10", NV_TENSORRT_MAJOR);
#endif
}

std::unique_ptr<INetworkDefinition> make_network(IBuilder &builder, const sightd_trt_job &job) {
  uint32_t flags = 0;
#if NV_TENSORRT_MAJOR < 10
  flags |= 1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#elif NV_TENSORRT_MAJOR < 11
  if (job.strongly_typed) flags |= 1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#endif
  (void)job;
  const Call call;
  std::unique_ptr<INetworkDefinition> network(builder.createNetworkV2(flags));
  if (network == nullptr) call.fail(SIGHTD_TRT_FAILED, "TensorRT makes no network");
  return network;
}

// 8.x tries kernels of cuBLAS and cuDNN, and fails where it can't open them.
void choose_tactics(IBuilderConfig &config) {
#if NV_TENSORRT_MAJOR < 10
  static const char *const cublas[] = {"libcublas.so.12", "libcublas.so.11", nullptr};
  static const char *const cublas_lt[] = {"libcublasLt.so.12", "libcublasLt.so.11", nullptr};
  static const char *const cudnn[] = {"libcudnn.so.8", nullptr};
  const auto bit = [](nvinfer1::TacticSource s) { return 1U << static_cast<uint32_t>(s); };
  uint32_t sources = config.getTacticSources();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  if (!loader_finds(cublas)) sources &= ~bit(nvinfer1::TacticSource::kCUBLAS);
  if (!loader_finds(cublas_lt)) sources &= ~bit(nvinfer1::TacticSource::kCUBLAS_LT);
  if (!loader_finds(cudnn)) sources &= ~bit(nvinfer1::TacticSource::kCUDNN);
#pragma GCC diagnostic pop
  config.setTacticSources(sources);
#else
  (void)config;
#endif
}

void set_limits(IBuilderConfig &config, const sightd_trt_job &job) {
  if (job.workspace > 0) config.setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, job.workspace);
  const bool from_8_6 = found_version() >= 80600;
  (void)from_8_6;
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 6
  // Headers of 8.6 serve 8.5 too, where functions appended since aren't there to call.
  if (job.tactic_memory > 0 && from_8_6) config.setMemoryPoolLimit(MemoryPoolType::kTACTIC_DRAM, job.tactic_memory);
  const int32_t level = job.optimisation >= 0 ? job.optimisation : job.force_int8 ? 0 : -1;
  if (level >= 0 && from_8_6) config.setBuilderOptimizationLevel(level);
#endif
  config.setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED);
}

// Returns whether the given timing cache couldn't be used.
bool set_timing_cache(IBuilderConfig &config, const sightd_trt_job &job, std::unique_ptr<nvinfer1::ITimingCache> &cache) {
  bool refused = false;
  if (job.timing_cache != nullptr && job.timing_cache_size > 0) {
    const Muted muted;
    cache.reset(config.createTimingCache(job.timing_cache, job.timing_cache_size));
    if (cache != nullptr && config.setTimingCache(*cache, false)) return false;
    refused = true;
  }
  cache.reset(config.createTimingCache(nullptr, 0));
  if (cache != nullptr) config.setTimingCache(*cache, false);
  return refused;
}

nvinfer1::IOptimizationProfile *profile(IBuilder &builder, const Input &input, int32_t least, int32_t best, int32_t most) {
  nvinfer1::IOptimizationProfile *made = builder.createOptimizationProfile();
  if (made == nullptr) fail(SIGHTD_TRT_FAILED, "TensorRT makes no optimisation profile");
  const auto set = [&](nvinfer1::OptProfileSelector which, int32_t images) {
    nvinfer1::Dims d = input.tensor->getDimensions();
    d.d[0] = images;
    return made->setDimensions(input.tensor->getName(), which, d);
  };
  if (!set(nvinfer1::OptProfileSelector::kMIN, least) || !set(nvinfer1::OptProfileSelector::kOPT, best) ||
      !set(nvinfer1::OptProfileSelector::kMAX, most))
    fail(SIGHTD_TRT_FAILED, "TensorRT takes no profile from %d to %d images", least, most);
  return made;
}

// Contexts that run beside each other share the profile, except in 8.5, where each needs
// one of its own: there are as many as an engine has lanes where Go doesn't say otherwise (trt.Lanes).
void add_profiles(IBuilder &builder, IBuilderConfig &config, const Input &input, int32_t batch) {
  constexpr int32_t lanes = 3;
  int32_t count = 1;
#if NV_TENSORRT_MAJOR < 10
  if (found_version() < 80600) count = lanes;
#if NV_TENSORRT_MINOR >= 6
  else config.setPreviewFeature(nvinfer1::PreviewFeature::kPROFILE_SHARING_0806, true);
#endif
#endif
  (void)lanes;
  for (int32_t i = 0; i < count; i++)
    if (config.addOptimizationProfile(profile(builder, input, 1, batch, batch)) < 0)
      fail(SIGHTD_TRT_FAILED, "TensorRT takes no profile from 1 to %d images", batch);
}

void set_dla(IBuilder &builder, IBuilderConfig &config, INetworkDefinition &network, const sightd_trt_job &job,
             sightd_trt_built &built) {
  const int32_t cores = builder.getNbDLACores();
  if (job.dla_core >= cores)
    fail(SIGHTD_TRT_UNSUPPORTED, "DLA core %d is asked for, and TensorRT counts %d here", job.dla_core, cores);
  config.setDefaultDeviceType(nvinfer1::DeviceType::kDLA);
  config.setDLACore(job.dla_core);
  if (job.gpu_fallback) config.setFlag(BuilderFlag::kGPU_FALLBACK);
  std::string lines;
  {
    const Muted muted;  // why not is logged again by the build itself
    for (int32_t i = 0; i < network.getNbLayers(); i++) {
      std::string name = network.getLayer(i)->getName();
      for (char &c : name)
        if (c == '\n') c = ' ';
      lines += format("%d %s\n", config.canRunOnDLA(network.getLayer(i)) ? 1 : 0, name.c_str());
    }
  }
  fill(&built.dla, lines.data(), lines.size());
}

// Throws what it means that the builder gave no plan.
[[noreturn]] void no_plan(const Call &call, const sightd_trt_job &job) {
  const std::string errors = call.errors();
  const auto says = [&](const char *word) { return errors.find(word) != std::string::npos; };
  if (Progress::instance().cancelled()) fail(SIGHTD_TRT_CANCELLED, "the build was cancelled");
  int32_t status = SIGHTD_TRT_FAILED;
  if (says("ut of memory") || says("OutOfMemory") || says("bad_alloc")) status = SIGHTD_TRT_MEMORY;
  else if (job.dla_core >= 0 && !job.gpu_fallback && says("DLA")) status = SIGHTD_TRT_UNSUPPORTED;
  else if (job.calibrator != SIGHTD_TRT_NO_CALIBRATOR && (says("alibrat") || says("caling factor")))
    status = SIGHTD_TRT_CACHE;
  call.fail(status, "TensorRT can't build the engine");
}

void check_calibration(const Call &call, const Feed *feed) {
  if (feed == nullptr) return;
  if (feed->refused()) {
    const std::string reason = call.mentions("alibration table");
    fail(SIGHTD_TRT_CACHE, "TensorRT refused the calibration cache and asked for images: %s",
         reason.empty() ? call.mentions("alibrat").c_str() : reason.c_str());
  }
  if (!feed->trouble().empty()) fail(SIGHTD_TRT_CACHE, "the calibration failed: %s", feed->trouble().c_str());
}

void build_one(const sightd_trt_job &job, sightd_trt_built &built) {
  Progress &progress = Progress::instance();
  progress.begin();
  progress.phase("parse");
  const Call call;
  const auto builder = make_builder();
  // What the network and the configuration point to has to outlive the build: weights of
  // the parser, the calibrator, the timing cache. They go in the reverse order.
  const auto network = make_network(*builder, job);
  const auto parser = parse(*network, job);
  const Input input = find_input(*network, job);
  // TensorRT would make up ranges, and the engine come out decent-looking and wrong.
  if (job.int8 && job.calibrator == SIGHTD_TRT_NO_CALIBRATOR && !has_quantisation(*network))
    fail(SIGHTD_TRT_CACHE, "INT8 is asked for with neither a calibration cache nor images nor Q/DQ nodes in the graph");
  std::unique_ptr<Feed> feed;
#if NV_TENSORRT_MAJOR < 11
  std::unique_ptr<Calibrator> calibrator;
#endif
  std::unique_ptr<nvinfer1::ITimingCache> timing;
  const std::unique_ptr<IBuilderConfig> config(builder->createBuilderConfig());
  if (config == nullptr) call.fail(SIGHTD_TRT_FAILED, "TensorRT makes no builder configuration");
  set_limits(*config, job);
  choose_tactics(*config);
  if (input.open_batch) add_profiles(*builder, *config, input, job.batch);
#if NV_TENSORRT_MAJOR < 11
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  if (job.int8) config->setFlag(BuilderFlag::kINT8);
  if (job.fp16) config->setFlag(BuilderFlag::kFP16);
  if (job.calibrator != SIGHTD_TRT_NO_CALIBRATOR) {
    feed = std::make_unique<Feed>(job, input.batch, input.height, input.width);
    calibrator = make_calibrator(job.calibrator, *feed);
    config->setInt8Calibrator(calibrator.get());
    if (input.open_batch) config->setCalibrationProfile(profile(*builder, input, 1, 1, 1));
  }
  if (set_precisions(*network, job)) config->setFlag(BuilderFlag::kPREFER_PRECISION_CONSTRAINTS);
#pragma GCC diagnostic pop
#endif
  if (job.direct_input) direct_input(*network, input, job);
  if (job.dla_core >= 0) set_dla(*builder, *config, *network, job, built);
  built.timing_refused = set_timing_cache(*config, job, timing) ? 1 : 0;
#if NV_TENSORRT_MAJOR >= 10
  config->setProgressMonitor(&progress);
#endif
  if (progress.cancelled()) fail(SIGHTD_TRT_CANCELLED, "the build was cancelled");
  progress.phase("build");
  const std::unique_ptr<nvinfer1::IHostMemory> plan(builder->buildSerializedNetwork(*network, *config));
  progress.phase("serialise");
  // Also where a plan came out: without scales it would be decent-looking and wrong.
  if (!progress.cancelled()) check_calibration(call, feed.get());
  if (plan == nullptr || plan->size() == 0 || progress.cancelled()) no_plan(call, job);
  fill(&built.plan, plan->data(), plan->size());
  if (const nvinfer1::ITimingCache *used = config->getTimingCache())
    if (const std::unique_ptr<nvinfer1::IHostMemory> bytes{used->serialize()})
      fill(&built.timing_cache, bytes->data(), bytes->size());
  if (feed == nullptr) return;
  const std::vector<char> table = feed->written();
  if (!table.empty()) fill(&built.cache, table.data(), table.size());
}

std::mutex building;

}  // namespace

void build(const sightd_trt_job &job, sightd_trt_built &built) {
  const std::unique_lock<std::mutex> one(building, std::try_to_lock);
  if (!one.owns_lock()) fail(SIGHTD_TRT_ARGUMENT, "another build is under way in this process");
  check_job(job);
  cuda();
  build_one(job, built);
}

bool cancel() {
  Progress::instance().cancel();
  return NV_TENSORRT_MAJOR >= 10;
}

}  // namespace sightd
