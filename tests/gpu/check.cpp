// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include <exception>

namespace exn::gpu {
namespace {

constexpr double kEnoughTraffic = 16384;

bool same_bits(const Outputs& a, const Outputs& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].bytes != b[i].bytes) return false;
  }
  return true;
}

std::unique_ptr<Instance> prepared(const Case& c, int32_t device_type) {
  std::unique_ptr<Instance> instance = c.instantiate(device_type);
  instance->prepare();
  return instance;
}

class Checker {
 public:
  Checker(const Case& c, CheckResult* result) : case_(c), result_(result) {}

  void run(bool once) {
    ++result_->cases;
    check_eager();
    if (!once) {
      check_graph();
      check_two_streams();
    }
    if (!case_.cpu_refuses) check_cpu();
  }

 private:
  void complain(const std::string& what) {
    result_->failures.push_back(case_.op + " " + case_.base.id + ": " + what);
  }

  void judge(const std::string& where, const Outputs& outputs) {
    const Complaint complaint = case_.judge(outputs);
    if (!complaint.empty()) complain(where + ": " + complaint);
  }

  void check_eager() {
    const double before = bytes_requested();
    instance_->run(stream_.get());
    stream_.synchronize();
    note_traffic(bytes_requested() - before);
    eager_ = instance_->outputs();
    judge("cuda", eager_);
    if (!instance_->surroundings_intact())
      complain("cuda changed an input or wrote outside an output");
  }

  void note_traffic(double bytes) {
    if (case_.compulsory_bytes < kEnoughTraffic || bytes == 0) return;
    const double ratio = bytes / case_.compulsory_bytes;
    if (ratio <= result_->most_traffic) return;
    result_->most_traffic = ratio;
    result_->most_traffic_case = case_.base.id;
  }

  // Twice, from poisoned outputs: a replay must not depend on what the last one left.
  void check_graph() {
    const Graph graph(stream_, [this] { instance_->run(stream_.get()); });
    for (int replay = 0; replay < 2; ++replay) {
      instance_->prepare();
      graph.launch(stream_);
      stream_.synchronize();
      if (!same_bits(instance_->outputs(), eager_)) complain("a captured graph gives other bits");
    }
  }

  void check_two_streams() {
    const std::unique_ptr<Instance> other = prepared(case_, kDLCUDA);
    const Stream other_stream(kDLCUDA);
    instance_->prepare();
    instance_->run(stream_.get());
    other->run(other_stream.get());
    other_stream.synchronize();
    stream_.synchronize();
    if (!same_bits(other->outputs(), eager_) || !same_bits(instance_->outputs(), eager_)) {
      complain("two streams at once give other bits");
    }
  }

  void check_cpu() {
    const std::unique_ptr<Instance> cpu = prepared(case_, kDLCPU);
    cpu->run(nullptr);
    const Outputs outputs = cpu->outputs();
    judge("cpu", outputs);
    result_->same_bits_as_cpu += same_bits(outputs, eager_);
    for (const std::string& name : case_.same_as_cpu) {
      const std::vector<std::string>& names = cpu->output_names();
      for (size_t i = 0; i < names.size(); ++i) {
        if (names[i] == name && outputs[i].bytes != eager_[i].bytes) {
          complain(name + ": not that of the CPU");
        }
      }
    }
  }

  const Case& case_;
  CheckResult* result_;
  Stream stream_{kDLCUDA};
  std::unique_ptr<Instance> instance_ = prepared(case_, kDLCUDA);
  Outputs eager_;
};

}  // namespace

void check(const Case& c, bool once, CheckResult* result) {
  try {
    Checker(c, result).run(once);
  } catch (const std::exception& error) {
    result->failures.push_back(c.op + " " + c.base.id + ": " + error.what());
  }
}

}  // namespace exn::gpu
