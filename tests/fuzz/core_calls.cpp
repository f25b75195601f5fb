// SPDX-License-Identifier: Apache-2.0
#include "core_calls.h"

#include <cstdio>

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

void settings(Core* c) {
  static const char long_name[] =
      "avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2avx2";
  const char* name =
      c->random.pick({"", "AVX2", "avx2 ", "base", "baseline,avx2", "%s%n", long_name});
  c->judge("exn_cpu_set_isa", exn_cpu_set_isa(name), 0);
  c->judge("exn_cpu_set_isa", exn_cpu_set_isa(exn_cpu_isa()), 1);
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

}  // namespace

void judge_core(Bench* bench, Random* random, int32_t device_type, Count* count) {
  Core core{bench, *random, device_type, count};
  ++count->cases;
  void (*const kCalls[])(Core*) = {alloc_and_free, free_nothing, copy, streams,
                                   probes,         settings,     names};
  random->pick(kCalls)(&core);
}

}  // namespace exn::fuzz
