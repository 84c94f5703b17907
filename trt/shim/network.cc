#include "network.h"

#include <set>
#include <string>
#include <unordered_map>

#include "library.h"
#include "log.h"

namespace sightd {

using nvinfer1::DataType;
using nvinfer1::ILayer;
using nvinfer1::INetworkDefinition;
using nvinfer1::ITensor;
using nvinfer1::LayerType;
using nvinfer1::TensorFormat;

namespace {

std::string shape(const nvinfer1::Dims &d) {
  std::string text;
  for (int32_t i = 0; i < d.nbDims; i++)
    text += (i > 0 ? "×" : "") + (d.d[i] < 0 ? std::string("?") : std::to_string(d.d[i]));
  return text;
}

std::string parser_errors(nvonnxparser::IParser &parser) {
  constexpr int most = 20;
  std::string text;
  const int count = parser.getNbErrors();
  for (int i = 0; i < count && i < most; i++) {
    const nvonnxparser::IParserError *e = parser.getError(i);
    if (!text.empty()) text += "; ";
    text += format("node %d", e->node());
#if NV_TENSORRT_MAJOR >= 10
    if (e->nodeName() != nullptr && *e->nodeName() != '\0') text += format(" %s", e->nodeName());
    if (e->nodeOperator() != nullptr && *e->nodeOperator() != '\0') text += format(" (%s)", e->nodeOperator());
#endif
    text += format(": %s", e->desc() != nullptr ? e->desc() : "no reason given");
  }
  if (count > most) text += format("; and %d more", count - most);
  return text;
}

}  // namespace

std::unique_ptr<nvonnxparser::IParser> parse(INetworkDefinition &network, const sightd_trt_job &job) {
  auto parser = make_parser(network);
  const Call call;
  if (parser->parse(job.onnx, job.onnx_size, nullptr)) return parser;
  std::string errors = parser_errors(*parser);
  if (errors.empty()) errors = call.errors();
  fail(SIGHTD_TRT_MODEL, "TensorRT's parser can't take the ONNX model: %s",
       errors.empty() ? "it gives no reason" : errors.c_str());
}

bool has_quantisation(INetworkDefinition &network) {
  for (int32_t i = 0; i < network.getNbLayers(); i++)
    if (network.getLayer(i)->getType() == LayerType::kQUANTIZE) return true;
  return false;
}

Input find_input(INetworkDefinition &network, const sightd_trt_job &job) {
  if (network.getNbInputs() != 1 || network.getNbOutputs() != 1)
    fail(SIGHTD_TRT_MODEL, "the graph has %d inputs and %d outputs, not 1 each", network.getNbInputs(),
         network.getNbOutputs());
  ITensor *tensor = network.getInput(0);
  const nvinfer1::Dims d = tensor->getDimensions();
  const bool bytes = tensor->getType() == DataType::kUINT8;
  if (d.nbDims != 4 || d.d[1] <= 0 || d.d[2] <= 0 || d.d[3] <= 0)
    fail(SIGHTD_TRT_MODEL, "the graph's input %s is %s: it has to be images × height × width × 3 of bytes, or "
                           "images × channels × height × width",
         tensor->getName(), shape(d).c_str());
  if (bytes && d.d[3] != 3)
    fail(SIGHTD_TRT_MODEL, "the graph's input %s is of bytes and %s: its last dimension has to be 3", tensor->getName(),
         shape(d).c_str());
  Input input{tensor, d.d[0] < 0, d.d[0] < 0 ? 1 : static_cast<int64_t>(d.d[0]), bytes ? d.d[1] : d.d[2],
              bytes ? d.d[2] : d.d[3]};
  if (!input.open_batch && job.batch != input.batch)
    fail(SIGHTD_TRT_ARGUMENT, "a batch of %d is asked for, and the graph's is fixed to %d", job.batch,
         static_cast<int>(input.batch));
  if (job.images >= 0) {
    if (bytes != (job.channel_count == 0))
      fail(SIGHTD_TRT_ARGUMENT, "the graph's input is %s, and the calibration images come %s a table",
           bytes ? "of bytes" : "not of bytes", bytes ? "with" : "without");
    if (!bytes && job.channel_count != static_cast<int32_t>(d.d[1]))
      fail(SIGHTD_TRT_ARGUMENT, "the calibration images are made into %d channels, and the graph's input is %s",
           job.channel_count, shape(d).c_str());
    if (!bytes && tensor->getType() != DataType::kFLOAT)
      fail(SIGHTD_TRT_MODEL, "the graph's input is neither of bytes nor of 32-bit floats: nothing to calibrate with");
  }
  return input;
}

// Types and precisions are deprecated since TensorRT gives them up in 11.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

void direct_input(INetworkDefinition &network, const Input &input, const sightd_trt_job &job) {
  ITensor *in = input.tensor, *out = network.getOutput(0);
  const auto bit = [](TensorFormat f) { return 1U << static_cast<uint32_t>(f); };
#if NV_TENSORRT_MAJOR >= 11
  // The types are the graph's own here.
  if (in->getType() != DataType::kINT8)
    fail(SIGHTD_TRT_MODEL, "direct input needs a graph with an INT8 input in TensorRT %d", NV_TENSORRT_MAJOR);
  (void)job;
#else
  in->setType(DataType::kINT8);
  out->setType(DataType::kHALF);
  const float range = 127 * job.input_scale;
  if (!(range > 0) || !in->setDynamicRange(-range, range))
    fail(SIGHTD_TRT_ARGUMENT, "the scale %g of the INT8 input isn't one", static_cast<double>(job.input_scale));
#endif
  bool convolution = true;  // every reader of the input is one
  for (int32_t i = 0; i < network.getNbLayers(); i++) {
    ILayer *layer = network.getLayer(i);
    for (int32_t k = 0; k < layer->getNbInputs(); k++)
      if (layer->getInput(k) == in && layer->getType() != LayerType::kCONVOLUTION) convolution = false;
  }
  const auto channels = in->getDimensions().d[1];
  if (job.dla_core < 0) {
    in->setAllowedFormats(channels <= 4 ? bit(TensorFormat::kCHW4) | bit(TensorFormat::kLINEAR)
                                        : bit(TensorFormat::kLINEAR));
    out->setAllowedFormats(bit(TensorFormat::kLINEAR));
    return;
  }
  // DLA_HWC4 is there for 1, 3 or 4 channels, before a convolution alone.
  const bool image = convolution && (channels == 1 || channels == 3 || channels == 4);
  in->setAllowedFormats(bit(image ? TensorFormat::kDLA_HWC4 : TensorFormat::kDLA_LINEAR));
  out->setAllowedFormats(bit(TensorFormat::kDLA_LINEAR));
}

#if NV_TENSORRT_MAJOR >= 11

bool set_precisions(INetworkDefinition &, const sightd_trt_job &) { return false; }

#else

namespace {

using Makers = std::unordered_map<const ITensor *, ILayer *>;

// TensorRT's own names of tensors between the layers that one ONNX node became.
bool unnamed(const ITensor &t) { return std::string(t.getName()).rfind("(Unnamed Layer*", 0) == 0; }

bool floating(const ITensor &t) { return t.getType() == DataType::kFLOAT || t.getType() == DataType::kHALF; }

// Layers that compute nothing in a precision of their own.
bool untouched(LayerType t) {
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 6
  if (t == LayerType::kCAST) return true;
#endif
  return t == LayerType::kCONSTANT || t == LayerType::kSHAPE || t == LayerType::kIDENTITY ||
         t == LayerType::kQUANTIZE || t == LayerType::kDEQUANTIZE;
}

bool constant(const Makers &makers, const ITensor *t) {
  const auto maker = makers.find(t);
  if (maker == makers.end()) return false;
  if (maker->second->getType() == LayerType::kCONSTANT) return true;
  // Through what the parser puts behind a constant to give it its shape.
  return maker->second->getType() == LayerType::kSHUFFLE && constant(makers, maker->second->getInput(0));
}

bool can_be_int8(const Makers &makers, ILayer *layer) {
  switch (layer->getType()) {
#if NV_TENSORRT_MAJOR == 8
    case LayerType::kFULLY_CONNECTED:
#endif
    case LayerType::kCONVOLUTION:
    case LayerType::kDECONVOLUTION:
    case LayerType::kPOOLING:
      return true;
    case LayerType::kELEMENTWISE:
      // With a constant it is a scale, which is merged into its neighbour.
      return !constant(makers, layer->getInput(0)) && !constant(makers, layer->getInput(1));
    case LayerType::kMATRIX_MULTIPLY:
      return constant(makers, layer->getInput(0)) || constant(makers, layer->getInput(1));
    default:
      return false;
  }
}

void keep_floating(ILayer *layer, DataType type, const Makers &makers, std::set<ILayer *> &kept) {
  if (untouched(layer->getType()) || !kept.insert(layer).second) return;
  if (floating(*layer->getOutput(0))) layer->setPrecision(type);
  // Else it may compute in floating point and still hand on INT8. The network's output
  // is float whatever makes it.
  for (int32_t i = 0; i < layer->getNbOutputs(); i++)
    if (floating(*layer->getOutput(i)) && !layer->getOutput(i)->isNetworkOutput()) layer->setOutputType(i, type);
  // A node may have become several layers, of which the last alone bears its name.
  for (int32_t i = 0; i < layer->getNbInputs(); i++) {
    const ITensor *in = layer->getInput(i);
    if (in == nullptr || !unnamed(*in) || !floating(*in) || constant(makers, in)) continue;
    const auto maker = makers.find(in);
    if (maker != makers.end()) keep_floating(maker->second, type, makers, kept);
  }
}

}  // namespace

bool set_precisions(INetworkDefinition &network, const sightd_trt_job &job) {
  if (!job.int8) return false;
  std::set<std::string> names;
  for (int32_t i = 0; i < job.keep_count; i++) names.insert(job.keep[i]);
  Makers makers;
  for (int32_t i = 0; i < network.getNbLayers(); i++) {
    ILayer *layer = network.getLayer(i);
    for (int32_t k = 0; k < layer->getNbOutputs(); k++) makers[layer->getOutput(k)] = layer;
  }
  const DataType type = job.fp16 ? DataType::kHALF : DataType::kFLOAT;
  std::set<ILayer *> kept;
  std::set<std::string> found;
  for (const auto &[tensor, layer] : makers)
    if (names.count(tensor->getName()) > 0) {
      found.insert(tensor->getName());
      keep_floating(layer, type, makers, kept);
    }
  for (const std::string &name : names)
    if (found.count(name) == 0)
      Log::instance().log(nvinfer1::ILogger::Severity::kWARNING,
                          format("sightd: no layer makes %s, which was to stay in floating point", name.c_str()).c_str());
  bool forced = false;
  if (job.force_int8)
    for (int32_t i = 0; i < network.getNbLayers(); i++) {
      ILayer *layer = network.getLayer(i);
      if (kept.count(layer) > 0 || layer->getNbOutputs() == 0 || !floating(*layer->getOutput(0)) ||
          !can_be_int8(makers, layer))
        continue;
      layer->setPrecision(DataType::kINT8);
      forced = true;
    }
  return forced || !kept.empty();
}

#endif

#pragma GCC diagnostic pop

}  // namespace sightd
