// SPDX-License-Identifier: Apache-2.0
// Sessions of ONNX Runtime's within a node of ours, which run on the thread that calls them, by its
// own provider for CPUs.
#pragma once

#include "calls.h"
#include "graph.h"

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
  Widened(const Graph& graph, const std::vector<std::string>& inputs,
          const std::vector<std::string>& outputs, const Inner& inner);
  ~Widened() override { inner_.api.ReleaseSession(session_); }

  void run(OrtKernelContext* context) const override;

  // Whether a node can be written down for an inner session.
  static bool possible(const Graph& graph, const Node& node);

 private:
  const Inner& inner_;
  OrtSession* session_;
  std::vector<std::string> inputs_, outputs_;
  std::vector<int32_t> output_types_;  // as the graph outside has them
  mutable Scratch scratch_;
};

}  // namespace exn::ort
