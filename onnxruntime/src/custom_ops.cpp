// SPDX-License-Identifier: Apache-2.0
#include "custom_ops.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "head.h"

namespace exn::ort {
namespace {

constexpr int32_t kAny = 0;  // of the type that the graph says
enum : int32_t { kRequired = 0, kOptional = 1 };

class Kernel {
 public:
  explicit Kernel(const Api& of) : api(of) {}
  virtual ~Kernel() = default;
  virtual void run(OrtKernelContext* context) = 0;

 protected:
  const Api& api;
  Scratch scratch;
};

// The attributes of a node.
class Attributes {
 public:
  Attributes(const Api& api, const OrtKernelInfo* info) : api_(api), info_(info) {}

  float number(const char* name, float otherwise) const {
    float value = otherwise;
    return given(api_.KernelInfoGetAttribute_float(info_, name, &value)) ? value : otherwise;
  }
  int64_t integer(const char* name, int64_t otherwise) const {
    int64_t value = otherwise;
    return given(api_.KernelInfoGetAttribute_int64(info_, name, &value)) ? value : otherwise;
  }
  // The index of the word that it is.
  int32_t choice(const char* name, std::initializer_list<const char*> words) const {
    size_t size = 0;
    if (!given(api_.KernelInfoGetAttribute_string(info_, name, nullptr, &size))) return 0;
    std::string text(size, '\0');
    check(api_, api_.KernelInfoGetAttribute_string(info_, name, text.data(), &size));
    text.resize(strnlen(text.data(), text.size()));
    int32_t index = 0;
    std::string list;
    for (const char* word : words) {
      if (text == word) return index;
      list += (index++ ? ", " : "") + std::string(word);
    }
    throw Failure(kInvalidArgument, std::string("exeunt: attribute ") + name + " is '" + text +
                                        "', expected one of: " + list);
  }

 private:
  // ONNX Runtime has one status for an attribute that is not there and for one of another type.
  bool given(OrtStatus* status) const {
    if (status == nullptr) return true;
    const std::string text = api_.GetErrorMessage(status);
    if (text.find("No attribute with") == std::string::npos) check(api_, status);
    api_.ReleaseStatus(status);
    return false;
  }

  const Api& api_;
  const OrtKernelInfo* info_;
};

int64_t usable_cores() { return std::max<int64_t>(1, std::thread::hardware_concurrency()); }

void want(bool right, const std::string& text) {
  if (!right) throw Failure(kInvalidArgument, "exeunt: " + text);
}

void want_floats(const TensorView& tensor, const char* name) {
  want(tensor.type == kFloat || tensor.type == kFloat16 || tensor.type == kBfloat16,
       std::string(name) + " has the ONNX element type " + std::to_string(tensor.type) +
           ", expected f32, f16 or bf16");
  want(!tensor.shape.empty() && tensor.last() >= 1,
       std::string(name) + " has no last axis with an element in it");
}

std::vector<int64_t> without_last(const TensorView& tensor) {
  return std::vector<int64_t>(tensor.shape.begin(), tensor.shape.end() - 1);
}

// argmax, p1, margin, entropy, max_logit, lse
void write_statistics(const Api& api, OrtKernelContext* context, const std::vector<int64_t>& shape,
                      const std::vector<RowOfHead>& rows) {
  const TensorView argmax = output_of(api, context, 0, kInt64, shape);
  for (size_t r = 0; r < rows.size(); ++r) argmax.as<int64_t>()[r] = rows[r].argmax;
  const auto write = [&](size_t index, const auto& value) {
    const TensorView out = output_of(api, context, index, kFloat, shape);
    if (out.data == nullptr) return;  // the node has no such output
    for (size_t r = 0; r < rows.size(); ++r) out.as<float>()[r] = value(rows[r]);
  };
  write(1, [](const RowOfHead& row) { return row.p1; });
  write(2, [](const RowOfHead& row) { return row.p1 - row.p2; });
  write(3, [](const RowOfHead& row) { return row.entropy; });
  write(4, [](const RowOfHead& row) { return row.max_logit; });
  write(5, [](const RowOfHead& row) { return row.lse; });
}

class ExitHead : public Kernel {
 public:
  ExitHead(const Api& of, const Attributes& attributes)
      : Kernel(of),
        norm_(attributes.choice("norm", {"none", "rms", "layer"})),
        normalizer_(attributes.choice("normalizer", {"softmax", "stablemax"})),
        eps_(attributes.number("epsilon", 1e-5f)),
        temperature_(attributes.number("temperature", 1)),
        softcap_(attributes.number("softcap", 0)) {}

  void run(OrtKernelContext* context) override {
    const TensorView hidden = input_of(api, context, 0), weight = input_of(api, context, 1);
    want_floats(hidden, "hidden");
    want_floats(weight, "weight");
    want(weight.shape.size() == 2,
         "weight has " + std::to_string(weight.shape.size()) + " axes, expected 2");
    want(weight.shape[0] >= 1 && weight.shape[1] >= 1,
         "weight is " + text_of(weight.shape) + ", expected at least one row with an element");
    Head head;
    head.weight = weight.data;
    head.type = weight.type;
    head.rows = weight.shape[0];
    head.columns = weight.shape[1];
    head.row_bytes = head.columns * bytes_of(weight.type);
    head.bias = floats(context, 2, "bias", head.rows);
    head.norm_weight = floats(context, 3, "norm_weight", head.columns);
    head.norm_bias = floats(context, 4, "norm_bias", head.columns);
    head.norm = norm_;
    head.norm_eps = eps_;
    head.normalizer = normalizer_;
    head.temperature = temperature_;
    head.softcap = softcap_;
    write_statistics(api, context, without_last(hidden),
                     run_head(api, context, head, hidden, usable_cores(), &scratch));
  }

 private:
  const float* floats(OrtKernelContext* context, size_t index, const char* name,
                      int64_t expected) const {
    const TensorView view = input_of(api, context, index);
    if (view.type == 0) return nullptr;  // left out
    want(view.type == kFloat && view.count() == expected,
         std::string(name) + " has " + std::to_string(view.count()) +
             " elements of the ONNX element type " + std::to_string(view.type) + ", expected " +
             std::to_string(expected) + " f32");
    return view.as<float>();
  }

  const int32_t norm_, normalizer_;
  const float eps_, temperature_, softcap_;
};

class RowStats : public Kernel {
 public:
  RowStats(const Api& of, const Attributes& attributes)
      : Kernel(of),
        normalizer_(attributes.choice("normalizer", {"softmax", "stablemax"})),
        temperature_(attributes.number("temperature", 1)),
        softcap_(attributes.number("softcap", 0)) {}

  void run(OrtKernelContext* context) override {
    const TensorView logits = input_of(api, context, 0);
    want_floats(logits, "logits");
    const int64_t cols = logits.last(), rows = logits.count() / cols;
    const auto n = static_cast<size_t>(rows);
    std::vector<int32_t> argmax(n);
    std::vector<float> max_logit(n), lse(n), p1(n), p2(n), entropy(n);
    std::vector<uint8_t> valid(n);
    Tensor z(logits.data, logits.type, {rows, cols}), out_argmax(argmax.data(), kInt32, {rows}),
        out_max(max_logit.data(), kFloat, {rows}), out_lse(lse.data(), kFloat, {rows}),
        out_p1(p1.data(), kFloat, {rows}), out_p2(p2.data(), kFloat, {rows}),
        out_entropy(entropy.data(), kFloat, {rows}), out_valid(valid.data(), kUint8, {rows});
    exn_row_stats_params params = {};
    params.struct_size = sizeof params;
    params.logits = z.get();
    params.normalizer = normalizer_;
    params.temperature = temperature_;
    params.softcap = softcap_;
    params.out.argmax = out_argmax.get();
    params.out.max_logit = out_max.get();
    params.out.lse = out_lse.get();
    params.out.p1 = out_p1.get();
    params.out.p2 = out_p2.get();
    params.out.entropy = out_entropy.get();
    params.out.valid = out_valid.get();
    size_t bytes = 0;
    check(exn_row_stats_workspace_size(&params, &bytes));
    Scratch::Block block(scratch, bytes);
    check(exn_row_stats(&params, block.take(bytes), bytes, nullptr));
    std::vector<RowOfHead> list(n);
    for (size_t r = 0; r < n; ++r) {
      list[r] = {argmax[r], max_logit[r], lse[r], p1[r], p2[r], entropy[r], valid[r] != 0};
    }
    write_statistics(api, context, without_last(logits), list);
  }

 private:
  const int32_t normalizer_;
  const float temperature_, softcap_;
};

class StableMax : public Kernel {
 public:
  StableMax(const Api& of, const Attributes& attributes)
      : Kernel(of), log_(attributes.integer("log", 0)) {
    want(log_ == 0 || log_ == 1, "attribute log is " + std::to_string(log_) + ", expected 0 or 1");
  }

  void run(OrtKernelContext* context) override {
    const TensorView logits = input_of(api, context, 0);
    want_floats(logits, "logits");
    const TensorView out = output_of(api, context, 0, logits.type, logits.shape);
    const int64_t cols = logits.last(), rows = logits.count() / cols;
    Tensor z(logits.data, logits.type, {rows, cols}), p(out.data, out.type, {rows, cols});
    exn_stablemax_params params = {};
    params.struct_size = sizeof params;
    params.logits = z.get();
    params.out = p.get();
    params.normalizer = EXN_STABLEMAX;
    params.log = static_cast<int32_t>(log_);
    size_t bytes = 0;
    check(exn_stablemax_workspace_size(&params, &bytes));
    Scratch::Block block(scratch, bytes);
    check(exn_stablemax(&params, block.take(bytes), bytes, nullptr));
  }

 private:
  const int64_t log_;
};

class Select : public Kernel {
 public:
  Select(const Api& of, const Attributes& attributes)
      : Kernel(of), k_(attributes.integer("k", -1)) {
    want(k_ >= 0, "attribute k is " + std::to_string(k_) + ", expected 0 or more");
  }

  void run(OrtKernelContext* context) override {
    const TensorView scores = input_of(api, context, 0);
    want_floats(scores, "scores");
    const int64_t cols = scores.last(), rows = scores.count() / cols, k = std::min(k_, cols);
    std::vector<int64_t> shape = scores.shape;
    shape.back() = k;
    const TensorView out = output_of(api, context, 0, kInt64, shape);
    std::vector<int32_t> indices(static_cast<size_t>(rows * k));
    Tensor s(scores.data, scores.type, {rows, cols}), i(indices.data(), kInt32, {rows, k});
    exn_select_params params = {};
    params.struct_size = sizeof params;
    params.scores = s.get();
    params.selection.indices = i.get();
    params.selection.k = k;
    size_t bytes = 0;
    check(exn_select_workspace_size(&params, &bytes));
    Scratch::Block block(scratch, bytes);
    check(exn_select(&params, block.take(bytes), bytes, nullptr));
    std::copy(indices.begin(), indices.end(), out.as<int64_t>());
  }

 private:
  const int64_t k_;
};

// An op as ONNX Runtime asks about it.
struct Op : OrtCustomOp {
  struct Slot {
    int32_t type, presence;
  };
  using Make = Kernel* (*)(const Api&, const Attributes&);

  const Api& api;
  const char* name;
  std::vector<Slot> inputs, outputs;
  Make make;

  Op(const Api& of, const char* called, std::vector<Slot> in, std::vector<Slot> out, Make maker)
      : OrtCustomOp{},
        api(of),
        name(called),
        inputs(std::move(in)),
        outputs(std::move(out)),
        make(maker) {
    version = kApiVersion;
    GetName = [](const OrtCustomOp* op) { return self(op)->name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    GetInputTypeCount = [](const OrtCustomOp* op) { return self(op)->inputs.size(); };
    GetInputType = [](const OrtCustomOp* op, size_t i) { return self(op)->inputs[i].type; };
    GetInputCharacteristic = [](const OrtCustomOp* op, size_t i) {
      return self(op)->inputs[i].presence;
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };
    GetOutputTypeCount = [](const OrtCustomOp* op) { return self(op)->outputs.size(); };
    GetOutputType = [](const OrtCustomOp* op, size_t i) { return self(op)->outputs[i].type; };
    GetOutputCharacteristic = [](const OrtCustomOp* op, size_t i) {
      return self(op)->outputs[i].presence;
    };
    GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
    GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
    GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1 << 30; };
    CreateKernelV2 = [](const OrtCustomOp* op, const void*, const OrtKernelInfo* info,
                        void** kernel) -> OrtStatus* {
      const Op* own = self(op);
      return guarded(own->api, [&] {
        *kernel = new Running{
            own->api, std::unique_ptr<Kernel>(own->make(own->api, Attributes(own->api, info)))};
      });
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatus* {
      auto* running = static_cast<Running*>(kernel);
      return guarded(running->api, [&] { running->kernel->run(context); });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Running*>(kernel); };
  }

 private:
  struct Running {
    const Api& api;
    std::unique_ptr<Kernel> kernel;
  };
  static const Op* self(const OrtCustomOp* op) { return static_cast<const Op*>(op); }
};

template <class K>
Kernel* make(const Api& api, const Attributes& attributes) {
  return new K(api, attributes);
}

}  // namespace

CustomOps::CustomOps(const Api& api) : api_(api) {
  const std::vector<Op::Slot> statistics = {{kInt64, kRequired}, {kFloat, kOptional},
                                            {kFloat, kOptional}, {kFloat, kOptional},
                                            {kFloat, kOptional}, {kFloat, kOptional}};
  const Op::Slot any = {kAny, kRequired}, row = {kFloat, kOptional};
  const auto add = [&](const char* name, std::vector<Op::Slot> inputs,
                       std::vector<Op::Slot> outputs, Op::Make maker) {
    ops_.push_back(std::make_shared<Op>(api, name, std::move(inputs), std::move(outputs), maker));
  };
  add("ExitHead", {any, any, row, row, row}, statistics, make<ExitHead>);
  add("RowStats", {any}, statistics, make<RowStats>);
  add("StableMax", {{kFloat, kRequired}}, {{kFloat, kRequired}}, make<StableMax>);
  add("Select", {any}, {{kInt64, kRequired}}, make<Select>);
  check(api, api.CreateCustomOpDomain("org.exeunt", &domain_));
  for (const auto& op : ops_) check(api, api.CustomOpDomain_Add(domain_, op.get()));
}

CustomOps::~CustomOps() { api_.ReleaseCustomOpDomain(domain_); }

}  // namespace exn::ort
