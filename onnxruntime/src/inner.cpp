// SPDX-License-Identifier: Apache-2.0
#include "inner.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "proto.h"

namespace exn::ort {
namespace {

int32_t wide(int32_t type) { return type == kBfloat16 ? int32_t{kFloat} : type; }

struct Values {
  const Api& api;
  std::vector<OrtValue*> list;
  ~Values() {
    for (OrtValue* value : list) {
      if (value) api.ReleaseValue(value);
    }
  }
};

std::string tensor_proto(const Api& api, const std::string& name, const OrtValue* value) {
  const TensorView view = view_of(api, value);
  std::string out;
  for (const int64_t extent : view.shape) out += proto::integer(1, extent);
  size_t size = 0;
  check(api, api.GetTensorSizeInBytes(value, &size));
  std::string raw(static_cast<const char*>(view.data), size);
  if (view.type == kBfloat16) {
    std::string widened(2 * size, '\0');
    convert(view, widened.data(), kFloat);
    raw = std::move(widened);
  }
  return out + proto::integer(2, wide(view.type)) + (name.empty() ? "" : proto::bytes(8, name)) +
         proto::bytes(9, raw);
}

// An attribute, empty if it is of a kind that is not known here.
std::string attribute_proto(const Api& api, const OrtOpAttr* attribute) {
  const char* name = nullptr;
  int32_t type = 0;
  check(api, api.OpAttr_GetName(attribute, &name));
  check(api, api.OpAttr_GetType(attribute, &type));
  std::string out = proto::bytes(1, name);
  if (type == kAttrTensor) {
    OrtValue* value = nullptr;
    check(api, api.OpAttr_GetTensorAttributeAsOrtValue(attribute, &value));
    const Values held{api, {value}};
    return out + proto::bytes(5, tensor_proto(api, "", value)) + proto::integer(20, 4);
  }
  if (type < kAttrInt || type > kAttrString) return "";
  const std::vector<char> data = contents_of(api, attribute, type);
  const size_t bytes = data.size();
  const auto* whole = reinterpret_cast<const int64_t*>(data.data());
  const auto* real = reinterpret_cast<const float*>(data.data());
  switch (type) {
    case kAttrInt: {
      // What makes bf16 makes f32 in there.
      const bool names_type = std::strcmp(name, "to") == 0 || std::strcmp(name, "dtype") == 0 ||
                              std::strcmp(name, "output_dtype") == 0;
      out += proto::integer(3, names_type ? wide(static_cast<int32_t>(*whole)) : *whole);
      return out + proto::integer(20, 2);
    }
    case kAttrInts:
      for (size_t i = 0; i < bytes / sizeof *whole; ++i) out += proto::integer(8, whole[i]);
      return out + proto::integer(20, 7);
    case kAttrFloat:
      return out + proto::number(2, *real) + proto::integer(20, 1);
    case kAttrFloats:
      for (size_t i = 0; i < bytes / sizeof *real; ++i) out += proto::number(7, real[i]);
      return out + proto::integer(20, 6);
    default:
      return out + proto::bytes(4, std::string(data.data(), strnlen(data.data(), bytes))) +
             proto::integer(20, 3);
  }
}

std::string node_proto(const Graph& g, const Node& node) {
  std::string out;
  // ONNX Runtime's LayerNormalization dies of a bias that is named and is none.
  size_t inputs = node.inputs.size();
  while (inputs > 0 && node.inputs[inputs - 1] < 0) --inputs;
  for (size_t i = 0; i < inputs; ++i) {
    out += proto::bytes(1, node.inputs[i] < 0 ? "" : g.values[node.inputs[i]].name);
  }
  for (const int value : node.outputs) {
    out += proto::bytes(2, value < 0 ? "" : g.values[value].name);
  }
  out += proto::bytes(3, node.name) + proto::bytes(4, node.op);
  for (const OrtOpAttr* attribute : attributes_of(g.api, node)) {
    out += proto::bytes(5, attribute_proto(g.api, attribute));
  }
  return out + proto::bytes(7, node.domain);
}

}  // namespace

Inner::Inner(const Api& of) : api(of) {
  // A process has one environment; this is another reference to it.
  check(api, api.CreateEnv(kWarning, "exeunt", &env_));
  check(api, api.CreateCpuMemoryInfo(0, 0, &memory_));
  check(api, api.CreateSessionOptions(&options_));
  check(api, api.SetIntraOpNumThreads(options_, 1));
}

Inner::~Inner() {
  if (options_) api.ReleaseSessionOptions(options_);
  if (memory_) api.ReleaseMemoryInfo(memory_);
  if (env_) api.ReleaseEnv(env_);
}

OrtSession* Inner::session(const std::string& model) const {
  OrtSession* session = nullptr;
  check(api, api.CreateSessionFromArray(env_, model.data(), model.size(), options_, &session));
  return session;
}

OrtValue* Inner::tensor(const TensorView& view) const {
  OrtValue* value = nullptr;
  const auto bytes = static_cast<size_t>(view.count() * bytes_of(view.type));
  static char none = 0;  // an empty tensor wants an address too
  check(api, api.CreateTensorWithDataAsOrtValue(memory_, view.data ? view.data : &none, bytes,
                                                view.shape.data(), view.shape.size(), view.type,
                                                &value));
  return value;
}

bool Widened::possible(const Graph& graph, const Node& node) {
  // ONNX Runtime's own kernels keep the low 32 bits of an axis, whatever it is.
  const int64_t axis = graph.integer(node, "axis", 0);
  if (axis < INT32_MIN || axis > INT32_MAX) return false;
  const std::vector<const OrtOpAttr*> list = attributes_of(graph.api, node);
  return std::all_of(list.begin(), list.end(), [&](const OrtOpAttr* attribute) {
    int32_t type = 0;
    check(graph.api, graph.api.OpAttr_GetType(attribute, &type));
    return type == kAttrTensor || (type >= kAttrInt && type <= kAttrString);
  });
}

bool Widened::holds(int32_t type) {
  for (const int32_t known : {kFloat, kFloat16, kBfloat16, kDouble, kInt8, kUint8, kInt16, kUint16,
                              kInt32, kUint32, kInt64, kUint64, kBool}) {
    if (type == known) return true;
  }
  return false;
}

Widened::Widened(const Graph& g, const Claim& claim, const Inner& inner)
    : inner_(inner), session_(nullptr) {
  std::string graph, opsets;
  std::set<int> constants;
  for (const int node : claim.nodes) {
    graph += proto::bytes(1, node_proto(g, g.nodes[node]));
    for (const int value : g.nodes[node].inputs) {
      if (g.constant(value) != nullptr) constants.insert(value);
    }
  }
  for (const int value : constants) {
    graph += proto::bytes(5, tensor_proto(g.api, g.values[value].name, g.values[value].constant));
  }
  for (const int value : claim.inputs) {
    inputs_.push_back(g.slot(value));
    graph += proto::bytes(11, proto::value_info(inputs_.back().name, wide(inputs_.back().type)));
  }
  for (const int value : claim.outputs) {
    outputs_.push_back(g.slot(value));
    graph += proto::bytes(12, proto::value_info(outputs_.back().name, wide(outputs_.back().type)));
  }
  for (const auto& [domain, version] : g.opsets) opsets += proto::opset(domain, version);
  session_ = inner.session(proto::model(graph, opsets));
}

void Widened::bind(const Places& inputs, const Places& outputs) {
  for (Slot& slot : inputs_) slot.require(inputs);
  for (Slot& slot : outputs_) slot.require(outputs);
}

void Widened::run(Frame& frame) const {
  const Api& api = inner_.api;
  Values inputs{api, std::vector<OrtValue*>(inputs_.size())};
  Values outputs{api, std::vector<OrtValue*>(outputs_.size())};
  std::vector<TensorView> views;
  size_t bytes = 0;
  for (const Slot& slot : inputs_) {
    views.push_back(frame.input(slot));
    if (slot.type == kBfloat16) {
      bytes += rounded(static_cast<size_t>(views.back().count()) * sizeof(float));
    }
  }
  Scratch::Block block(scratch_, bytes);
  std::vector<const char*> input_names, output_names;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    TensorView view = views[i];
    if (view.type == kBfloat16) {
      view.type = kFloat;
      view.data = block.take(static_cast<size_t>(view.count()) * sizeof(float));
      convert(api, frame.context, views[i], view.data, kFloat);
    }
    inputs.list[i] = inner_.tensor(view);
    input_names.push_back(inputs_[i].name.c_str());
  }
  for (const Slot& slot : outputs_) output_names.push_back(slot.name.c_str());
  check(api, api.Run(session_, nullptr, input_names.data(), inputs.list.data(), inputs_.size(),
                     output_names.data(), outputs_.size(), outputs.list.data()));
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const TensorView from = view_of(api, outputs.list[i]);
    const TensorView to = frame.output(outputs_[i], from.shape);
    if (from.type != to.type) {
      convert(api, frame.context, from, to.data, to.type);
    } else if (from.count() > 0) {
      std::memcpy(to.data, from.data, static_cast<size_t>(from.count() * bytes_of(from.type)));
    }
  }
}

}  // namespace exn::ort
