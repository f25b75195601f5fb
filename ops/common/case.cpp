// SPDX-License-Identifier: Apache-2.0
#include "case.h"

#include <algorithm>

namespace exn::test {

namespace {

using Lists = std::map<std::string, std::vector<ListedCase> (*)()>;

Lists& lists() {
  static Lists all;
  return all;
}

constexpr unsigned char kDirt = 0xCD;

}  // namespace

RegisteredOp::RegisteredOp(const char* op, std::vector<ListedCase> (*cases)()) {
  lists()[op] = cases;
}

std::vector<std::string> ops() {
  std::vector<std::string> names;
  for (const auto& list : lists()) names.push_back(list.first);
  return names;
}

std::vector<ListedCase> cases_of(const std::string& op) {
  const auto found = lists().find(op);
  if (found == lists().end()) fail("no cases of an op '" + op + "'");
  return found->second();
}

const DLTensor* Instance::input(const HostTensor& tensor) {
  tensors_.emplace_back(device_type_, tensor);
  return tensors_.back().dl();
}

const DLTensor* Instance::output(const std::string& name, Type type, std::vector<int64_t> shape,
                                 int64_t pad, int64_t offset) {
  return in_out(name, poisoned(type, std::move(shape), pad, offset));
}

const DLTensor* Instance::in_out(const std::string& name, const HostTensor& tensor) {
  const DLTensor* dl = input(tensor);
  outputs_.push_back(&tensors_.back());
  output_names_.push_back(name);
  return dl;
}

Placed* Instance::tensor(const DLTensor* argument) {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(),
                   [argument](const Placed& tensor) { return tensor.dl() == argument; });
  if (argument == nullptr || found == tensors_.end()) fail("no tensor of this instance");
  return &*found;
}

void Instance::run(exn_stream stream) const {
  for (size_t call = 0; call < calls_.size(); ++call) run_call(call, stream);
}

void Instance::run_call(size_t call, exn_stream stream) const {
  require(calls_[call].run(workspace_->data(), call_bytes_[call], stream), calls_[call].op);
}

void Instance::prepare() {
  reset_outputs();
  if (workspace_ == nullptr) {
    size_t most = 64;
    for (const BoundCall& call : calls_) {
      size_t bytes = 0;
      require(call.workspace_size(&bytes), call.op);
      call_bytes_.push_back(bytes);
      most = std::max(most, bytes);
    }
    workspace_ = std::make_unique<DeviceMemory>(device_type_, most);
  }
  workspace_->write(std::vector<unsigned char>(workspace_->size(), kDirt));
}

bool Instance::is_output(const Placed& tensor) const {
  return std::find(outputs_.begin(), outputs_.end(), &tensor) != outputs_.end();
}

void Instance::reset_outputs() {
  for (Placed* output : outputs_) output->reset();
  // Beside which no cache has the inputs every third time: in turn all four ways in which a call
  // may meet what it reads and what it writes.
  const bool cached = resets_++ % 3 != 0;
  for (Placed& tensor : tensors_) {
    if (!is_output(tensor)) tensor.place(cached);
  }
}

Outputs Instance::outputs() const {
  Outputs values;
  for (const Placed* output : outputs_) values.push_back(output->read());
  return values;
}

bool Instance::surroundings_intact() const {
  return std::all_of(tensors_.begin(), tensors_.end(), [this](const Placed& tensor) {
    return is_output(tensor) ? tensor.guards_intact() : tensor.unchanged();
  });
}

bool Instance::outputs_unchanged() const {
  return std::all_of(outputs_.begin(), outputs_.end(),
                     [](const Placed* output) { return output->unchanged(); });
}

size_t Instance::tensor_bytes() const {
  size_t bytes = 0;
  for (const Placed& tensor : tensors_) bytes += tensor.initial().bytes.size();
  return bytes;
}

// Those that others dwarf have just been made where an op is timed, or cost nothing.
std::vector<Placed*> Instance::streamed(bool with_outputs) {
  std::vector<Placed*> chosen;
  size_t largest = 0;
  for (Placed& tensor : tensors_) {
    if (tensor.dl() == nullptr || (is_output(tensor) && !with_outputs)) continue;
    chosen.push_back(&tensor);
    largest = std::max(largest, tensor.footprint());
  }
  constexpr size_t kDwarfed = 16;
  chosen.erase(std::remove_if(
                   chosen.begin(), chosen.end(),
                   [&](const Placed* tensor) { return tensor->footprint() < largest / kDwarfed; }),
               chosen.end());
  return chosen;
}

size_t Instance::streamed_bytes(bool with_outputs) {
  size_t bytes = 0;
  for (const Placed* tensor : streamed(with_outputs)) bytes += tensor->footprint();
  return bytes;
}

void Instance::move_to(unsigned char* memory, bool with_outputs) {
  for (Placed* tensor : streamed(with_outputs)) {
    tensor->move_to(memory);
    memory += tensor->footprint();
  }
}

}  // namespace exn::test
