// SPDX-License-Identifier: Apache-2.0
#include "core_calls.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/screen.h"

namespace exn::fuzz {
namespace {

constexpr int32_t kStrange32[] = {INT32_MIN, -2, -1, 0, 1, 2, 3, 77, 255, 256, 257, INT32_MAX};

// What the calls below share.
struct Core {
  Bench* bench;
  Random& random;
  int32_t device;
  Count* count;

  int32_t strange() { return random.pick(kStrange32); }
  // The device, or another number.
  int32_t some_device() { return random.below(4) != 0 ? device : strange(); }
  int32_t some_id() { return random.below(4) != 0 ? 0 : strange(); }
  bool is_sound(int32_t type, int32_t id) const {
    return (type == device || type == kDLCPU) && id == 0;
  }

  // `must`: 1 it must be accepted, 0 refused, -1 who knows.
  bool judge(const char* function, exn_status status, int must) {
    ++count->calls;
    ++(status == EXN_OK ? count->accepted : count->refused);
    const char* text = exn_last_error();
    if (status != EXN_OK && std::strncmp(text, function, std::strlen(function)) != 0)
      bench->complain("%s names itself otherwise: %s", function, text);
    if (status != EXN_OK && must == 1)
      bench->complain("%s refuses what is sound: %s", function, text);
    if (status == EXN_OK && must == 0) bench->complain("%s accepts what is broken", function);
    return status == EXN_OK;
  }
};

void alloc_and_free(Core* c) {
  const int32_t type = c->some_device(), id = c->some_id();
  const size_t bytes = c->random.pick<size_t>(
      {0, 1, 63, 64, 65, 4096, size_t{2} << 20, (size_t{2} << 20) + 1, size_t{1} << 47,
       size_t{1} << 62, size_t{1} << 63, SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 63, SIZE_MAX - 4095,
       SIZE_MAX - (size_t{2} << 20)});
  const bool huge = bytes >= size_t{1} << 47, has_out = c->random.below(8) != 0;
  void* memory = &memory;
  const exn_status status = exn_alloc(type, id, bytes, has_out ? &memory : nullptr);
  const bool sound = c->is_sound(type, id) && has_out;
  if (!c->judge(huge && sound ? "" : "exn_alloc", status, huge || !sound ? 0 : 1)) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(memory);
  if (at == 0 || at % 64 != 0) c->bench->complain("exn_alloc gave %p", memory);
  if (type == kDLCPU && bytes > 0) {
    static_cast<volatile char*>(memory)[0] = 1;
    static_cast<volatile char*>(memory)[bytes - 1] = 1;
  }
  c->judge("exn_free", exn_free(type, id, memory), 1);
}

void free_nothing(Core* c) {
  c->judge("exn_free", exn_free(c->strange(), c->strange(), nullptr), 1);
}

void copy(Core* c) {
  Arena& arena = c->bench->arena();
  arena.reset();
  const size_t bytes = static_cast<size_t>(c->random.below(300));
  const Slot* from = arena.take(bytes);
  const Slot* to = arena.take(bytes);
  char* source = from->read_only + from->bytes - bytes;
  char* target = to->begin + to->bytes - bytes;
  for (size_t i = 0; i < bytes; ++i)
    from->begin[from->bytes - bytes + i] = static_cast<char>(c->random.below(256));
  const bool with_null = c->random.below(4) == 0;
  if (with_null) (c->random.below(2) == 0 ? source : target) = nullptr;
  // Host memory on both sides: a device of another kind would not know it.
  const int32_t types[] = {kDLCPU, kDLCPU, kDLCPU, 0, 3, INT32_MIN, -1};
  const int32_t to_type = c->random.pick(types), from_type = c->random.pick(types);
  const int32_t to_id = c->some_id(), from_id = c->some_id();
  const bool sound = to_type == kDLCPU && from_type == kDLCPU && to_id == 0 && from_id == 0 &&
                     (bytes == 0 || !with_null);
  const exn_status status =
      exn_copy(target, to_type, to_id, source, from_type, from_id, bytes, nullptr);
  if (c->judge("exn_copy", status, sound) && bytes > 0 && std::memcmp(target, source, bytes) != 0)
    c->bench->complain("exn_copy copied something else");
}

void streams(Core* c) {
  const int32_t type = c->some_device(), id = c->some_id();
  const bool has_out = c->random.below(8) != 0, sound = c->is_sound(type, id);
  exn_stream stream = nullptr;
  const exn_status made = exn_stream_create(type, id, has_out ? &stream : nullptr);
  if (c->judge("exn_stream_create", made, sound && has_out)) {
    c->judge("exn_stream_synchronize", exn_stream_synchronize(type, id, stream), 1);
    c->judge("exn_stream_destroy", exn_stream_destroy(type, id, stream), 1);
  }
  c->judge("exn_stream_synchronize", exn_stream_synchronize(type, id, nullptr), sound);
  c->judge("exn_stream_destroy", exn_stream_destroy(c->strange(), c->strange(), nullptr), 1);
}

// Events, host memory, and what leads to a graph only if a stream can be captured.
void device_calls(Core* c) {
  const int32_t type = c->some_device(), id = c->some_id();
  const bool has_out = c->random.below(8) != 0, sound = c->is_sound(type, id);
  exn_event event = nullptr;
  int32_t reached = 0;
  float milliseconds = 0;
  const exn_status made = exn_event_create(type, id, has_out ? &event : nullptr);
  if (c->judge("exn_event_create", made, sound && has_out)) {
    const bool recorded = c->random.below(4) != 0;
    if (recorded) c->judge("exn_event_record", exn_event_record(type, id, event, nullptr), 1);
    c->judge("exn_stream_wait", exn_stream_wait(type, id, nullptr, event), 1);
    c->judge("exn_event_synchronize", exn_event_synchronize(type, id, event), 1);
    c->judge("exn_event_query", exn_event_query(type, id, event, &reached), 1);
    if (reached != 1) c->bench->complain("an event is not reached after a wait for it");
    c->judge("exn_event_elapsed", exn_event_elapsed(type, id, event, event, &milliseconds),
             recorded);
    c->judge("exn_event_destroy", exn_event_destroy(type, id, event), 1);
  }
  c->judge("exn_event_record", exn_event_record(type, id, nullptr, nullptr), 0);
  c->judge("exn_event_query", exn_event_query(type, id, nullptr, &reached), 0);
  c->judge("exn_event_elapsed", exn_event_elapsed(type, id, nullptr, nullptr, nullptr), 0);
  exn_graph graph = nullptr;
  c->judge("exn_graph_begin", exn_graph_begin(type, id, nullptr), 0);
  c->judge("exn_graph_end", exn_graph_end(type, id, nullptr, &graph), 0);
  c->judge("exn_graph_launch", exn_graph_launch(type, id, nullptr, nullptr), 0);
  c->judge("exn_graph_abort", exn_graph_abort(type, id, nullptr), sound);
  void* memory = nullptr;
  const size_t bytes = c->random.pick<size_t>({0, 1, 64, 4097, size_t{1} << 62, SIZE_MAX});
  const bool huge = bytes > 4097;
  const exn_status status = exn_host_alloc(type, id, bytes, has_out ? &memory : nullptr);
  if (!c->judge("exn_host_alloc", status, huge || !sound || !has_out ? 0 : 1)) return;
  if (bytes > 0) static_cast<volatile char*>(memory)[bytes - 1] = 1;
  c->judge("exn_host_free", exn_host_free(type, id, memory), 1);
}

void probes(Core* c) {
  Arena& arena = c->bench->arena();
  arena.reset();
  const size_t bytes = static_cast<size_t>(c->random.below(4096));
  const Slot* from = arena.take(bytes);
  const Slot* to = arena.take(bytes);
  const bool with_null = c->random.below(4) == 0;
  const char* source = with_null ? nullptr : from->read_only + from->bytes - bytes;
  char* target = to->begin + to->bytes - bytes;
  std::memset(to->begin, Slot::kCanary, to->bytes);
  uint64_t result = 0;
  uint64_t* out = c->random.below(8) == 0 ? nullptr : &result;
  const bool sound = bytes == 0 || !with_null;
  const int32_t way = c->random.pick({0, 1, 2, 3, 4, 5, 6, -1, INT32_MIN, INT32_MAX});
  c->judge("exn_read_probe", exn_read_probe(source, bytes, way, out),
           sound && out != nullptr && way >= 0 && way < EXN_READ_WAYS);
  const exn_status copied = exn_copy_probe(target, source, bytes, way);
  if (c->judge("exn_copy_probe", copied, sound && way >= 0 && way < EXN_COPY_WAYS)) {
    if (bytes > 0 && std::memcmp(target, source, bytes) != 0)
      c->bench->complain("exn_copy_probe copied something else");
  }
  if (bytes < to->bytes && static_cast<unsigned char>(target[-1]) != Slot::kCanary)
    c->bench->complain("exn_copy_probe wrote in front of its block");
  const uint64_t count = c->random.pick<uint64_t>({0, 1, 191, 192, 193, 1000});
  c->judge("exn_fma_probe", exn_fma_probe(count, out), out != nullptr);
}

// Pages that are guarded, or not, or by halves; they are not read meanwhile.
void mappings(Core* c) {
  Arena& arena = c->bench->arena();
  arena.reset();
  const Slot* const slot = arena.take(static_cast<size_t>(1 + c->random.below(9000)));
  const char* const begin = c->random.below(8) == 0 ? nullptr : slot->read_only;
  const size_t bytes = c->random.pick<size_t>({0, 1, slot->bytes, SIZE_MAX, size_t{1} << 63});
  const bool sound = begin != nullptr && (bytes == 1 || bytes == slot->bytes);
  c->judge("exn_mapping_check", exn_mapping_check(begin), 0);
  c->judge("exn_mapping_release", exn_mapping_release(begin), 0);
  if (!c->judge("exn_mapping_guard", exn_mapping_guard(begin, bytes), sound)) return;
  c->judge("exn_mapping_guard", exn_mapping_guard(begin, 1), 0);
  c->judge("exn_mapping_check", exn_mapping_check(begin), 1);
  c->judge("exn_mapping_check", exn_mapping_check(begin + 1), 0);
  c->judge("exn_mapping_release", exn_mapping_release(begin), 1);
}

void settings(Core* c) {
  static const char long_name[] =
      "avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2";
  const char* name =
      c->random.pick({"", "AVX2", "avx2 ", "base", "baseline,avx2", "%s%n", long_name});
  c->judge("exn_cpu_set_isa", exn_cpu_set_isa(name), 0);
  c->judge("exn_cpu_set_isa", exn_cpu_set_isa(exn_cpu_isa()), 1);
  const char* tuning = c->random.pick({"far_mib", "far_mib 3", "%s%n 1", "far_mib 8 8", long_name});
  c->judge("exn_cpu_set_tuning", exn_cpu_set_tuning(tuning), 0);
  tuning = c->random.pick<const char*>({nullptr, "", "\n#\n", "far_mib 8#\nprefetch_again 1"});
  c->judge("exn_cpu_set_tuning", exn_cpu_set_tuning(tuning), 1);
  c->judge("exn_cpu_tune", exn_cpu_tune(c->random.pick({0, -1, INT32_MIN, 60001}), nullptr), 0);
  const int32_t threads = c->random.pick({-1, INT32_MIN, INT32_MAX, 257, 1 << 20});
  c->judge("exn_cpu_set_threads", exn_cpu_set_threads(threads), 0);
  if (c->random.below(64) == 0) {
    const int32_t before = exn_cpu_threads();
    c->judge("exn_cpu_set_threads", exn_cpu_set_threads(c->random.pick({0, 1, 2, 5, 256})), 1);
    c->judge("exn_cpu_set_threads", exn_cpu_set_threads(before), 1);
  }
}

void names(Core* c) {
  const int32_t n = c->strange();
  const char* texts[] = {exn_status_name(n), exn_backend_reason(n), exn_backend_name(n),
                         exn_version(),      exn_last_error(),      exn_last_path(),
                         exn_cpu_isas(),     exn_cpu_isa()};
  c->count->calls += 10;
  for (const char* text : texts) {
    if (text == nullptr) c->bench->complain("a name is null");
  }
  if (exn_device_count(n) < 0 || exn_backend_available(n) < 0)
    c->bench->complain("fewer than no devices");
  if (c->device == kDLCPU) {
    const char* path = c->random.pick<const char*>({nullptr, "", "/", "/nowhere/lib.so", "%s%n"});
    c->judge("exn_cuda_open", exn_cuda_open(path), 0);
  }
}

// A small head and its screen, made once.
struct ScreenSample {
  static constexpr int64_t kVocabulary = 70, kDim = 40, kStates = 45;
  std::vector<float> head, hidden;
  std::vector<char> image;

  ScreenSample() : head(kVocabulary * kDim), hidden(kStates * kDim) {
    Random random(1, 1);
    for (std::vector<float>* values : {&head, &hidden}) {
      for (float& v : *values) v = static_cast<float>(random.below(2001) - 1000) * 1e-3f;
    }
    DLTensor weight = matrix(head.data(), kVocabulary, kDim),
             x = matrix(hidden.data(), kStates, kDim);
    exn_screen_params p = {};
    p.struct_size = sizeof p;
    p.weight = &weight;
    p.states = &x;
    p.level_count = 1;
    size_t bytes = 0;
    if (exn_screen_size(&p, &bytes) != EXN_OK) std::abort();
    const std::unique_ptr<void, void (*)(void*)> made(std::aligned_alloc(64, bytes), std::free);
    int64_t size[] = {static_cast<int64_t>(bytes)};
    DLTensor to = {made.get(), {kDLCPU, 0}, 1, {kDLUInt, 8, 1}, size, nullptr, 0};
    p.image = &to;
    if (exn_screen_build(&p) != EXN_OK) std::abort();
    image.assign(static_cast<char*>(made.get()), static_cast<char*>(made.get()) + bytes);
  }

  // Until the next one with as many columns.
  DLTensor matrix(float* data, int64_t rows, int64_t cols) {
    int64_t* const shape = shapes_[used_++ % 4];
    shape[0] = rows;
    shape[1] = cols;
    return {data, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, nullptr, 0};
  }

 private:
  int64_t shapes_[4][2];
  int used_ = 0;
};

// An image that is whole, damaged, cut, crooked, of another head, or made up with checksums that
// hold, between guard pages. Whatever it holds, nothing else is read.
void screens(Core* c) {
  static ScreenSample sample;
  constexpr int64_t kVocabulary = ScreenSample::kVocabulary, kDim = ScreenSample::kDim;
  Arena& arena = c->bench->arena();
  arena.reset();
  const size_t bytes = sample.image.size();
  const Slot* const slot = arena.take(bytes);
  char* const image = slot->begin + slot->bytes - bytes;
  std::memcpy(image, sample.image.data(), bytes);
  const auto beyond = [&] {
    return static_cast<size_t>(
        c->random.between(exn::kScreenHeaderBytes, static_cast<int64_t>(bytes) - 1));
  };
  const auto spoil = [&](size_t at) {
    image[at] = static_cast<char>(image[at] ^ 1 << c->random.below(8));
  };
  // What must come of the header alone, of all, and of a run.
  int header = 1, all = 1, run = 1;
  size_t shown = bytes;
  int64_t rows = kVocabulary;
  const char* at = slot->read_only + slot->bytes - bytes;
  switch (c->random.below(7)) {
    case 0:
      break;
    case 1:  // the checksum finds it
      spoil(static_cast<size_t>(c->random.below(sizeof(exn::ScreenHeader))));
      header = all = run = 0;
      break;
    case 2: {  // and does not find it
      exn::ScreenHeader h;
      const auto word = static_cast<size_t>(
          c->random.below(static_cast<int64_t>(offsetof(exn::ScreenHeader, own)) / 4));
      const int32_t value = c->strange();
      std::memcpy(image + 4 * word, &value, sizeof value);
      std::memcpy(&h, image, sizeof h);
      h.own = exn::own_digest(h);
      std::memcpy(image, &h, sizeof h);
      header = all = run = -1;
      break;
    }
    case 3:
      for (int64_t n = c->random.below(200); n >= 0; --n) spoil(beyond());
      spoil(beyond());
      all = -1;
      break;
    case 4:
      shown = static_cast<size_t>(c->random.below(static_cast<int64_t>(bytes)));
      at += bytes - shown;
      at -= reinterpret_cast<uintptr_t>(at) % 64;
      header = all = run = 0;
      break;
    case 5:
      at -= 1 + c->random.below(63);
      header = all = run = 0;
      break;
    default:
      rows = c->random.below(kVocabulary);
      header = all = run = 0;
  }
  int64_t size[] = {static_cast<int64_t>(shown)}, one[] = {1};
  DLTensor screen = {const_cast<char*>(at), {kDLCPU, 0}, 1, {kDLUInt, 8, 1}, size, nullptr, 0};
  DLTensor weight = sample.matrix(sample.head.data(), rows, kDim);
  exn_screen_params p = {};
  p.struct_size = sizeof p;
  p.weight = &weight;
  p.image = &screen;
  exn_screen_info info = {};
  c->judge("exn_screen_check", exn_screen_check(&p, &info), all);
  p.header_only = 1;
  c->judge("exn_screen_check", exn_screen_check(&p, nullptr), header);
  int32_t argmax = 0;
  float p1[3] = {};
  DLTensor hidden = sample.matrix(sample.hidden.data() + c->random.below(40) * kDim, 1, kDim);
  DLTensor token = {&argmax, {kDLCPU, 0}, 1, {kDLInt, 32, 1}, one, nullptr, 0}, out[3];
  for (int i = 0; i < 3; ++i) out[i] = {p1 + i, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, one, nullptr, 0};
  exn_exit_head_params h = {};
  h.struct_size = sizeof h;
  h.hidden = &hidden;
  h.weight = &weight;
  h.temperature = 1;
  h.screen = &screen;
  h.out.argmax = &token;
  if (c->random.below(2) == 0) {
    h.out.p1 = &out[0];
    h.p1_low = &out[1];
    h.p1_high = &out[2];
  }
  size_t needed = 0;
  if (!c->judge("exn_exit_head", exn_exit_head_workspace_size(&h, &needed), run)) return;
  const std::unique_ptr<void, void (*)(void*)> workspace(
      std::aligned_alloc(64, (needed + 63) / 64 * 64), std::free);
  c->judge("exn_exit_head", exn_exit_head(&h, workspace.get(), needed, nullptr), run);
  if (argmax < -1 || argmax >= rows) c->bench->complain("exn_exit_head found token %d", argmax);
}

}  // namespace

void judge_core(Bench* bench, Random* random, int32_t device_type, Count* count) {
  Core core{bench, *random, device_type, count};
  ++count->cases;
  void (*const kCalls[])(Core*) = {alloc_and_free, free_nothing, copy,     streams, device_calls,
                                   probes,         mappings,     settings, names,   screens};
  random->pick(kCalls)(&core);
}

}  // namespace exn::fuzz
