// SPDX-License-Identifier: Apache-2.0
// Graphs, events and host memory: what they do to ops and copies, what spoils a capture and what
// does not, and that wrong arguments are refused by name.
#include <exeunt/device.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "misuse.h"

namespace exn::test {
namespace {

class Device : public ::testing::Test {
 protected:
  // A stream, and an op on it: cosines of three rows.
  void set_up(const Target& target) {
    target_ = target;
    type_ = target.device_type;
    use(target);
    ASSERT_EQ(exn_stream_create(type_, 0, &stream_), EXN_OK) << exn_last_error();
    a_ = std::make_unique<Placed>(target, normal(Type::kF32, {3, 8}));
    b_ = std::make_unique<Placed>(target, normal(Type::kF32, {3, 8}, 1));
    out_ = std::make_unique<Placed>(target, poisoned(Type::kF32, {3}));
  }
  void TearDown() override {
    if (stream_ != nullptr) exn_stream_destroy(type_, 0, stream_);
  }

  exn_status run(exn_stream stream) const {
    const exn_cosine_params p = {sizeof p, a_->dl(), b_->dl(), out_->dl()};
    return exn_cosine(&p, nullptr, 0, stream);
  }
  exn_status run() const { return run(stream_); }
  exn_status synchronize() const { return exn_stream_synchronize(type_, 0, stream_); }

  // Whether the op has run since the outputs were last poisoned.
  bool has_run() const {
    const HostTensor out = out_->read();
    return std::fabs(out.at(0, 0)) <= 1 && std::fabs(out.at(0, 1)) <= 1;
  }
  void poison() { out_->reset(); }

  void expect_usable() {
    poison();
    EXPECT_EQ(run(), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_OK) << exn_last_error();
    EXPECT_TRUE(has_run());
  }

  Target target_;
  int32_t type_ = kDLCPU;
  exn_stream stream_ = nullptr;
  std::unique_ptr<Placed> a_, b_, out_;
};

// On CUDA, emulated or not.
class Graphs : public Device {
 protected:
  void SetUp() override {
    for (const Target& target : targets()) {
      if (!target.cpu()) return set_up(target);
    }
    GTEST_SKIP() << "no CUDA device in this run";
  }

  exn_status begin() const { return exn_graph_begin(type_, 0, stream_); }
  exn_status end(exn_graph* graph) const { return exn_graph_end(type_, 0, stream_, graph); }
  exn_status abort() const { return exn_graph_abort(type_, 0, stream_); }
  exn_status launch(exn_graph graph) const { return exn_graph_launch(type_, 0, graph, stream_); }

  // Ends the capture, launches what it holds, and destroys it.
  void end_and_launch() {
    exn_graph graph = nullptr;
    ASSERT_EQ(end(&graph), EXN_OK) << exn_last_error();
    EXPECT_FALSE(has_run()) << "captured, not run";
    EXPECT_EQ(launch(graph), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_OK) << exn_last_error();
    EXPECT_TRUE(has_run());
    EXPECT_EQ(exn_graph_destroy(type_, 0, graph), EXN_OK) << exn_last_error();
  }
};

TEST_F(Graphs, LaunchesWhatWasCaptured) {
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  ASSERT_EQ(run(), EXN_OK) << exn_last_error();
  exn_graph graph = nullptr;
  ASSERT_EQ(end(&graph), EXN_OK) << exn_last_error();
  ASSERT_NE(graph, nullptr);
  EXPECT_FALSE(has_run());
  exn_stream other = nullptr;
  ASSERT_EQ(exn_stream_create(type_, 0, &other), EXN_OK);
  for (const exn_stream stream : {stream_, other, exn_stream{nullptr}}) {
    poison();
    EXPECT_EQ(exn_graph_launch(type_, 0, graph, stream), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_stream_synchronize(type_, 0, stream), EXN_OK) << exn_last_error();
    EXPECT_TRUE(has_run());
  }
  EXPECT_EQ(exn_graph_destroy(type_, 0, graph), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_graph_destroy(type_, 0, nullptr), EXN_OK);
  exn_stream_destroy(type_, 0, other);
  expect_usable();
}

TEST_F(Graphs, ARefusedCallSpoilsNoCapture) {
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  const exn_cosine_params wrong = {sizeof wrong, a_->dl(), b_->dl(), nullptr};
  EXPECT_EQ(exn_cosine(&wrong, nullptr, 0, stream_), EXN_INVALID_ARGUMENT);
  expect_words({"out", "null"});
  EXPECT_EQ(exn_copy(nullptr, kDLCPU, 0, out_->dl()->data, type_, 0, 4, stream_),
            EXN_INVALID_ARGUMENT);
  EXPECT_EQ(begin(), EXN_INVALID_ARGUMENT);
  expect_words({"exn_graph_begin", "captured already"});
  ASSERT_EQ(run(), EXN_OK) << exn_last_error();
  end_and_launch();
}

TEST_F(Graphs, AnAbortedCaptureLeavesTheStreamUsable) {
  EXPECT_EQ(abort(), EXN_OK) << "nothing to abort";
  for (const bool refused : {false, true}) {
    poison();
    ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
    ASSERT_EQ(run(), EXN_OK) << exn_last_error();
    if (refused) {
      EXPECT_EQ(exn_cosine(nullptr, nullptr, 0, stream_), EXN_INVALID_ARGUMENT);
    }
    EXPECT_EQ(abort(), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_OK) << exn_last_error();
    EXPECT_FALSE(has_run());
    exn_graph graph = nullptr;
    EXPECT_EQ(end(&graph), EXN_INVALID_ARGUMENT);
    expect_words({"exn_graph_end", "not being captured"});
    expect_usable();
  }
}

TEST_F(Graphs, ASpoiltCaptureEndsWithoutAGraph) {
  for (const bool given_up : {false, true}) {
    ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
    EXPECT_EQ(synchronize(), EXN_RUNTIME_FAILURE);
    expect_words({"cudaStreamSynchronize", "captur"});
    EXPECT_EQ(run(), EXN_RUNTIME_FAILURE);
    expect_words({"cosine", "cudaErrorStreamCaptureInvalidated"});
    exn_graph graph = &graph;
    if (given_up) {
      EXPECT_EQ(abort(), EXN_OK) << exn_last_error();
    } else {
      EXPECT_EQ(end(&graph), EXN_RUNTIME_FAILURE);
      expect_words({"cudaStreamEndCapture", "cudaErrorStreamCaptureInvalidated"});
      EXPECT_EQ(graph, &graph) << "a failed end wrote a graph";
    }
    expect_usable();
  }
}

TEST_F(Graphs, AnotherThreadCannotEndIt) {
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  ASSERT_EQ(run(), EXN_OK) << exn_last_error();
  std::thread([this] {
    exn_graph graph = nullptr;
    EXPECT_EQ(end(&graph), EXN_INVALID_ARGUMENT);
    expect_words({"exn_graph_end", "another thread"});
    EXPECT_EQ(abort(), EXN_INVALID_ARGUMENT);
    expect_words({"exn_graph_abort", "another thread"});
  }).join();
  end_and_launch();
}

// Two copies of the output, the second on a stream that joins the capture by an event.
TEST_F(Graphs, StreamsJoinByEvents) {
  exn_stream side = nullptr;
  exn_event fork = nullptr, join = nullptr;
  ASSERT_EQ(exn_stream_create(type_, 0, &side), EXN_OK);
  ASSERT_EQ(exn_event_create(type_, 0, &fork), EXN_OK) << exn_last_error();
  ASSERT_EQ(exn_event_create(type_, 0, &join), EXN_OK) << exn_last_error();
  for (const bool joined : {false, true}) {
    SCOPED_TRACE(joined);
    poison();
    ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_event_record(type_, 0, fork, stream_), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_stream_wait(type_, 0, side, fork), EXN_OK) << exn_last_error();
    ASSERT_EQ(run(side), EXN_OK) << exn_last_error();
    exn_graph none = nullptr;
    EXPECT_EQ(exn_graph_end(type_, 0, side, &none), EXN_INVALID_ARGUMENT);
    expect_words({"exn_graph_end", "begun on another stream"});
    ASSERT_EQ(exn_event_record(type_, 0, join, side), EXN_OK) << exn_last_error();
    if (joined) {
      ASSERT_EQ(exn_stream_wait(type_, 0, stream_, join), EXN_OK) << exn_last_error();
      end_and_launch();
    } else {
      EXPECT_EQ(end(&none), EXN_RUNTIME_FAILURE);
      expect_words({"cudaErrorStreamCaptureUnjoined"});
      EXPECT_EQ(none, nullptr);
      EXPECT_EQ(exn_stream_synchronize(type_, 0, side), EXN_OK) << exn_last_error();
      expect_usable();
    }
  }
  exn_event_destroy(type_, 0, fork);
  exn_event_destroy(type_, 0, join);
  exn_stream_destroy(type_, 0, side);
}

TEST_F(Graphs, AnEventOfACaptureIsForStreamsAlone) {
  exn_event event = nullptr;
  ASSERT_EQ(exn_event_create(type_, 0, &event), EXN_OK);
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  ASSERT_EQ(exn_event_record(type_, 0, event, stream_), EXN_OK) << exn_last_error();
  int32_t reached = 7;
  EXPECT_EQ(exn_event_query(type_, 0, event, &reached), EXN_INVALID_ARGUMENT);
  expect_words({"exn_event_query", "recorded in a capture"});
  EXPECT_EQ(reached, 7);
  EXPECT_EQ(exn_event_synchronize(type_, 0, event), EXN_INVALID_ARGUMENT);
  expect_words({"exn_event_synchronize", "recorded in a capture"});
  EXPECT_EQ(abort(), EXN_OK) << exn_last_error();
  expect_usable();
  EXPECT_EQ(exn_event_destroy(type_, 0, event), EXN_OK);
}

TEST_F(Graphs, WrongArguments) {
  exn_graph graph = nullptr;
  EXPECT_EQ(exn_graph_begin(type_, 0, nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"exn_graph_begin", "stream", "null", "default stream"});
  EXPECT_EQ(exn_graph_end(type_, 0, nullptr, &graph), EXN_INVALID_ARGUMENT);
  expect_words({"exn_graph_end", "stream", "not being captured"});
  EXPECT_EQ(exn_graph_end(type_, 0, stream_, nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"exn_graph_end", "out", "null"});
  EXPECT_EQ(launch(nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"exn_graph_launch", "graph", "null", "exn_graph_end"});
  EXPECT_EQ(exn_graph_abort(type_, 0, nullptr), EXN_OK);
  const int32_t beyond = exn_device_count(EXN_BACKEND_CUDA);
  EXPECT_EQ(exn_graph_begin(type_, beyond, stream_), EXN_INVALID_ARGUMENT);
  expect_words({"exn_graph_begin", "device_id", std::to_string(beyond)});
  EXPECT_EQ(graph, nullptr);
  expect_usable();
}

// ---- allocating beside captures -----------------------------------------------------------------

// All that allocates or frees.
void allocate_and_free(int32_t type) {
  void *memory = nullptr, *host = nullptr;
  EXPECT_EQ(exn_alloc(type, 0, 64, &memory), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_host_alloc(type, 0, 64, &host), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_free(type, 0, memory), EXN_OK) << exn_last_error();
  EXPECT_EQ(exn_host_free(type, 0, host), EXN_OK) << exn_last_error();
}

TEST_F(Graphs, AllocatingSpoilsNoCaptureOfTheThread) {
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  allocate_and_free(type_);
  ASSERT_EQ(run(), EXN_OK) << exn_last_error();
  allocate_and_free(type_);
  end_and_launch();
}

TEST_F(Graphs, AllocatingSpoilsNoCaptureOfAnotherThread) {
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  ASSERT_EQ(run(), EXN_OK) << exn_last_error();
  std::thread([this] { allocate_and_free(type_); }).join();
  end_and_launch();
}

// Another library may capture in the global mode, in which any thread's cudaMalloc spoils it: the
// last round shows that it does.
TEST_F(Graphs, AllocatingSpoilsNoGlobalCapture) {
  const auto begin_capture =
      reinterpret_cast<int (*)(exn_stream, int)>(emulator_function("cudaStreamBeginCapture"));
  const auto end_capture =
      reinterpret_cast<int (*)(exn_stream, void**)>(emulator_function("cudaStreamEndCapture"));
  const auto last_error = reinterpret_cast<int (*)()>(emulator_function("cudaGetLastError"));
  const auto destroy = reinterpret_cast<int (*)(void*)>(emulator_function("cudaGraphDestroy"));
  const auto allocate = reinterpret_cast<int (*)(void**, size_t)>(emulator_function("cudaMalloc"));
  if (begin_capture == nullptr) GTEST_SKIP() << "no emulated device in this run";
  constexpr int kGlobal = 0, kSuccess = 0, kUnsupported = 900, kInvalidated = 901;
  for (const bool careless : {false, true}) {
    ASSERT_EQ(begin_capture(stream_, kGlobal), kSuccess);
    std::thread([&] {
      allocate_and_free(type_);
      void* memory = nullptr;
      if (careless) {
        EXPECT_EQ(allocate(&memory, 64), kUnsupported);
      }
    }).join();
    allocate_and_free(type_);
    void* graph = nullptr;
    EXPECT_EQ(end_capture(stream_, &graph), careless ? kInvalidated : kSuccess);
    if (graph != nullptr) destroy(graph);
  }
  last_error();  // the emulator is the runtime of both
  expect_usable();
}

// ---- contexts -----------------------------------------------------------------------------------

// A context that the caller made stays current, and all that is done is done in it: work for its
// stream is refused in the primary one.
TEST_F(Graphs, RunsInTheContextOfTheCaller) {
  const auto create =
      reinterpret_cast<int (*)(void**, unsigned, int)>(emulator_function("cuCtxCreate_v2"));
  const auto set_current = reinterpret_cast<int (*)(void*)>(emulator_function("cuCtxSetCurrent"));
  const auto get_current = reinterpret_cast<int (*)(void**)>(emulator_function("cuCtxGetCurrent"));
  const auto destroy = reinterpret_cast<int (*)(void*)>(emulator_function("cuCtxDestroy_v2"));
  if (create == nullptr) GTEST_SKIP() << "no emulated device in this run";
  void *context = nullptr, *current = nullptr;
  ASSERT_EQ(create(&context, 0, 0), 0);
  exn_stream primary = stream_;
  ASSERT_EQ(exn_stream_create(type_, 0, &stream_), EXN_OK) << exn_last_error();
  expect_usable();
  poison();
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  allocate_and_free(type_);
  ASSERT_EQ(run(), EXN_OK) << exn_last_error();
  end_and_launch();
  ASSERT_EQ(get_current(&current), 0);
  EXPECT_EQ(current, context) << "another context was made current";
  EXPECT_EQ(run(primary), EXN_RUNTIME_FAILURE);
  expect_words({"cosine", "cudaErrorInvalidResourceHandle"});

  ASSERT_EQ(set_current(nullptr), 0);
  EXPECT_EQ(run(), EXN_RUNTIME_FAILURE);
  expect_words({"cosine", "cudaErrorInvalidResourceHandle"});
  std::thread([&] {
    ASSERT_EQ(set_current(context), 0);
    expect_usable();
  }).join();
  EXPECT_EQ(exn_stream_destroy(type_, 0, stream_), EXN_OK) << exn_last_error();
  EXPECT_EQ(destroy(context), 0);
  stream_ = primary;
  expect_usable();
}

// ---- events and host memory, everywhere ---------------------------------------------------------

class Events : public Device {};

TEST_F(Events, AreRecordedAndReached) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    set_up(target);
    exn_event start = nullptr, end = nullptr;
    ASSERT_EQ(exn_event_create(type_, 0, &start), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_event_create(type_, 0, &end), EXN_OK) << exn_last_error();
    int32_t reached = 0;
    EXPECT_EQ(exn_event_query(type_, 0, start, &reached), EXN_OK) << exn_last_error();
    EXPECT_EQ(reached, 1) << "never recorded";
    float milliseconds = -1;
    EXPECT_EQ(exn_event_elapsed(type_, 0, start, end, &milliseconds), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_elapsed", "start", "never recorded"});
    ASSERT_EQ(exn_event_record(type_, 0, start, stream_), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_event_elapsed(type_, 0, start, end, &milliseconds), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_elapsed", "end", "never recorded"});
    EXPECT_EQ(milliseconds, -1);
    ASSERT_EQ(run(), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_event_record(type_, 0, end, stream_), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_stream_wait(type_, 0, nullptr, end), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_event_synchronize(type_, 0, end), EXN_OK) << exn_last_error();
    EXPECT_TRUE(has_run());
    EXPECT_EQ(exn_event_query(type_, 0, end, &reached), EXN_OK) << exn_last_error();
    EXPECT_EQ(reached, 1);
    EXPECT_EQ(exn_event_elapsed(type_, 0, start, end, &milliseconds), EXN_OK) << exn_last_error();
    EXPECT_GE(milliseconds, 0);
    EXPECT_LT(milliseconds, 60000);
    EXPECT_EQ(exn_event_elapsed(type_, 0, end, start, &milliseconds), EXN_OK) << exn_last_error();
    EXPECT_LE(milliseconds, 0) << "backwards";
    EXPECT_EQ(exn_event_destroy(type_, 0, start), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_event_destroy(type_, 0, end), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_event_destroy(type_, 0, nullptr), EXN_OK);
    exn_stream_destroy(type_, 0, stream_);
    stream_ = nullptr;
  }
}

TEST_F(Events, WrongArguments) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const int32_t type = target.device_type;
    exn_event event = nullptr;
    int32_t reached = 7;
    float milliseconds = -1;
    EXPECT_EQ(exn_event_create(type, 0, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_create", "out", "null"});
    EXPECT_EQ(exn_event_create(99, 0, &event), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_create", "device_type", "99"});
    EXPECT_EQ(exn_event_create(type, 77, &event), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_create", "device_id", "77"});
    EXPECT_EQ(event, nullptr);
    EXPECT_EQ(exn_event_record(type, 0, nullptr, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_record", "event", "null"});
    EXPECT_EQ(exn_stream_wait(type, 0, nullptr, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"exn_stream_wait", "event", "null"});
    EXPECT_EQ(exn_event_query(type, 0, nullptr, &reached), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_query", "event", "null"});
    EXPECT_EQ(exn_event_synchronize(type, 0, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_synchronize", "event", "null"});
    ASSERT_EQ(exn_event_create(type, 0, &event), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_event_query(type, 0, event, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_query", "reached", "null"});
    EXPECT_EQ(exn_event_elapsed(type, 0, event, nullptr, &milliseconds), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_elapsed", "end", "null"});
    EXPECT_EQ(exn_event_elapsed(type, 0, event, event, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"exn_event_elapsed", "milliseconds", "null"});
    EXPECT_EQ(reached, 7);
    EXPECT_EQ(milliseconds, -1);
    EXPECT_EQ(exn_event_destroy(type, 0, event), EXN_OK);
  }
}

TEST_F(Events, ACpuHasNoGraphs) {
  if (targets().empty() || !targets()[0].cpu()) GTEST_SKIP() << "no CPU in this run";
  exn_graph graph = nullptr;
  EXPECT_EQ(exn_graph_begin(kDLCPU, 0, nullptr), EXN_UNSUPPORTED);
  expect_words({"exn_graph_begin", "CPU", "nothing to capture"});
  EXPECT_EQ(exn_graph_end(kDLCPU, 0, nullptr, &graph), EXN_UNSUPPORTED);
  expect_words({"exn_graph_end", "CPU"});
  EXPECT_EQ(exn_graph_launch(kDLCPU, 0, &graph, nullptr), EXN_UNSUPPORTED);
  EXPECT_EQ(exn_graph_abort(kDLCPU, 0, nullptr), EXN_OK);
}

class HostMemory : public Device {};

TEST_F(HostMemory, IsAlignedAndUnique) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const int32_t type = target.device_type;
    void *a = nullptr, *b = nullptr;
    ASSERT_EQ(exn_host_alloc(type, 0, 0, &a), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_host_alloc(type, 0, 1000, &b), EXN_OK) << exn_last_error();
    EXPECT_NE(a, nullptr);
    EXPECT_NE(a, b);
    for (const void* p : {a, b}) EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
    std::memset(b, 5, 1000);
    EXPECT_EQ(exn_host_free(type, 0, a), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_host_free(type, 0, b), EXN_OK) << exn_last_error();
    EXPECT_EQ(exn_host_free(type, 0, nullptr), EXN_OK);
    EXPECT_EQ(exn_host_alloc(type, 0, SIZE_MAX / 2, &(a = &b)), EXN_OUT_OF_MEMORY);
    expect_words({std::to_string(SIZE_MAX / 2)});
    EXPECT_EQ(a, &b) << "a failed allocation wrote a pointer";
    EXPECT_EQ(exn_host_alloc(type, 0, 8, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"exn_host_alloc", "out", "null"});
    EXPECT_EQ(exn_host_alloc(type, 50, 8, &a), EXN_INVALID_ARGUMENT);
    expect_words({"exn_host_alloc", "device_id", "50"});
  }
}

// What a decoder does for each token: a launch, a copy of the decision, an event to ask.
TEST_F(Graphs, ADecisionIsReadBackBesideTheHost) {
  void* host = nullptr;
  exn_event done = nullptr;
  ASSERT_EQ(exn_host_alloc(type_, 0, 3 * sizeof(float), &host), EXN_OK) << exn_last_error();
  ASSERT_EQ(exn_event_create(type_, 0, &done), EXN_OK) << exn_last_error();
  auto* decision = static_cast<float*>(host);
  ASSERT_EQ(begin(), EXN_OK) << exn_last_error();
  ASSERT_EQ(run(), EXN_OK) << exn_last_error();
  ASSERT_EQ(exn_copy(host, kDLCPU, 0, out_->dl()->data, type_, 0, 3 * sizeof(float), stream_),
            EXN_OK)
      << exn_last_error();
  exn_graph graph = nullptr;
  ASSERT_EQ(end(&graph), EXN_OK) << exn_last_error();
  for (int token = 0; token < 3; ++token) {
    std::fill_n(decision, 3, 9.0f);
    poison();
    ASSERT_EQ(launch(graph), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_event_record(type_, 0, done, stream_), EXN_OK) << exn_last_error();
    ASSERT_EQ(exn_event_synchronize(type_, 0, done), EXN_OK) << exn_last_error();
    const HostTensor out = out_->read();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(static_cast<double>(decision[i]), out.at(0, i));
  }
  EXPECT_EQ(exn_graph_destroy(type_, 0, graph), EXN_OK);
  EXPECT_EQ(exn_event_destroy(type_, 0, done), EXN_OK);
  EXPECT_EQ(exn_host_free(type_, 0, host), EXN_OK);
}

}  // namespace
}  // namespace exn::test
