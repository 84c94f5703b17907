// enqueue PLAN [--batch N] [--lanes N] [--seconds S] [--graphs]
//
// The least that runs an engine of TensorRT: a loop over enqueueV3, with the copies,
// streams and CUDA graphs that sightd has, and nothing else. What sightd is measured
// against where there is no trtexec. Prints one JSON document:
//
//   fps         images a second with all lanes busy
//   latency_us  of one run alone: copy in, compute, copy out, wait
//
// Built by scripts/gpu-kit.sh against the headers of one TensorRT.

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string &what) {
  std::fprintf(stderr, "enqueue: %s\n", what.c_str());
  std::exit(1);
}

void check(cudaError_t error, const char *what) {
  if (error != cudaSuccess) fail(std::string(what) + ": " + cudaGetErrorString(error));
}

class Logger : public nvinfer1::ILogger {
  void log(Severity severity, const char *text) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "tensorrt: %s\n", text);
  }
};

size_t bytes(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
    case nvinfer1::DataType::kINT32:
      return 4;
    case nvinfer1::DataType::kHALF:
      return 2;
    default:
      return 1;
  }
}

struct Tensor {
  std::string name;
  bool input;
  size_t size;
};

struct Copy {
  const Tensor *tensor;
  void *host, *device;
};

// One execution context with a stream and memory of its own.
struct Lane {
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  cudaStream_t stream{};
  cudaGraphExec_t graph{};
  std::vector<Copy> copies;

  void enqueue() {
    for (auto &c : copies)
      if (c.tensor->input)
        check(cudaMemcpyAsync(c.device, c.host, c.tensor->size, cudaMemcpyHostToDevice, stream), "copy in");
    if (!context->enqueueV3(stream)) fail("enqueueV3 failed");
    for (auto &c : copies)
      if (!c.tensor->input)
        check(cudaMemcpyAsync(c.host, c.device, c.tensor->size, cudaMemcpyDeviceToHost, stream), "copy out");
  }

  // Returns whether it worked; without, runs are enqueued one by one.
  bool capture() {
    cudaGraph_t made{};
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return false;
    enqueue();
    if (cudaStreamEndCapture(stream, &made) != cudaSuccess || made == nullptr) {
      (void)cudaGetLastError();
      return false;
    }
    bool done = cudaGraphInstantiateWithFlags(&graph, made, 0) == cudaSuccess;
    cudaGraphDestroy(made);
    return done;
  }

  void start() {
    if (graph != nullptr)
      check(cudaGraphLaunch(graph, stream), "launch");
    else
      enqueue();
  }

  void wait() { check(cudaStreamSynchronize(stream), "wait"); }
};

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

int main(int argc, char **argv) {
  std::string path;
  int batch = 1, lanes = 2;
  double seconds = 3;
  bool graphs = false;
  for (int i = 1; i < argc; i++) {
    std::string a = argv[i];
    if (a == "--graphs")
      graphs = true;
    else if (a == "--batch" && i + 1 < argc)
      batch = std::atoi(argv[++i]);
    else if (a == "--lanes" && i + 1 < argc)
      lanes = std::atoi(argv[++i]);
    else if (a == "--seconds" && i + 1 < argc)
      seconds = std::atof(argv[++i]);
    else if (path.empty() && a[0] != '-')
      path = a;
    else
      path.clear(), i = argc;
  }
  if (path.empty() || batch < 1 || lanes < 1 || seconds <= 0) {
    std::fprintf(stderr, "usage: enqueue PLAN [--batch N] [--lanes N] [--seconds S] [--graphs]\n");
    return 2;
  }
  std::ifstream file(path, std::ios::binary);
  std::vector<char> plan{std::istreambuf_iterator<char>(file), {}};
  if (plan.empty()) fail(path + ": can't be read, or is empty");
  int devices = 0;
  check(cudaGetDeviceCount(&devices), "no GPU");  // before a factory, which may crash without one

  static Logger logger;
  std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
  if (!runtime) fail("no runtime");
  std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(plan.data(), plan.size()));
  if (!engine) fail(path + ": isn't an engine for this TensorRT and GPU");

  std::vector<Tensor> tensors;
  std::vector<nvinfer1::Dims> shapes;
  for (int i = 0; i < engine->getNbIOTensors(); i++) {
    Tensor t{engine->getIOTensorName(i), false, 0};
    t.input = engine->getTensorIOMode(t.name.c_str()) == nvinfer1::TensorIOMode::kINPUT;
    auto d = engine->getTensorShape(t.name.c_str());
    t.size = bytes(engine->getTensorDataType(t.name.c_str()));
    for (int k = 0; k < d.nbDims; k++) {
      if (d.d[k] < 0) d.d[k] = batch;
      t.size *= static_cast<size_t>(d.d[k]);
    }
    if (d.nbDims > 0) batch = static_cast<int>(d.d[0]);
    tensors.push_back(t);
    shapes.push_back(d);
  }

  std::vector<Lane> all(static_cast<size_t>(lanes));
  for (auto &lane : all) {
    lane.context.reset(engine->createExecutionContext());
    if (!lane.context) fail("no execution context");
    check(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking), "stream");
    for (size_t i = 0; i < tensors.size(); i++) {
      Copy c{&tensors[i], nullptr, nullptr};
      check(cudaHostAlloc(&c.host, c.tensor->size, cudaHostAllocDefault), "pinned memory");
      check(cudaMalloc(&c.device, c.tensor->size), "device memory");
      auto *p = static_cast<unsigned char *>(c.host);
      for (size_t k = 0; k < c.tensor->size; k++) p[k] = static_cast<unsigned char>(k * 2654435761u >> 24);
      if (c.tensor->input && !lane.context->setInputShape(c.tensor->name.c_str(), shapes[i])) fail("the batch doesn't fit the engine");
      if (!lane.context->setTensorAddress(c.tensor->name.c_str(), c.device)) fail("no such tensor");
      lane.copies.push_back(c);
    }
    lane.enqueue();
    lane.wait();
    if (graphs) graphs = lane.capture();
  }

  for (int i = 0; i < 200; i++) {
    all[0].start();
    all[0].wait();
  }
  std::vector<double> alone;
  for (auto begin = Clock::now(); since(begin) < seconds;) {
    auto one = Clock::now();
    all[0].start();
    all[0].wait();
    alone.push_back(1e6 * since(one));
  }
  long runs = 0;
  auto begin = Clock::now();
  for (; since(begin) < seconds; runs++) {
    auto &lane = all[static_cast<size_t>(runs % lanes)];
    if (runs >= lanes) lane.wait();
    lane.start();
  }
  for (auto &lane : all) lane.wait();
  double elapsed = since(begin);

  std::sort(alone.begin(), alone.end());
  auto at = [&](double share) { return alone[static_cast<size_t>(share * static_cast<double>(alone.size() - 1))]; };
  std::string input, shape;
  for (size_t i = 0; i < tensors.size() && input.empty(); i++) {
    if (!tensors[i].input) continue;
    input = tensors[i].name;
    for (int k = 0; k < shapes[i].nbDims; k++) shape += (k ? "x" : "") + std::to_string(shapes[i].d[k]);
  }
  std::printf("{\"batch\":%d,\"lanes\":%d,\"graphs\":%s,\"fps\":%.1f,\"latency_us\":{\"p50\":%.1f,\"p95\":%.1f,\"p99\":%.1f},"
              "\"input\":\"%s\",\"shape\":\"%s\"}\n",
              batch, lanes, graphs ? "true" : "false", static_cast<double>(runs * batch) / elapsed, at(0.5), at(0.95), at(0.99),
              input.c_str(), shape.c_str());
  return 0;
}
