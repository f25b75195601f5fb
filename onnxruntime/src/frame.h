// SPDX-License-Identifier: Apache-2.0
// One run of a fused node, which its steps share.
#pragma once

#include <memory>
#include <vector>

#include "calls.h"

namespace exn::ort {

// A step's inputs are the node's, or what a step before it has made; its outputs are the node's, or
// lie in scratch memory until the last step that reads them has.
class Frame {
 public:
  Frame(const Api& of, OrtKernelContext* node, Scratch& scratch, size_t within)
      : api(of), context(node), scratch_(scratch), within_(within) {}

  const Api& api;
  OrtKernelContext* const context;

  // Of the type that the graph says.
  TensorView input(const Slot& slot) const {
    TensorView view = slot.within != Slot::kNowhere ? within_[slot.within].view
                                                    : input_of(api, context, slot.of_node);
    if (view.type != slot.type) {
      throw Failure(kInvalidArgument, "exeunt: " + slot.name + " has the ONNX element type " +
                                          std::to_string(view.type) + ", expected " +
                                          std::to_string(slot.type));
    }
    return view;
  }

  TensorView output(const Slot& slot, const std::vector<int64_t>& shape) {
    TensorView view = slot.of_node != Slot::kNowhere
                          ? output_of(api, context, slot.of_node, slot.type, shape)
                          : TensorView{nullptr, slot.type, shape};
    if (slot.of_node == Slot::kNowhere) {
      const auto bytes = static_cast<size_t>(view.count() * bytes_of(view.type));
      within_[slot.within].block = std::make_unique<Scratch::Block>(scratch_, bytes);
      view.data = within_[slot.within].block->take(bytes);
    }
    if (slot.within != Slot::kNowhere) within_[slot.within].view = view;
    return view;
  }

  void release(size_t within) { within_[within].block.reset(); }

 private:
  struct Held {
    TensorView view;
    std::unique_ptr<Scratch::Block> block;
  };

  Scratch& scratch_;
  std::vector<Held> within_;
};

}  // namespace exn::ort
