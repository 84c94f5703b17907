//go:build ignore

// How the double's engines are loaded and run: classes by mean colour (double.go).
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "double.h"

namespace sightd_double {

namespace {

void classify(sightd_trt_binding &b) {
  const sightd_trt_engine &e = *b.engine;
  auto size = static_cast<size_t>(e.plan.height) * static_cast<size_t>(e.plan.width), classes = static_cast<size_t>(e.plan.classes);
  for (size_t i = 0; i < static_cast<size_t>(b.images); i++) {
    double sums[3] = {0, 0, 0};
    for (size_t p = 0; p < size; p++)
      for (size_t c = 0; c < 3; c++) {
        const uint8_t *pixel = (b.from[i] != nullptr ? b.from[i]->pixels : b.pixels + i * size * 3) + p * 3;
        if (e.table.empty())
          sums[c] += pixel[c] / 255.0;
        else if (c < e.channels.size())
          sums[c] += e.table[c * 256 + pixel[e.channels[c]]] * static_cast<double>(e.plan.input_scale);
      }
    float *scores = &b.scores[i * classes];
    double total = 0;
    for (size_t c = 0; c < classes; c++) {
      double logit = c < 3 ? e.plan.gain * sums[c] / static_cast<double>(size) : 0;
      scores[c] = static_cast<float>(e.plan.direct && !e.softmax ? logit : std::exp(logit));
      total += scores[c];
    }
    if (!e.plan.direct || e.softmax)
      for (size_t c = 0; c < classes; c++) scores[c] = static_cast<float>(scores[c] / total);
  }
}

void check_plan(const Script &s, const sightd_trt_load &l, Plan &plan) {
  uint32_t sum = 0;
  if (l.plan_size != sizeof plan + sizeof sum) fail(SIGHTD_TRT_PLAN, "the plan is cut short, or not one");
  memcpy(&plan, l.plan, sizeof plan);
  memcpy(&sum, static_cast<const char *>(l.plan) + sizeof plan, sizeof sum);
  if (memcmp(plan.magic, Plan().magic, sizeof plan.magic) != 0) fail(SIGHTD_TRT_PLAN, "not a plan");
  if (sum != crc(&plan, sizeof plan)) fail(SIGHTD_TRT_PLAN, "the plan is damaged");
  if (plan.version != s.version)
    fail(SIGHTD_TRT_PLAN, "the plan is of version " + std::to_string(plan.version) + ", this is " + std::to_string(s.version));
  if (plan.device != device_hash(s)) fail(SIGHTD_TRT_PLAN, "the plan was made for another device");
}

std::string quoted(const std::string &text) { return "\"" + text + "\""; }

}  // namespace

void finish(sightd_trt_binding &b) {
  std::this_thread::sleep_until(b.ready);
  if (!b.failing) classify(b);
  std::lock_guard<std::mutex> lock(b.engine->mutex);
  b.engine->lanes[static_cast<size_t>(b.lane)] = nullptr;
  b.lane = -1;
}

sightd_trt_engine *load(const sightd_trt_load &l) {
  Script s = script();
  require(l.plan != nullptr && l.plan_size > 0, "no plan");
  require(l.lanes >= 1 && l.lanes <= 8, "lanes: wanted 1 to 8");
  require(l.dla_core >= -1, "no such DLA core");
  require(l.channel_count >= 0 && l.channel_count <= 3 && (l.table != nullptr) == (l.channel_count > 0), "wrong channels");
  for (int32_t c = 0; c < l.channel_count; c++) require(l.channels[c] >= 0 && l.channels[c] < 3, "wrong channels");
  suffer(s, "load");
  Plan plan;
  check_plan(s, l, plan);
  if (l.dla_core >= s.cores)
    fail(SIGHTD_TRT_UNSUPPORTED, "DLA core " + std::to_string(l.dla_core) + ": this machine has " + std::to_string(s.cores));
  if ((l.dla_core >= 0) != (plan.dla != 0)) fail(SIGHTD_TRT_PLAN, "the plan was made for another kind of device: GPU or DLA");
  if (plan.floats) fail(SIGHTD_TRT_PLAN, "the plan isn't one of sightd's: its input is neither of bytes nor INT8");
  require((l.table != nullptr) == (plan.direct != 0), "a table without direct input, or the other way round");
  require(plan.direct || !l.softmax, "softmax without direct input");
  if (in_use + s.engine_memory > s.memory) fail(SIGHTD_TRT_MEMORY, "no memory left on the device");
  auto *e = new sightd_trt_engine;
  e->plan = plan, e->core = l.dla_core, e->graphs = l.graphs && s.graphs, e->softmax = l.softmax;
  if (l.table != nullptr) {
    e->table.assign(l.table, l.table + static_cast<ptrdiff_t>(l.channel_count) * 256);
    e->channels.assign(l.channels, l.channels + l.channel_count);
  }
  e->lanes.resize(static_cast<size_t>(l.lanes));
  e->memory = s.engine_memory;
  in_use += e->memory;
  return e;
}

std::string inspect(const sightd_trt_engine &e) {
  Script s = script();
  suffer(s, "inspect");
  if (!s.layers.empty()) {
    std::ifstream file(s.layers);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  auto layer = [](const std::string &name, const std::string &type, const std::string &format) {
    return "{" + quoted("Name") + ": " + quoted(name) + ", " + quoted("LayerType") + ": " + quoted(type) + ", " + quoted("Inputs") +
           ": [{" + quoted("Name") + ": " + quoted("in") + ", " + quoted("Dimensions") + ": [1,3,8,8], " + quoted("Format/Datatype") +
           ": " + quoted(format) + "}], " + quoted("Outputs") + ": []}";
  };
  std::string precision = e.plan.int8 ? "Thirty-two wide channel vectorized row major Int8 format"
                          : e.plan.fp16 ? "Row major linear FP16 format" : "Row major linear FP32";
  std::string rest = e.plan.keeps > 0 && e.plan.fp16 ? "Row major linear FP16 format" : "Row major linear FP32";
  std::string text = "{" + quoted("Layers") + ": [";
  if (e.plan.dla) {
    if (!e.plan.direct) text += layer("Reformatting CopyNode for Input Tensor 0 to {ForeignNode[conv...pool]}", "Reformat", "Row major linear FP32") + ", ";
    text += layer("{ForeignNode[conv...pool]}", "DLA", precision);
  } else {
    text += layer("cast", "Reformat", "Row major linear UInt8") + ", " + layer("conv", "CaskConvolution", precision) + ", " +
            layer("pool", "CaskPooling", rest);
  }
  if (!e.plan.direct) text += ", " + layer("softmax", "CudaSoftMax", "Row major linear FP32");
  return text + "], " + quoted("Bindings") + ": [" + quoted("input") + ", " + quoted("output") + "]}";
}

}  // namespace sightd_double
