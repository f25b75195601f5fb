// SPDX-License-Identifier: Apache-2.0
#include "trial.h"

#include <sys/mman.h>

#include <algorithm>
#include <cctype>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace exn::fuzz {
namespace {

// Sentences that name no field of the op, and why that is right.
constexpr const char* kNamesOfOthers[] = {
    "params is null",
    "params.struct_size",
    "workspace",
    "bytes is null",
    "device_id is",                    // of all tensors
    "the tensors are on",              // a device whose backend is closed
    "the cache's layout",              // of whichever cache
    "reserved is",                     // of whichever struct
    "a schedule is made on the host",  // not by layer_schedule on a device
};

bool is_part_of_name(char ch) { return std::isalnum(static_cast<unsigned char>(ch)) || ch == '_'; }

bool holds_word(const char* text, const char* word) {
  const size_t size = std::strlen(word);
  for (const char* at = text; (at = std::strstr(at, word)) != nullptr; ++at) {
    if ((at == text || !is_part_of_name(at[-1])) && !is_part_of_name(at[size])) return true;
  }
  return false;
}

// A part of its name: "cache" or "k" of "cache.k".
bool holds_part(const char* text, const char* name) {
  char part[64];
  size_t size = 0;
  for (const char* at = name;; ++at) {
    if (is_part_of_name(*at)) {
      part[size++] = *at;
      continue;
    }
    part[size] = 0;
    if (size > 0 && holds_word(text, part)) return true;
    size = 0;
    if (*at == 0) return false;
  }
}

bool names_an_argument(const Case& c, const char* sentence) {
  const size_t op = std::strlen(c.op->name);
  if (std::strncmp(sentence, c.op->name, op) != 0 || sentence[op] != ':') return false;
  const char* text = sentence + op;
  Maker& m = const_cast<Case&>(c).maker;
  for (int i = 0; i < m.field_count(); ++i) {
    if (holds_part(text, m.fields()[i].name)) return true;
  }
  for (int i = 0; i < m.scalar_count(); ++i) {
    if (holds_part(text, m.scalars()[i].name)) return true;
  }
  for (const char* other : kNamesOfOthers) {
    if (std::strstr(text, other) != nullptr) return true;
  }
  return false;
}

}  // namespace

void print_case(const Case& c) {
  Maker& m = const_cast<Case&>(c).maker;
  std::fprintf(stderr, "  %s: %s\n", c.op->name, c.story[0] != 0 ? c.story : "as described");
  for (int i = 0; i < m.field_count(); ++i) {
    const TensorField& f = m.fields()[i];
    if (*f.place == nullptr) continue;
    const DLTensor& t = **f.place;
    int32_t type;
    std::memcpy(&type, &t.device.device_type, sizeof type);
    std::fprintf(stderr, "    %-24s %-6s (%d,%d,%d) on %d:%d  data %p + %llu  rank %d [", f.name,
                 f.role == Role::kIn    ? "in"
                 : f.role == Role::kOut ? "out"
                                        : "in-out",
                 t.dtype.code, t.dtype.bits, t.dtype.lanes, type, t.device.device_id, t.data,
                 static_cast<unsigned long long>(t.byte_offset), t.ndim);
    const int32_t axes = t.shape == nullptr || t.ndim < 0 || t.ndim > kMostRank ? 0 : t.ndim;
    for (int32_t a = 0; a < axes && a < f.rank; ++a)
      std::fprintf(stderr, "%s%lld", a > 0 ? "," : "", static_cast<long long>(t.shape[a]));
    std::fprintf(stderr, "]");
    for (int32_t a = 0; t.strides != nullptr && a < axes && a < f.rank; ++a)
      std::fprintf(stderr, "%s%lld", a > 0 ? "," : " strides ",
                   static_cast<long long>(t.strides[a]));
    std::fprintf(stderr, "\n");
  }
  for (int i = 0; i < m.scalar_count(); ++i) {
    const ScalarField& s = m.scalars()[i];
    std::fprintf(stderr, "    %-24s ", s.name);
    switch (s.kind) {
      case ScalarField::kInt32:
        std::fprintf(stderr, "%d\n", *static_cast<int32_t*>(s.place));
        break;
      case ScalarField::kInt64:
        std::fprintf(stderr, "%lld\n", static_cast<long long>(*static_cast<int64_t*>(s.place)));
        break;
      case ScalarField::kFloat:
        std::fprintf(stderr, "%g\n", static_cast<double>(*static_cast<float*>(s.place)));
        break;
      case ScalarField::kDouble:
        std::fprintf(stderr, "%g\n", *static_cast<double*>(s.place));
        break;
      case ScalarField::kArray:
        std::fprintf(stderr, "%p\n", *static_cast<void**>(s.place));
    }
  }
}

Bench::Bench(Arena* arena, int32_t device_type, Progress* progress)
    : arena_(arena), device_type_(device_type), progress_(progress) {
  if (device_type == kDLCPU) {
    constexpr size_t kGuard = size_t{1} << 20;
    void* region = mmap(nullptr, kMostWorkspace + 2 * kGuard, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) std::exit(2);
    workspace_ = static_cast<char*>(region) + kGuard;
    if (mprotect(workspace_, kMostWorkspace, PROT_READ | PROT_WRITE) != 0) std::exit(2);
  } else {  // the library may have the runtime fill it, which only takes its own memory
    void* memory = nullptr;
    if (exn_alloc(device_type, 0, kMostWorkspace, &memory) != EXN_OK) {
      std::fprintf(stderr, "fuzz: %s\n", exn_last_error());
      std::exit(2);
    }
    workspace_ = static_cast<char*>(memory);
  }
  workspace_end_ = workspace_ + kMostWorkspace;
}

Bench::~Bench() {
  if (device_type_ != kDLCPU) exn_free(device_type_, 0, workspace_);
}

void Bench::complain(const char* format, ...) {
  ++progress_->findings;
  // The same of one op again and again is only counted.
  constexpr uint8_t kMostAlike = 4;
  const size_t kind = reinterpret_cast<uintptr_t>(format) + 31 * static_cast<size_t>(progress_->op);
  uint8_t& printed = printed_[kind % sizeof printed_];
  if (printed >= kMostAlike) return;
  ++printed;
  char text[1536];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  std::fprintf(stderr, "FINDING %s\n  reproduce: %s\n", text, reproduction_);
  if (case_ != nullptr) print_case(*case_);
}

// Whether every tensor's memory is there, and may be written where the op writes.
bool Bench::may_run() const {
  for (int i = 0; i < maker_->field_count(); ++i) {
    const TensorField& f = maker_->fields()[i];
    if (*f.place == nullptr) continue;
    const DLTensor& t = **f.place;
    // What is broken here was not looked at, as the call has no use for it.
    const int32_t most = (f.flags & kAnyRank) != 0 ? 64 : f.rank;
    if (t.shape == nullptr || t.ndim < 0 || t.ndim > most) return false;
    // A grid without work keeps an emulated device busy for minutes.
    int64_t grid = 1;
    for (int32_t axis = 0; axis < t.ndim && device_type_ != kDLCPU; ++axis) {
      constexpr int64_t kMost = 1 << 18;
      if (t.shape[axis] > 0) grid *= std::min(t.shape[axis], kMost);
      if (grid >= kMost) return false;
    }
    uintptr_t begin, end;
    if (!memory_of(t, &begin, &end)) return false;
    if (begin == end) continue;
    int64_t first, last;
    bool writable, last_writable;
    const Slot* slot = arena_->around(begin, &first, &writable);
    if (slot == nullptr || slot != arena_->around(end - 1, &last, &last_writable)) return false;
    if (writable != last_writable || (f.role != Role::kIn && !writable)) return false;
    if (first < 0 || last >= static_cast<int64_t>(slot->bytes)) return false;
  }
  return true;
}

exn_status Bench::run(const void* params, size_t bytes, unsigned char rubbish, Count* count) {
  const size_t rounded = (bytes + 63) / 64 * 64;
  char* at = workspace_end_ - rounded;
  std::memset(at, rubbish, rounded);
  std::memset(at + bytes, Slot::kCanary, rounded - bytes);
  size_t said = bytes;
  void* given = rounded > 0 ? at : nullptr;
  switch (case_->workspace) {
    case Workspace::kExact:
      break;
    case Workspace::kRoomy:
      said = kMostWorkspace;
      given = workspace_;
      break;
    case Workspace::kNull:
      given = nullptr;
      break;
    case Workspace::kShort:
      said = bytes > 0 ? bytes - 1 : 0;
      break;
    case Workspace::kMisaligned:
      given = at - 4;
  }
  step("run");
  exn_status status = case_->op->run(params, given, said, nullptr);
  ++count->calls;
  if (status == EXN_OK && device_type_ != kDLCPU) {
    status = exn_stream_synchronize(device_type_, 0, nullptr);
    if (status != EXN_OK) complain("the device failed: %s", exn_last_error());
  }
  step("judging");
  for (size_t i = bytes; i < rounded && case_->workspace == Workspace::kExact; ++i) {
    if (static_cast<unsigned char>(at[i]) != Slot::kCanary)
      return complain("byte %zu of a workspace of %zu was written", i, bytes), status;
  }
  return status;
}

void Bench::check_refusal(const char* function, exn_status status) {
  const char* text = exn_last_error();
  if (status != EXN_INVALID_ARGUMENT && status != EXN_UNSUPPORTED &&
      status != EXN_BACKEND_UNAVAILABLE) {
    complain("%s%s returned %s: %s", case_->op->name, function, exn_status_name(status), text);
  } else if (!names_an_argument(*case_, text)) {
    complain("%s%s names no argument: %s", case_->op->name, function, text);
  }
}

// After a refusal: nothing was written.
void Bench::check_untouched(const char* when) {
  for (int i = 0; i < maker_->tensor_count(); ++i) {
    const Tensor& t = maker_->tensors()[i];
    if (!t.written || std::memcmp(t.slot->before, t.slot->begin, t.slot->bytes) == 0) continue;
    const TensorField* f = maker_->field_of(t.slot);
    complain("%s wrote %s %s: %s", case_->op->name, f != nullptr ? f->name : "?", when,
             exn_last_error());
    restore();
    return;
  }
}

void Bench::restore() {
  for (int i = 0; i < maker_->tensor_count(); ++i) {
    const Tensor& t = maker_->tensors()[i];
    if (t.written) std::memcpy(t.slot->begin, t.slot->before, t.slot->bytes);
  }
}

// Calls f(address, bytes) for every piece without a gap of an output.
template <class F>
static void for_each_row(const DLTensor& t, F&& f) {
  const int64_t element = t.dtype.bits / 8;
  const int64_t rows = t.ndim > 0 ? t.shape[0] : 1;
  int64_t row = 1;
  for (int32_t i = 1; i < t.ndim; ++i) row *= t.shape[i];
  if (rows <= 0 || row <= 0) return;
  const int64_t stride = t.strides != nullptr && rows > 1 ? t.strides[0] : row;
  char* data = static_cast<char*>(t.data) + t.byte_offset;
  for (int64_t r = 0; r < rows; ++r)
    f(data + r * stride * element, static_cast<size_t>(row * element));
}

// After a run: of all memory that may be written, only elements of outputs were. Leaves the outputs
// in place.
void Bench::check_written() {
  constexpr size_t kMostCopied = size_t{1} << 20;
  static char* const expected = static_cast<char*>(std::malloc(kMostCopied));
  for (int i = 0; i < maker_->tensor_count(); ++i) {
    const Tensor& t = maker_->tensors()[i];
    if (!t.written) continue;
    const Slot& slot = *t.slot;
    std::memcpy(expected, slot.before, slot.bytes);
    for (int j = 0; j < maker_->field_count(); ++j) {
      const TensorField& f = maker_->fields()[j];
      if (*f.place == nullptr || f.role == Role::kIn) continue;
      for_each_row(**f.place, [&](const char* row, size_t bytes) {
        const size_t at = static_cast<size_t>(row - slot.begin);
        if (at < slot.bytes) std::memcpy(expected + at, row, bytes);
      });
    }
    if (std::memcmp(expected, slot.begin, slot.bytes) == 0) continue;
    size_t at = 0;
    while (expected[at] == slot.begin[at]) ++at;
    const TensorField* f = maker_->field_of(&slot);
    complain("%s wrote %lld bytes after the begin of %s, which is no element of it",
             case_->op->name, static_cast<long long>(at) - t.offset(),
             f != nullptr ? f->name : "?");
  }
}

uint64_t Bench::hash_of_outputs() const {
  uint64_t hash = 0xcbf29ce484222325;
  for (int i = 0; i < maker_->tensor_count(); ++i) {
    const Tensor& t = maker_->tensors()[i];
    if (!t.written) continue;
    const char* bytes = t.slot->begin;
    for (size_t at = 0; at < t.slot->bytes; at += 8) {
      uint64_t word;
      std::memcpy(&word, bytes + at, sizeof word);
      hash = (hash ^ word) * 0x100000001b3;
      hash ^= hash >> 29;
    }
  }
  return hash;
}

void Bench::judge(Case* c, Count* count) {
  case_ = c;
  maker_ = &c->maker;
  const OpUnderTest& op = *c->op;
  ++count->cases;

  step("supported");
  const exn_status status = op.supported(c->params);
  if (status != EXN_OK) check_refusal("_supported", status);
  constexpr size_t kUntouched = 0x5a5a5a5a;
  size_t bytes = kUntouched;
  step("workspace_size");
  const exn_status sized = op.workspace_size(c->params, &bytes);
  step("judging");
  count->calls += 2;
  if (sized != status) {
    complain("%s_supported returned %s, but _workspace_size %s", op.name, exn_status_name(status),
             exn_status_name(sized));
  }
  if (sized != EXN_OK && bytes != kUntouched) complain("a refused size query wrote a size");

  // The table of layers is made on the host.
  const bool on_host_only = device_type_ != kDLCPU && status == EXN_UNSUPPORTED;
  if (status != EXN_OK) {
    if (c->must_be_accepted && !on_host_only)
      complain("%s refuses what is sound: %s", op.name, exn_last_error());
    const exn_status ran = run(c->params, 4096, 0xCD, count);
    if (ran != status) {
      complain("%s_supported returned %s, but the run %s", op.name, exn_status_name(status),
               exn_status_name(ran));
    }
    check_refusal("", ran);
    check_untouched("though it refused the call");
    ++count->refused;
    case_ = nullptr;
    return;
  }
  if (c->must_be_refused) {
    complain("%s accepts what is broken", op.name);
    case_ = nullptr;
    return;
  }
  if (bytes > kMostWorkspace || !may_run() || c->maker.random().below(1 << 20) % run_every_ != 0) {
    ++count->not_run;
    case_ = nullptr;
    return;
  }

  const exn_status ran = run(c->params, bytes, 0xCD, count);
  const bool no_workspace =
      bytes > 0 && (c->workspace == Workspace::kNull || c->workspace == Workspace::kShort ||
                    c->workspace == Workspace::kMisaligned);
  if (ran != EXN_OK) {
    if (c->must_be_accepted && !no_workspace)
      complain("%s does not run what is sound: %s", op.name, exn_last_error());
    check_refusal("", ran);
    check_untouched("though the run was refused");
    ++count->refused;
    case_ = nullptr;
    return;
  }
  if (no_workspace) complain("%s runs without the workspace of %zu bytes it needs", op.name, bytes);
  if (c->run_must_be_refused) complain("%s runs what is broken", op.name);
  const char* path = exn_last_path();
  if (!c->may_change_device && std::strncmp(path, path_, std::strlen(path_)) != 0)
    complain("%s ran on %s, not on %s", op.name, path, path_);
  check_written();
  ++count->accepted;
  const int64_t chance = maker_->random().below(2048);
  if (chance % 4 == 0) {
    const uint64_t hash = hash_of_outputs();
    const bool other_threads = chance == 0 && device_type_ == kDLCPU;
    const int32_t threads = exn_cpu_threads();
    if (other_threads) exn_cpu_set_threads(threads % 4 + 1);
    restore();
    run(c->params, bytes, 0x32, count);
    if (other_threads) exn_cpu_set_threads(threads);
    if (hash_of_outputs() != hash) {
      complain("%s gives other bits in a second run%s", op.name,
               other_threads ? " with another number of threads" : "");
    }
  }
  case_ = nullptr;
}

}  // namespace exn::fuzz
