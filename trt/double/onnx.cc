//go:build ignore

// ONNX, as far as the nodes' names and operators.
#include "double.h"

namespace sightd_double {

namespace {

struct Reader {
  const uint8_t *p, *end;

  bool more() const { return p < end; }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (p == end) fail(SIGHTD_TRT_MODEL, "not an ONNX model, or cut short");
      value |= static_cast<uint64_t>(*p & 0x7f) << shift;
      if (!(*p++ & 0x80)) return value;
    }
    fail(SIGHTD_TRT_MODEL, "not an ONNX model");
  }
  // The next field; what it holds, where that has a length.
  int field(Reader &held) {
    uint64_t tag = varint();
    uint64_t size = 0;
    held = {nullptr, nullptr};
    switch (tag & 7) {
      case 0: varint(); return static_cast<int>(tag >> 3);
      case 1: size = 8; break;
      case 2: size = varint(); break;
      case 5: size = 4; break;
      default: fail(SIGHTD_TRT_MODEL, "not an ONNX model");
    }
    if (size > static_cast<uint64_t>(end - p)) fail(SIGHTD_TRT_MODEL, "not an ONNX model, or cut short");
    held = {p, p + size};
    p += size;
    return static_cast<int>(tag >> 3);
  }
  std::string text() const { return p == nullptr ? "" : std::string(reinterpret_cast<const char *>(p), static_cast<size_t>(end - p)); }
};

}  // namespace

std::vector<Node> nodes_of(const void *onnx, size_t size) {
  std::vector<Node> nodes;
  bool graph_there = false;
  Reader model{static_cast<const uint8_t *>(onnx), static_cast<const uint8_t *>(onnx) + size}, graph{}, node{}, field{};
  while (model.more()) {
    if (model.field(graph) != 7 || graph.p == nullptr) continue;
    graph_there = true;
    while (graph.more()) {
      if (graph.field(node) != 1 || node.p == nullptr) continue;
      Node n;
      while (node.more()) {
        int number = node.field(field);
        if (number == 3) n.name = field.text();
        if (number == 4) n.op = field.text();
        if (number == 7) n.domain = field.text();
      }
      nodes.push_back(n);
    }
  }
  if (!graph_there || nodes.empty()) fail(SIGHTD_TRT_MODEL, "not an ONNX model: it has no nodes");
  for (size_t i = 0; i < nodes.size(); i++)
    if (!nodes[i].domain.empty() && nodes[i].domain != "ai.onnx")
      fail(SIGHTD_TRT_MODEL, "node " + std::to_string(i) + " \"" + nodes[i].name + "\" (" + nodes[i].op +
                                 "): no importer registered for this operator");
  return nodes;
}

}  // namespace sightd_double
