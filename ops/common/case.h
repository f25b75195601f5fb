// SPDX-License-Identifier: Apache-2.0
// An op of the C ABI as all tests and benchmarks see it: an op has cases, a case becomes an
// instance with its tensors on a device, and an instance can be run, poisoned, read and judged.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "memory.h"
#include "table.h"

namespace exn::test {

template <class Params>
struct Op {
  const char* name;
  exn_status (*supported)(const Params*);
  exn_status (*workspace_size)(const Params*, size_t*);
  exn_status (*run)(const Params*, void*, size_t, exn_stream);
};

// The three functions of an op and its name: EXN_TEST_OP(cosine).
#define EXN_TEST_OP(name)                                                  \
  ::exn::test::Op<exn_##name##_params> {                                   \
    #name, exn_##name##_supported, exn_##name##_workspace_size, exn_##name \
  }

// A call of an op with its arguments bound.
struct BoundCall {
  const char* op;
  std::shared_ptr<const void> params;
  std::function<exn_status()> supported;
  std::function<exn_status(size_t*)> workspace_size;
  std::function<exn_status(void*, size_t, exn_stream)> run;
  // What a device puts up with: the CPU refuses it and writes nothing.
  bool cpu_refuses = false;
};

template <class Params>
BoundCall bound(const Op<Params>& op, const std::shared_ptr<const Params>& params) {
  return {op.name, params, [op, params] { return op.supported(params.get()); },
          [op, params](size_t* bytes) { return op.workspace_size(params.get(), bytes); },
          [op, params](void* workspace, size_t bytes, exn_stream stream) {
            return op.run(params.get(), workspace, bytes, stream);
          }};
}

template <class Params>
BoundCall bound(const Op<Params>& op, const Params& params) {
  return bound<Params>(op, std::make_shared<const Params>(params));
}

// The outputs of a run, in the order in which the op declared them.
using Outputs = std::vector<HostTensor>;

class Instance {
 public:
  explicit Instance(int32_t device_type) : device_type_(device_type) {}

  const DLTensor* input(const HostTensor& tensor);
  // Starts poisoned.
  const DLTensor* output(const std::string& name, Type type, std::vector<int64_t> shape,
                         int64_t pad = 0, int64_t offset = 0);
  // Starts as `tensor`, which the op overwrites.
  const DLTensor* in_out(const std::string& name, const HostTensor& tensor);
  // What a params struct points at.
  template <class T>
  const T* keep(std::vector<T> values) {
    const auto kept = std::make_shared<std::vector<T>>(std::move(values));
    kept_.push_back(kept);
    return kept->data();
  }

  // Adds a call; the calls of an instance run one after the other.
  template <class Params>
  void call(const Op<Params>& op, const Params& params, bool cpu_refuses = false) {
    calls_.push_back(bound(op, params));
    calls_.back().cpu_refuses = cpu_refuses;
  }
  const std::vector<BoundCall>& calls() const { return calls_; }

  // All calls, each with the workspace it asks for; `prepare` comes first.
  void run(exn_stream stream) const;
  void run_call(size_t call, exn_stream stream) const;

  // Puts the outputs back to what they were before any run, and rubbish into the workspace. Must
  // come before the first run too: it reserves the workspace.
  void prepare();
  void reset_outputs();
  Outputs outputs() const;
  const std::vector<std::string>& output_names() const { return output_names_; }

  // For tests of wrong arguments: those of the first call, the tensor that one of them points at,
  // and all tensors that calls write.
  template <class Params>
  const Params& params() const {
    return *static_cast<const Params*>(calls_[0].params.get());
  }
  Placed* tensor(const DLTensor* argument);
  const std::vector<Placed*>& written() const { return outputs_; }

  // Inputs are unchanged, and so is everything around the outputs.
  bool surroundings_intact() const;
  bool outputs_unchanged() const;
  size_t tensor_bytes() const;

  // The large inputs, and outputs where asked, are moved to memory of the caller's: so many bytes.
  size_t streamed_bytes(bool with_outputs);
  void move_to(unsigned char* memory, bool with_outputs);

 private:
  bool is_output(const Placed& tensor) const;
  std::vector<Placed*> streamed(bool with_outputs);

  int32_t device_type_;
  std::deque<Placed> tensors_;
  std::vector<Placed*> outputs_;
  std::vector<std::string> output_names_;
  std::vector<std::shared_ptr<void>> kept_;
  std::vector<BoundCall> calls_;
  std::vector<size_t> call_bytes_;
  std::unique_ptr<DeviceMemory> workspace_;
  int resets_ = 0;
};

// What was wrong with a result; empty if nothing was.
using Complaint = std::string;

struct Case {
  std::string op;
  CaseBase base;
  std::function<std::unique_ptr<Instance>(int32_t device_type)> instantiate;
  // Judges outputs against the double-precision oracle, which is computed once.
  std::function<Complaint(const Outputs&)> judge;
  // Bytes that any implementation must move.
  double compulsory_bytes = 0;
  // What a device must put up with and the CPU refuses: judged on the device alone.
  bool cpu_refuses = false;
  // Where the CPU refuses but some of the calls: judges what the others leave there.
  std::function<Complaint(const Outputs&)> judge_on_cpu;
  // Outputs that must have the bits of the CPU's, by name.
  std::vector<std::string> same_as_cpu;
  // What a peer needs to time the same thing: names and values, the values in JSON.
  std::map<std::string, std::string> description;
};

// A case that is only known by name. Many have to generate their inputs to say what they cost, so
// cases are made when they are chosen.
struct ListedCase {
  std::string op;
  CaseBase base;
  std::function<Case()> make_unnamed;
  // Of several ops, for which no header states bytes.
  bool composed = false;
  // Made of another with ids out of range: what a device puts up with and the CPU refuses.
  bool spoiled = false;
  // The op makes tables in host memory, on every backend, or takes what was packed for the CPU.
  bool host_only = false;

  Case make() const {
    Case made = make_unnamed();
    made.op = op;
    made.base = base;
    if (spoiled) {
      made.cpu_refuses = true;
      made.compulsory_bytes = 0;
    }
    return made;
  }
};

template <class SpecificCase>
std::vector<ListedCase> listed(const char* op, const std::vector<SpecificCase>& cases,
                               Case (*make)(const SpecificCase&)) {
  std::vector<ListedCase> all;
  for (const SpecificCase& c : cases) all.push_back({op, c, [c, make] { return make(c); }});
  return all;
}

// Ids out of range: which of them a spoiled case has, every third one beginning with the second.
inline bool is_spoiled(int64_t index) { return index % 3 == 1; }

// Puts `low` or, in turn, `high` into the spoiled entries.
inline HostTensor with_strays(HostTensor ids, int64_t low, int64_t high) {
  for (int64_t i = 0; i < ids.size(); ++i) {
    if (is_spoiled(i)) ids.set_integer(i, i % 2 == 0 ? high : low);
  }
  return ids;
}

// Some of the small cases once more, and all of them that `always` names, with ids out of range.
template <class SpecificCase>
void append_spoiled(std::vector<ListedCase>* all, const char* op,
                    const std::vector<SpecificCase>& cases, Case (*spoiled)(const SpecificCase&),
                    bool (*always)(const SpecificCase&) = nullptr) {
  constexpr int kEvery = 7;
  int index = 0;
  for (const SpecificCase& c : cases) {
    if (!c.small) continue;
    const bool is_named = always != nullptr && always(c);
    if (index++ % kEvery != 0 && !is_named) continue;
    all->push_back({op, c, [c, spoiled] { return spoiled(c); }});
    all->back().base.id += "_strays";
    all->back().spoiled = true;
  }
}

// What the folder of an op registers: `const RegisteredOp registered("cosine", cosine_cases);`.
class RegisteredOp {
 public:
  RegisteredOp(const char* op, std::vector<ListedCase> (*cases)());
};

// The ops that are registered, in alphabetical order.
std::vector<std::string> ops();
// Throws if there is no such op.
std::vector<ListedCase> cases_of(const std::string& op);

}  // namespace exn::test
