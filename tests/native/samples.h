// SPDX-License-Identifier: Apache-2.0
// Sound calls of every op, made of its description (maker.h): for tests that hold of every argument
// of every op.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "maker.h"
#include "misuse.h"

namespace exn::test {

// One tensor of a call.
struct Argument {
  std::string name;
  Type type;
  std::vector<int64_t> shape;
  bool written;
  bool optional;
  bool strided;  // rows along axis 0 may have gaps between them
  std::vector<const DLTensor**> fields;
  HostTensor initial;  // unless it is too large to be there
  DLTensor dl;

  int64_t row_elements() const {
    return std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, times);
  }
  bool empty() const { return std::find(shape.begin(), shape.end(), 0) != shape.end(); }
};

// For one case: nothing is free before its end.
class Heap : public Memory {
 public:
  explicit Heap(size_t most) : most_(most) {}
  ~Heap() override {
    for (const Slot& slot : slots_) delete[] slot.begin;
  }
  void reset() override {}
  Slot* take(size_t bytes) override {
    if (bytes > most_) return nullptr;
    char* data = new char[bytes];
    slots_.push_back({data, data, bytes, nullptr});
    return &slots_.back();
  }

 private:
  size_t most_;  // bytes of a tensor
  std::deque<Slot> slots_;
};

// A sound call with every argument given, of these sizes where they are named.
class SampleCall {
 public:
  SampleCall(const OpUnderTest& op, const Named& wanted)
      : op_(&op), heap_(std::make_unique<Heap>(size_t{16} << 20)) {
    maker_ = std::make_unique<Maker>(heap_.get(), kDLCPU);
    Maker& m = *maker_;
    params_ = m.begin_sample(wanted, op.params_bytes);
    op.describe(m, params_);
    sizes = m.sizes();
    for (int i = 0; i < m.field_count(); ++i) {
      if (m.fields()[i].tensor != nullptr) add(m.fields(), i, m.complete());
    }
  }

  exn_status supported() const { return op_->supported(params_); }
  exn_status workspace_size(size_t* bytes) const { return op_->workspace_size(params_, bytes); }
  exn_status run(void* workspace, size_t bytes) const {
    return op_->run(params_, workspace, bytes, nullptr);
  }

  Maker& maker() const { return *maker_; }

  // What the three functions are given: another copy from here on.
  unsigned char* params() const { return static_cast<unsigned char*>(params_); }
  void set_params(void* params) { params_ = params; }

  std::vector<std::unique_ptr<Argument>> arguments;
  Named sizes;

 private:
  void add(const TensorField* fields, int index, bool complete) {
    const TensorField& f = fields[index];
    for (int i = 0; i < index; ++i) {  // one tensor in two fields
      if (fields[i].tensor == nullptr || fields[i].tensor->slot != f.tensor->slot) continue;
      Argument* a = arguments[owners_[fields[i].tensor->slot]].get();
      a->fields.push_back(f.place);
      *f.place = &a->dl;
      return;
    }
    owners_[f.tensor->slot] = arguments.size();
    arguments.push_back(std::make_unique<Argument>());
    Argument* a = arguments.back().get();
    a->name = f.name;
    if (const size_t at = a->name.find("[]"); at != std::string::npos) {
      const auto same = [&](const TensorField& other) {
        return std::strcmp(other.name, f.name) == 0;
      };
      a->name.insert(at + 1, std::to_string(std::count_if(fields, fields + index, same)));
    }
    a->type = f.type.type;
    a->shape.assign(f.tensor->shape, f.tensor->shape + f.rank);
    a->written = f.role != Role::kIn || f.tensor->written;
    a->optional = (f.flags & kOptional) != 0;
    a->strided = (f.flags & kRows) != 0;
    a->fields = {f.place};
    a->dl = {nullptr, {kDLCPU, 0}, f.rank, dl_type(a->type), a->shape.data(), nullptr, 0};
    *f.place = &a->dl;
    if (!complete) return;
    a->initial = make_tensor(a->type, a->shape.empty() ? std::vector<int64_t>{1} : a->shape);
    if (!a->empty())
      std::memcpy(a->initial.bytes.data(), f.tensor->data<char>(), a->initial.bytes.size());
  }

  const OpUnderTest* op_;
  std::unique_ptr<Heap> heap_;
  std::unique_ptr<Maker> maker_;
  void* params_;
  std::map<const Slot*, size_t> owners_;
};

struct Sample {
  std::string name;
  const OpUnderTest* op;
  Named choices;

  bool on_cuda() const {
    return std::strcmp(op->name, "exn_layer_schedule") != 0 &&
           name.find("_panels") == std::string::npos;
  }
  Named with(const Named& sizes) const {
    Named wanted = sizes;
    wanted.insert(choices.begin(), choices.end());
    return wanted;
  }
  SampleCall make(const Named& sizes = {}) const { return SampleCall(*op, with(sizes)); }
};

std::ostream& operator<<(std::ostream& stream, const Sample& sample);

// One of each op, but for those that are different ops by their choices.
const std::vector<Sample>& samples();
// The one of that name, which must know these sizes.
const Sample& sample(const std::string& name, const Named& sizes = {});
// Arguments are checked before anybody asks which processor runs: a share of the ops is enough
// where a run takes one.
std::vector<Sample> samples_of_this_run();

inline bool takes(const Sample& op, const Target& target) { return target.cpu() || op.on_cuda(); }

std::string list_of(const Named& extents);

// ---- a call with its tensors in memory ----------------------------------------------------------

struct Outcome {
  exn_status status = EXN_OK;
  std::string error;
  size_t bytes = 0;
  std::vector<std::vector<unsigned char>> written;

  bool operator==(const Outcome& other) const {
    return status == other.status && error == other.error && bytes == other.bytes &&
           written == other.written;
  }
};

std::ostream& operator<<(std::ostream& stream, const Outcome& o);

class PlacedCall {
 public:
  PlacedCall(const Target& target, SampleCall call) : target_(target), call_(std::move(call)) {
    use(target);
    for (auto& a : call_.arguments) {
      placed_.push_back(std::make_unique<Placed>(target, a->initial));
      a->dl = *placed_.back()->dl();
      a->dl.ndim = static_cast<int32_t>(a->shape.size());
    }
  }

  SampleCall& call() { return call_; }
  const std::vector<std::unique_ptr<Argument>>& arguments() const { return call_.arguments; }

  void give(Argument* a, bool given) {
    for (const DLTensor** field : a->fields) *field = given ? &a->dl : nullptr;
  }

  // Where an argument lies.
  Placed* placed(const Argument* a) {
    size_t i = 0;
    while (arguments()[i].get() != a) ++i;
    return placed_[i].get();
  }
  // All outputs are as they were before any run.
  void reset() {
    for (auto& tensor : placed_) tensor->reset();
  }

  // Of those that lie `elsewhere` the outcome holds nothing.
  Outcome run(const std::vector<const Argument*>& elsewhere = {}) {
    const auto is_here = [&](size_t i) {
      const Argument* a = arguments()[i].get();
      return std::find(elsewhere.begin(), elsewhere.end(), a) == elsewhere.end();
    };
    for (size_t i = 0; i < placed_.size(); ++i) {
      if (arguments()[i]->written && is_here(i)) placed_[i]->reset();
    }
    Outcome outcome;
    outcome.status = call_.workspace_size(&outcome.bytes);
    if (outcome.status == EXN_OK) {
      DeviceMemory workspace(target_, outcome.bytes + 1);
      outcome.status = call_.run(workspace.data(), outcome.bytes);
      EXPECT_EQ(exn_stream_synchronize(target_.device_type, 0, nullptr), EXN_OK);
    }
    if (outcome.status != EXN_OK) outcome.error = exn_last_error();
    for (size_t i = 0; i < placed_.size(); ++i) {
      if (!arguments()[i]->written) {
        EXPECT_TRUE(!is_here(i) || placed_[i]->unchanged()) << arguments()[i]->name;
        continue;
      }
      EXPECT_TRUE(!is_here(i) || placed_[i]->guards_intact()) << arguments()[i]->name;
      outcome.written.emplace_back();
      if (is_here(i)) outcome.written.back() = placed_[i]->read().bytes;
    }
    return outcome;
  }

 private:
  Target target_;
  SampleCall call_;
  std::vector<std::unique_ptr<Placed>> placed_;
};

// A call of any sizes, with tensors in memory that is not there: far apart, and never touched.
class CallNowhere {
 public:
  static constexpr int64_t kApart = int64_t{1} << 52;  // bytes from tensor to tensor

  CallNowhere(const Target& target, const Sample& sample, const Named& sizes)
      : op_(sample.op), heap_(kParamsAlone), maker_(&heap_, target.device_type) {
    const Named wanted = sample.with(sizes);
    params_ = maker_.begin_sample(wanted, op_->params_bytes);
    op_->describe(maker_, params_);
    for (int i = 0; i < maker_.tensor_count(); ++i)
      maker_.tensors()[i].dl.data = reinterpret_cast<void*>((uintptr_t{1} + i) * kApart);
  }

  // Those that are given.
  std::vector<TensorField*> fields() {
    std::vector<TensorField*> given;
    for (int i = 0; i < maker_.field_count(); ++i) {
      TensorField* const f = &maker_.fields()[i];
      if (f->tensor != nullptr) given.push_back(f);
    }
    return given;
  }
  Maker& maker() { return maker_; }

  exn_status supported() const { return op_->supported(params_); }
  exn_status workspace_size(size_t* bytes) const { return op_->workspace_size(params_, bytes); }

 private:
  static constexpr size_t kParamsAlone = 512;
  const OpUnderTest* op_;
  Heap heap_;
  Maker maker_;
  void* params_;
};

}  // namespace exn::test
