// SPDX-License-Identifier: Apache-2.0
// Sessions of ONNX Runtime's within a node of ours, which run on the thread that calls them, by its
// own provider for CPUs.
#pragma once

#include "frame.h"
#include "match.h"

namespace exn::ort {

// What such sessions share.
class Inner {
 public:
  explicit Inner(const Api& of);
  ~Inner();
  Inner(const Inner&) = delete;
  Inner& operator=(const Inner&) = delete;

  OrtSession* session(const std::string& model) const;
  OrtValue* tensor(const TensorView& view) const;

  const Api& api;

 private:
  OrtEnv* env_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
};

// Nodes of bf16 that ONNX Runtime has for f32 alone: it computes them in f32, and what leaves is
// rounded.
class Widened : public Step {
 public:
  // Of nodes of a graph, which read `inputs` of others, and of which others read `outputs`.
  Widened(const Graph& graph, const Claim& claim, const Inner& inner);
  ~Widened() override { inner_.api.ReleaseSession(session_); }

  void bind(const Places& inputs, const Places& outputs) override;
  void run(Frame& frame) const override;

  // Whether a node can be written down for an inner session, and whether tensors of a type can be
  // handed to it.
  static bool possible(const Graph& graph, const Node& node);
  static bool holds(int32_t type);

 private:
  const Inner& inner_;
  OrtSession* session_;
  std::vector<Slot> inputs_, outputs_;  // types as the graph outside has them
  mutable Scratch scratch_;
};

}  // namespace exn::ort
