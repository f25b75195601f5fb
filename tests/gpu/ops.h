// SPDX-License-Identifier: Apache-2.0
//
// Every op of the C ABI behind one face: a case becomes an instance with its tensors on a device,
// which can be run, poisoned, read and judged.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "case_table.h"
#include "device.h"

namespace exn::gpu {

// The outputs of a run, in the order in which the op declared them.
using Outputs = std::vector<test::HostTensor>;

class Instance {
 public:
  explicit Instance(int32_t device_type) : device_type_(device_type) {}

  const DLTensor* input(const test::HostTensor& tensor);
  // Starts poisoned.
  const DLTensor* output(const std::string& name, test::Type type, std::vector<int64_t> shape,
                         int64_t pad = 0, int64_t offset = 0);
  // Starts as `tensor`, which the op overwrites.
  const DLTensor* in_out(const std::string& name, const test::HostTensor& tensor);

  // Adds a call; the calls of an instance run one after the other.
  template <class Params>
  void call(const Params& params, exn_status (*workspace_size)(const Params*, size_t*),
            exn_status (*run)(const Params*, void*, size_t, exn_stream)) {
    size_t bytes = 0;
    require(workspace_size(&params, &bytes), "workspace_size");
    workspace_bytes_ = bytes > workspace_bytes_ ? bytes : workspace_bytes_;
    calls_.push_back([params, bytes, run](void* workspace, exn_stream stream) {
      require(run(&params, workspace, bytes, stream), "run");
    });
  }

  void run(exn_stream stream) const;
  size_t calls() const { return calls_.size(); }
  void run_call(size_t call, exn_stream stream) const { calls_[call](workspace_->data(), stream); }

  // Puts the outputs back to what they were before any run, and rubbish into the workspace. Must
  // come before the first run too: it reserves the workspace.
  void prepare();
  Outputs outputs() const;
  const std::vector<std::string>& output_names() const { return output_names_; }
  // Inputs are unchanged, and so is everything around the outputs.
  bool surroundings_intact() const;
  size_t tensor_bytes() const;

 private:
  int32_t device_type_;
  std::deque<DeviceTensor> tensors_;
  std::vector<DeviceTensor*> outputs_;
  std::vector<std::string> output_names_;
  std::vector<std::function<void(void*, exn_stream)>> calls_;
  size_t workspace_bytes_ = 0;
  std::unique_ptr<Memory> workspace_;
};

// What was wrong with a result; empty if nothing was.
using Complaint = std::string;

struct Case {
  std::string op;
  test::CaseBase base;
  std::function<std::unique_ptr<Instance>(int32_t device_type)> instantiate;
  // Judges outputs against the double-precision oracle, which is computed once.
  std::function<Complaint(const Outputs&)> judge;
  // Bytes that any implementation must move.
  double compulsory_bytes = 0;
  // What a device must put up with and the CPU refuses: judged on the device alone.
  bool cpu_refuses = false;
  // Outputs that must have the bits of the CPU's, by name.
  std::vector<std::string> same_as_cpu;
  // What a peer needs to time the same thing: names and values, the values in JSON.
  std::map<std::string, std::string> description;
};

// A case that is only known by name. Many have to generate their inputs to say what they cost, so
// cases are made when they are chosen.
struct ListedCase {
  std::string op;
  test::CaseBase base;
  std::function<Case()> make_unnamed;
  // Of several ops, for which no header states bytes.
  bool composed = false;

  Case make() const {
    Case made = make_unnamed();
    made.op = op;
    made.base = base;
    return made;
  }
};

template <class SpecificCase>
void append(std::vector<ListedCase>* all, const char* op, const std::vector<SpecificCase>& cases,
            Case (*make)(const SpecificCase&)) {
  for (const SpecificCase& c : cases) all->push_back({op, c, [c, make] { return make(c); }});
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
    all->push_back({op, c, [c, spoiled] {
                      Case made = spoiled(c);
                      made.cpu_refuses = true;
                      made.compulsory_bytes = 0;
                      return made;
                    }});
    all->back().base.id += "_strays";
  }
}

// All cases of all ops from the tables in `directory`.
std::vector<ListedCase> all_cases();

// Those of the ops on KV caches and of the row schedules.
void append_cache_cases(const std::string& directory, std::vector<ListedCase>* all);

// Those of the ops with dense rows and weights.
void append_dense_cases(const std::string& directory, std::vector<ListedCase>* all);

// Those of the ops that drop tokens.
void append_drop_cases(const std::string& directory, std::vector<ListedCase>* all);

// A decode step made of many ops, decided on the device.
void append_step_cases(std::vector<ListedCase>* all);

}  // namespace exn::gpu
