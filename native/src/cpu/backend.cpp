// SPDX-License-Identifier: Apache-2.0
// The CPU backend: chooses the kernels of one instruction set and offers memory.
#include "backend.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string>

#include "base/platform/platform.h"
#include "base/status.h"
#include "calibrate.h"
#include "choices.h"
#include "cpu_features.h"
#include "kernels.h"
#include "panels.h"
#include "pool.h"
#include "screen.h"

namespace exn::cpu {

// A library for tests only: AVX-512 kernels over emulated intrinsics.
#if defined(EXN_EMULATE_AVX512)
namespace avx512_emulated {
extern const Kernels kernels_with_tiles;
}
#elif defined(__x86_64__)
namespace baseline {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace vnni {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels, kernels_with_tiles;
}
#elif defined(__aarch64__)
namespace neon {
extern const Kernels kernels;
}
#endif

namespace {

struct Candidate {
  const Kernels* kernels;
  bool (*runs_here)();
};

// Best first. Sanitized libraries and quick builds have what they test alone.
constexpr Candidate kCandidates[] = {
#if defined(EXN_EMULATE_AVX512)
    {&avx512_emulated::kernels_with_tiles, has_avx2},
#elif defined(__x86_64__)
#if !defined(EXN_WITHOUT_amx)
    {&avx512::kernels_with_tiles, has_amx},
#endif
#if !defined(EXN_WITHOUT_avx512)
    {&avx512::kernels, has_avx512},
#endif
#if !defined(EXN_WITHOUT_vnni)
    {&vnni::kernels, has_vnni},
#endif
#if !defined(EXN_WITHOUT_avx2)
    {&avx2::kernels, has_avx2},
#endif
#if !defined(EXN_WITHOUT_baseline)
    {&baseline::kernels, [] { return true; }},
#endif
#elif defined(__aarch64__)
    {&neon::kernels, [] { return true; }},
#endif
};

const Kernels* best() {
  for (const Candidate& choice : kCandidates) {
    if (choice.runs_here()) return choice.kernels;
  }
  return nullptr;
}

const Kernels* named(const char* name) {
  for (const Candidate& choice : kCandidates) {
    if (std::strcmp(choice.kernels->isa, name) == 0) {
      return choice.runs_here() ? choice.kernels : nullptr;
    }
  }
  return nullptr;
}

// The table that was asked for; null if EXEUNT_ISA names something this machine cannot run.
std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> table{[] {
    const char* forced = std::getenv("EXEUNT_ISA");
    const Kernels* found = forced != nullptr && *forced != 0 ? named(forced) : best();
    begin_tuning(found == nullptr ? "" : found->isa);
    return found;
  }()};
  return table;
}

const Kernels* with_threads() {
  return threads() == 0 ? nullptr : chosen().load(std::memory_order_acquire);
}

// The table in use; null where the environment asks for what makes no sense: see refuse().
std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> table{with_threads()};
  return table;
}

exn_status refuse() {
  if (threads() == 0) {
    return fail(EXN_UNSUPPORTED, "EXEUNT_THREADS is %s, expected 0..256",
                std::getenv("EXEUNT_THREADS"));
  }
  return fail(EXN_UNSUPPORTED, "EXEUNT_ISA is %s, but this machine runs %s",
              std::getenv("EXEUNT_ISA"), isas());
}

// The table in use, or null after recording why there is none.
const Kernels* in_use() {
  const Kernels* table = current().load(std::memory_order_acquire);
  if (table == nullptr) refuse();
  return table;
}

// Where there are tiles, processors were seen to widen bf16 in the time of its products of pairs.
bool multiplies_pairs(const Kernels& table) {
#if defined(EXN_EMULATE_AVX512)  // tests take either way
  static const bool pairs = std::getenv("EXEUNT_TEST_WITHOUT_PAIRS") == nullptr;
  return table.tiles && pairs;
#else
  return !table.tiles;
#endif
}

// Adapts a kernel to the Backend table: the stream means nothing on the CPU.
template <class Args, exn_status (*Kernels::*Entry)(const Args&, Workspace&)>
exn_status dispatch(const Args& args, Workspace& ws, exn_stream) {
  const Kernels* table = in_use();
  if (table == nullptr) return EXN_UNSUPPORTED;
  ws.use_tiles(table->tiles);
  ws.use_pairs(multiplies_pairs(*table));
  return (table->*Entry)(args, ws);
}

constexpr size_t kHugePage = size_t{2} << 20;

exn_status alloc(int32_t, size_t bytes, void** out) {
  const size_t align = bytes >= kHugePage ? kHugePage : 64;
  if (bytes > SIZE_MAX - align) {
    return fail(EXN_OUT_OF_MEMORY, "exn_alloc: %zu bytes cannot be had", bytes);
  }
  const size_t rounded = (bytes + align - 1) / align * align;
  void* p = platform::allocate(align, rounded);
  if (p == nullptr) return fail(EXN_OUT_OF_MEMORY, "exn_alloc: %zu bytes cannot be had", bytes);
  if (align == kHugePage) platform::prefer_large_pages(p, rounded);
  *out = p;
  return EXN_OK;
}

exn_status release(int32_t, void* p) {
  platform::release(p);
  return EXN_OK;
}

exn_status copy(int32_t, void* dst, bool, const void* src, bool, size_t bytes, exn_stream) {
  std::memmove(dst, src, bytes);
  return EXN_OK;
}

exn_status stream_create(int32_t, exn_stream* out) {
  *out = nullptr;
  return EXN_OK;
}

exn_status stream_nothing(int32_t, exn_stream) { return EXN_OK; }

// When an event was recorded last. Work has been done before its call returns, so each is reached.
struct Event {
  using Clock = std::chrono::steady_clock;
  std::atomic<Clock::rep> recorded{0};  // 0: never
};

Event* event_of(exn_event event) { return static_cast<Event*>(event); }

exn_status no_graphs(const char* function) {
  return fail(EXN_UNSUPPORTED,
              "%s: a CPU runs each op before its call returns, which leaves nothing to capture",
              function);
}

constexpr DeviceCalls kDeviceCalls = {
    [](int32_t, exn_stream) { return no_graphs("exn_graph_begin"); },
    [](int32_t, exn_stream, exn_graph*) { return no_graphs("exn_graph_end"); },
    stream_nothing,
    [](int32_t, exn_graph, exn_stream) { return no_graphs("exn_graph_launch"); },
    [](int32_t, exn_graph) { return no_graphs("exn_graph_destroy"); },
    [](int32_t, exn_event* out) -> exn_status {
      auto* event = new (std::nothrow) Event;
      if (event == nullptr) return fail(EXN_OUT_OF_MEMORY, "exn_event_create: no memory");
      *out = event;
      return EXN_OK;
    },
    [](int32_t, exn_event event) -> exn_status {
      delete event_of(event);
      return EXN_OK;
    },
    [](int32_t, exn_event event, exn_stream) -> exn_status {
      event_of(event)->recorded = Event::Clock::now().time_since_epoch().count();
      return EXN_OK;
    },
    [](int32_t, exn_stream, exn_event) -> exn_status { return EXN_OK; },
    [](int32_t, exn_event, int32_t* reached) -> exn_status {
      *reached = 1;
      return EXN_OK;
    },
    [](int32_t, exn_event) -> exn_status { return EXN_OK; },
    [](int32_t, exn_event start, exn_event end, float* milliseconds) -> exn_status {
      const Event::Clock::rep from = event_of(start)->recorded, to = event_of(end)->recorded;
      if (from == 0 || to == 0) {
        return fail(EXN_INVALID_ARGUMENT, "exn_event_elapsed: %s was never recorded",
                    from == 0 ? "start" : "end");
      }
      *milliseconds =
          std::chrono::duration<float, std::milli>(Event::Clock::duration(to - from)).count();
      return EXN_OK;
    },
    [](int32_t device, size_t bytes, void** out) -> exn_status {
      if (alloc(device, bytes, out) == EXN_OK) return EXN_OK;
      return fail(EXN_OUT_OF_MEMORY, "exn_host_alloc: %zu bytes cannot be had", bytes);
    },
    release};

}  // namespace

const Backend& backend() {
  static constexpr Backend kBackend = {kBackendAbi,
                                       sizeof(Backend),
                                       "cpu",
                                       [] { return 1; },
                                       alloc,
                                       release,
                                       copy,
                                       stream_create,
                                       stream_nothing,
                                       stream_nothing,
#define EXN_DISPATCH(op, Args) dispatch<Args, &Kernels::op>,
                                       EXN_FOR_EACH_OP(EXN_DISPATCH)
#undef EXN_DISPATCH
                                           & kDeviceCalls};
  return kBackend;
}

const char* description() { return thread_text("cpu (%s, %d threads)", isa(), threads()); }

const char* isa() {
  const Kernels* table = chosen().load(std::memory_order_acquire);
  return table == nullptr ? "" : table->isa;
}

const char* isas() {
  static const char* list = [] {
    static char text[64];
    for (const Candidate& choice : kCandidates) {
      if (!choice.runs_here()) continue;
      if (text[0] != 0) std::strcat(text, ",");
      std::strcat(text, choice.kernels->isa);
    }
    return text;
  }();
  return list;
}

bool use_isa(const char* name) {
  const Kernels* table = name == nullptr ? best() : named(name);
  if (table == nullptr) return false;
  begin_tuning(table->isa);
  chosen().store(table, std::memory_order_release);
  current().store(with_threads(), std::memory_order_release);
  return true;
}

const char* tuning_in_force() {
  chosen();
  return tuning_text();
}

exn_status use_tuning(const char* text) {
  const char* const set = isa();
  char why[200];
  if (text == nullptr) {
    begin_tuning(set);
  } else if (!read_tuning(text, "set by the program", why, sizeof why)) {
    return fail(EXN_INVALID_ARGUMENT, "exn_cpu_set_tuning: text: %s", why);
  }
  return EXN_OK;
}

exn_status tune(int32_t milliseconds, const char* path) {
  const Kernels* table = in_use();
  if (table == nullptr) return EXN_UNSUPPORTED;
  char file[1024] = "";
  if (path != nullptr && *path != 0) {
    if (std::strlen(path) >= sizeof file) {
      return fail(EXN_INVALID_ARGUMENT, "exn_cpu_tune: path has %zu bytes, expected less than %zu",
                  std::strlen(path), sizeof file);
    }
    std::strcpy(file, path);
  } else if (path != nullptr && !tuning_file(table->isa, file, sizeof file)) {
    return fail(
        EXN_UNSUPPORTED,
        "exn_cpu_tune: path is empty, but this processor has no name, or its user no folder "
        "for caches");
  }
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  Findings findings;
  if (!calibrate(*table, multiplies_pairs(*table), milliseconds, &findings)) {
    return fail(EXN_OUT_OF_MEMORY, "exn_cpu_tune: 102 MiB to read cannot be had");
  }
  note_tuning(file[0] != 0 ? file : "measured", findings);
  std::string why;
  if (file[0] != 0 && !platform::replace_file(file, tuning_text(), &why)) {
    return fail(EXN_RUNTIME_FAILURE, "exn_cpu_tune: path %s cannot be written: %s", file,
                why.c_str());
  }
  return EXN_OK;
}

int32_t thread_count() { return threads(); }

exn_status use_threads(int32_t count) {
  if (!set_threads(count)) return refuse();
  const Kernels* none = nullptr;  // else the choice of a set stays as it is
  current().compare_exchange_strong(none, with_threads());
  return EXN_OK;
}

exn_status build_screen(const ScreenArgs& args) {
  const Kernels* table = in_use();
  return table == nullptr ? EXN_UNSUPPORTED : make_screen(args, *table);
}

bool reads_packed() {
  const Kernels* table = chosen().load(std::memory_order_acquire);
  return table != nullptr && table->packs;
}

exn_status pack_rows(const Matrix& weight, char* to) {
  const Kernels* table = in_use();
  if (table == nullptr) return EXN_UNSUPPORTED;
  if (weight.blocks == Blocks::kNone) {
    pack_panels(weight, to);
  } else {
    table->pack_rows(weight, to);
  }
  return EXN_OK;
}

exn_status read_probe(const void* data, int64_t bytes, int32_t way, uint64_t* checksum) {
  const Kernels* table = in_use();
  if (table == nullptr) return EXN_UNSUPPORTED;
  *checksum = table->read_probe(data, bytes, way);
  return EXN_OK;
}

exn_status copy_probe(void* to, const void* from, int64_t bytes, int32_t way) {
  const Kernels* table = in_use();
  if (table == nullptr) return EXN_UNSUPPORTED;
  table->copy_probe(to, from, bytes, way);
  return EXN_OK;
}

exn_status fma_probe(uint64_t multiply_adds, uint64_t* done) {
  const Kernels* table = in_use();
  if (table == nullptr) return EXN_UNSUPPORTED;
  *done = table->fma_probe(multiply_adds);
  return EXN_OK;
}

}  // namespace exn::cpu
