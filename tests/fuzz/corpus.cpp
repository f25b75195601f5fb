// SPDX-License-Identifier: Apache-2.0
#include "corpus.h"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <thread>
#include <vector>

namespace exn::fuzz {
namespace {

// The tensors and the workspace of a call, in guarded memory.
class Call {
 public:
  Call(Arena* arena, int32_t device_type) : arena_(arena), device_type_(device_type) {
    arena->reset();
  }
  ~Call() {
    for (void* workspace : workspaces_) exn_free(device_type_, 0, workspace);
  }

  // Filled with `values`, or with zeros.
  template <class T = float>
  DLTensor* tensor(Type type, std::vector<int64_t> shape, std::vector<T> values = {}) {
    int64_t elements = 1;
    for (int64_t size : shape) elements *= size;
    const size_t bytes = static_cast<size_t>(elements * size_of(type));
    const Slot* slot = arena_->take(bytes);
    char* data = slot->begin + slot->bytes - bytes;
    std::memset(data, 0, bytes);
    if (!values.empty()) std::memcpy(data, values.data(), values.size() * sizeof(T));
    return described_as(type, std::move(shape), bytes > 0 ? data : nullptr);
  }
  DLTensor* floats(std::vector<int64_t> shape, std::vector<float> values = {}) {
    return tensor(Type::kF32, std::move(shape), std::move(values));
  }
  DLTensor* integers(std::vector<int64_t> shape, std::vector<int32_t> values = {}) {
    return tensor(Type::kI32, std::move(shape), std::move(values));
  }
  DLTensor* with_strides(DLTensor* t, std::vector<int64_t> strides) {
    numbers_.push_back(std::move(strides));
    t->strides = numbers_.back().data();
    return t;
  }
  // Without looking at what the sizes come to.
  DLTensor* described_as(Type type, std::vector<int64_t> shape, void* data) {
    numbers_.push_back(std::move(shape));
    std::vector<int64_t>& kept = numbers_.back();
    tensors_.push_back({data,
                        {static_cast<DLDeviceType>(device_type_), 0},
                        static_cast<int32_t>(kept.size()),
                        dl_type(type),
                        kept.data(),
                        nullptr,
                        0});
    return &tensors_.back();
  }
  // A shape whose end is the end of what may be read.
  void end_shape_at_guard(DLTensor* t) {
    const size_t bytes = static_cast<size_t>(t->ndim) * sizeof(int64_t);
    const Slot* slot = arena_->take(bytes);
    int64_t* shape = reinterpret_cast<int64_t*>(slot->begin + slot->bytes - bytes);
    std::memcpy(shape, t->shape, bytes);
    t->shape = shape;
  }

  // All three functions.
  template <class Params>
  exn_status run(const Params& params, exn_status (*supported)(const Params*),
                 exn_status (*workspace_size)(const Params*, size_t*),
                 exn_status (*op)(const Params*, void*, size_t, exn_stream)) {
    const exn_status status = supported(&params);
    size_t bytes = 0;
    if (workspace_size(&params, &bytes) != status) return -1;
    if (status != EXN_OK) return op(&params, nullptr, 0, nullptr);
    void* workspace = nullptr;
    if (bytes > 0 && exn_alloc(device_type_, 0, bytes, &workspace) != EXN_OK) return -1;
    if (workspace != nullptr) workspaces_.push_back(workspace);
    const exn_status ran = op(&params, workspace, bytes, nullptr);
    const exn_status done = exn_stream_synchronize(device_type_, 0, nullptr);
    return ran != EXN_OK ? ran : done;
  }

 private:
  Arena* arena_;
  int32_t device_type_;
  std::deque<DLTensor> tensors_;
  std::deque<std::vector<int64_t>> numbers_;
  std::vector<void*> workspaces_;
};

#define RUN(call, op, params) (call).run(params, op##_supported, op##_workspace_size, op)

template <class T>
T* data_of(const DLTensor* t) {
  return static_cast<T*>(t->data);
}

std::string expect_ok(exn_status status) {
  return status == EXN_OK ? "" : std::string("refused: ") + exn_last_error();
}

std::string expect_refused(exn_status status) {
  return status == EXN_INVALID_ARGUMENT || status == EXN_UNSUPPORTED
             ? ""
             : std::string("returned ") + exn_status_name(status);
}

std::string expect_equal(const char* what, int64_t got, int64_t expected) {
  if (got == expected) return "";
  return std::string(what) + " is " + std::to_string(got) + ", expected " +
         std::to_string(expected);
}

std::string first_of(std::initializer_list<std::string> complaints) {
  for (const std::string& complaint : complaints) {
    if (!complaint.empty()) return complaint;
  }
  return "";
}

exn_kv_cache one_cache(Call& call, int32_t layout, std::vector<int64_t> shape,
                       DLTensor* table = nullptr) {
  return {call.floats(shape), call.floats(shape), table, layout, 0};
}

// ---- a list without space is a list -------------------------------------------------------------

std::string list_without_room_of_scores(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_attention_scores_params p{};
  p.struct_size = sizeof p;
  p.query = call.floats({1, 1, 4}, {1, 1, 1, 1});
  p.keys = one_cache(call, EXN_KV_HEAD_MAJOR, {1, 4, 4});
  p.visible = call.integers({1}, {4});
  DLTensor* count = call.integers({1}, {-7});
  p.selection.indices = call.integers({1, 0});
  p.selection.count = count;
  p.selection.budget = call.integers({1}, {2});
  p.columns = 4;
  p.window = 1;
  p.scale = 1;
  const exn_status status = RUN(call, exn_attention_scores, p);
  return first_of({expect_ok(status), expect_equal("count", data_of<int32_t>(count)[0], 2)});
}

std::string list_without_room_of_freed_pages(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_kv_compact_params p{};
  p.struct_size = sizeof p;
  p.source = one_cache(call, EXN_KV_PAGED, {2, 2, 1, 1}, call.integers({1, 2}, {0, 1}));
  p.destination = p.source;
  p.list = call.integers({1}, {0});
  p.offsets = call.integers({2}, {0, 1});
  p.length = call.integers({1}, {4});
  p.freed = call.integers({0});
  DLTensor* count = call.integers({1}, {-7});
  p.freed_count = count;
  const exn_status status = RUN(call, exn_kv_compact, p);
  return first_of({expect_ok(status), expect_equal("freed_count", data_of<int32_t>(count)[0], 1)});
}

// An empty cache is in place if its tensors are, wherever their data would be.
std::string empty_cache_in_place(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_kv_copy_params p{};
  p.struct_size = sizeof p;
  const DLTensor* k = call.floats({2, 0, 4});
  DLTensor* v = call.floats({2, 0, 4});
  v->data = arena->take(1)->begin;
  p.source = {k, v, nullptr, EXN_KV_HEAD_MAJOR, 0};
  p.destination = p.source;
  p.from_slot = call.integers({2}, {-1, -1});
  p.to_slot = call.integers({2}, {-1, -1});
  return expect_ok(RUN(call, exn_kv_copy, p));
}

// A paged cache without a block is paged.
std::string pages_without_blocks(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_kv_compact_params p{};
  p.struct_size = sizeof p;
  p.source = one_cache(call, EXN_KV_PAGED, {2, 2, 1, 1}, call.integers({1, 0}));
  p.destination = p.source;
  p.list = call.integers({0});
  p.offsets = call.integers({2}, {0, 0});
  p.length = call.integers({1}, {0});
  p.freed = call.integers({2}, {5, 5});
  DLTensor* count = call.integers({1}, {-7});
  p.freed_count = count;
  const exn_status status = RUN(call, exn_kv_compact, p);
  return first_of({expect_ok(status), expect_equal("freed_count", data_of<int32_t>(count)[0], 0)});
}

// ---- sizes that are no sizes --------------------------------------------------------------------

std::string window_that_wraps(Arena* arena, int32_t device) {
  for (int64_t window : {int64_t{1} << 62, int64_t{1} << 61, (int64_t{1} << 62) + 1, INT64_MAX}) {
    Call call(arena, device);
    exn_attention_scores_params p{};
    p.struct_size = sizeof p;
    p.query = call.floats({0, 4, 4});
    p.keys = one_cache(call, EXN_KV_HEAD_MAJOR, {4, 2, 4});
    p.visible = call.integers({0});
    p.scores = call.floats({0, 4, 2});
    p.columns = 2;
    p.window = window;
    p.scale = 1;
    const exn_status status = RUN(call, exn_attention_scores, p);
    if (status != EXN_OK && status != EXN_INVALID_ARGUMENT) return expect_ok(status);
  }
  return "";
}

// As many lists as 2^63, of nothing.
std::string lists_that_wrap(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_kv_compact_params p{};
  p.struct_size = sizeof p;
  const std::vector<int64_t> shape = {INT32_MAX, int64_t{1} << 33, 0, 1};
  p.source = {call.described_as(Type::kF32, shape, nullptr),
              call.described_as(Type::kF32, shape, nullptr), nullptr, EXN_KV_HEAD_MAJOR, 0};
  p.destination = p.source;
  p.per_head = 1;
  p.list = call.integers({0});
  p.offsets = call.integers({1}, {0});
  return expect_refused(RUN(call, exn_kv_compact, p));
}

std::string rank_beyond_the_shape(Arena* arena, int32_t device) {
  for (int32_t rank : {3, 65, 1 << 30, INT32_MAX}) {
    Call call(arena, device);
    exn_row_stats_params p{};
    p.struct_size = sizeof p;
    DLTensor* logits = call.floats({1, 4});
    call.end_shape_at_guard(logits);
    logits->ndim = rank;
    p.logits = logits;
    p.temperature = 1;
    p.out.p1 = call.floats({1});
    const std::string complaint = expect_refused(RUN(call, exn_row_stats, p));
    if (!complaint.empty()) return complaint;
  }
  return "";
}

// Where any rank will do, 2^31 - 1 will not.
std::string rank_of_anything(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_perp_grad_params p{};
  p.struct_size = sizeof p;
  DLTensor* weight = call.floats({4});
  call.end_shape_at_guard(weight);
  weight->ndim = INT32_MAX;
  p.weight = weight;
  p.grad = call.floats({4});
  p.out = call.floats({4});
  return expect_refused(RUN(call, exn_perp_grad, p));
}

// ---- strides that others give to empty tensors --------------------------------------------------

std::string usual_strides_of_an_empty_list(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_select_params p{};
  p.struct_size = sizeof p;
  p.scores = call.floats({2, 3});
  p.selection.indices = call.with_strides(call.integers({2, 0}), {1, 1});
  return expect_ok(RUN(call, exn_select, p));
}

std::string usual_strides_of_an_empty_cache(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_attention_params p{};
  p.struct_size = sizeof p;
  p.query = call.floats({1, 2, 4});
  p.cache.k = call.with_strides(call.floats({1, 2, 0, 4}), {8, 4, 4, 1});
  p.cache.v = call.with_strides(call.floats({1, 2, 0, 4}), {8, 4, 4, 1});
  p.visible = call.integers({1}, {0});
  p.out = call.floats({1, 2, 4});
  p.scale = 1;
  return expect_ok(RUN(call, exn_attention, p));
}

std::string usual_strides_of_a_table_without_blocks(Arena* arena, int32_t device) {
  Call call(arena, device);
  exn_attention_params p{};
  p.struct_size = sizeof p;
  p.query = call.floats({2, 1, 4});
  p.cache =
      one_cache(call, EXN_KV_PAGED, {1, 2, 1, 4}, call.with_strides(call.integers({2, 0}), {1, 1}));
  p.sequence = call.integers({2}, {0, 1});
  p.visible = call.integers({2}, {0, 0});
  p.out = call.floats({2, 1, 4});
  p.scale = 1;
  return expect_ok(RUN(call, exn_attention, p));
}

// ---- two halves of one matrix -------------------------------------------------------------------

std::string interleaved(Arena* arena, int32_t device) {
  Call call(arena, device);
  // [1 2 . .] [3 4 . .]: the left half is copied into the right one.
  float* all = data_of<float>(call.floats({2, 4}, {1, 2, 0, 0, 3, 4, 0, 0}));
  exn_norm_params p{};
  p.struct_size = sizeof p;
  p.input = call.with_strides(call.described_as(Type::kF32, {2, 2}, all), {4, 1});
  p.out = call.with_strides(call.described_as(Type::kF32, {2, 2}, all + 2), {4, 1});
  p.norm = EXN_NORM_NONE;
  const exn_status status = RUN(call, exn_norm, p);
  const float expected[] = {1, 2, 1, 2, 3, 4, 3, 4};
  if (status == EXN_OK && std::memcmp(all, expected, sizeof expected) != 0)
    return "interleaved halves: wrong values";
  return expect_ok(status);
}

// One element further left, they do share one.
std::string interleaved_too_close(Arena* arena, int32_t device) {
  Call call(arena, device);
  float* all = data_of<float>(call.floats({2, 4}));
  exn_norm_params p{};
  p.struct_size = sizeof p;
  p.input = call.with_strides(call.described_as(Type::kF32, {2, 2}, all), {4, 1});
  p.out = call.with_strides(call.described_as(Type::kF32, {2, 2}, all + 1), {4, 1});
  p.norm = EXN_NORM_NONE;
  return expect_refused(RUN(call, exn_norm, p));
}

// ---- processes ----------------------------------------------------------------------------------

// A child has none of its parent's threads, and the loop that one of them runs never ends in it.
std::string threads_of_a_forked_child(Arena*, int32_t device) {
  // A sanitizer may hold locks of its own while another thread forks.
  const bool sanitized = dlsym(RTLD_DEFAULT, "__asan_init") != nullptr;
  if (device != kDLCPU || sanitized) return "";
  exn_cpu_set_threads(3);
  std::atomic<bool> done{false};
  std::thread other([&] {
    uint64_t count = 0;
    while (!done.load()) exn_fma_probe(2000000, &count);
  });
  std::string complaint;
  for (int i = 0; i < 30 && complaint.empty(); ++i) {
    usleep(1000);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      uint64_t count = 0;
      exn_fma_probe(2000000, &count);
      exn_cpu_set_threads(2);
      exn_fma_probe(2000000, &count);
      _exit(count >= 2000000 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
      complaint = "the child died of signal " + std::to_string(WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) complaint = "the child computed too little";
  }
  done.store(true);
  other.join();
  return complaint;
}

}  // namespace

#define PAST(check) {#check, check}
const PastFinding kCorpus[] = {
    PAST(list_without_room_of_scores),
    PAST(list_without_room_of_freed_pages),
    PAST(empty_cache_in_place),
    PAST(pages_without_blocks),
    PAST(window_that_wraps),
    PAST(lists_that_wrap),
    PAST(rank_beyond_the_shape),
    PAST(rank_of_anything),
    PAST(usual_strides_of_an_empty_list),
    PAST(usual_strides_of_an_empty_cache),
    PAST(usual_strides_of_a_table_without_blocks),
    PAST(interleaved),
    PAST(interleaved_too_close),
    PAST(threads_of_a_forked_child),
};
const int kCorpusSize = sizeof kCorpus / sizeof *kCorpus;

}  // namespace exn::fuzz
