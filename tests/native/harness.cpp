// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

#include <inttypes.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "system.h"

extern "C" uint64_t exn_test_allocations();  // stubs/counting_malloc.cpp

namespace exn::test {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// EXEUNT_TEST_SHARE, or all.
struct Share {
  uint64_t index = 0, of = 1;
};

Share read_share() {
  const std::string text = environment("EXEUNT_TEST_SHARE");
  Share share;
  if (!text.empty() &&
      (std::sscanf(text.c_str(), "%" SCNu64 "/%" SCNu64, &share.index, &share.of) != 2 ||
       share.index >= share.of)) {
    std::fprintf(stderr, "EXEUNT_TEST_SHARE is I/N with 0 <= I < N, not '%s'\n", text.c_str());
    std::abort();
  }
  return share;
}

const Share& share() {
  static const Share read = read_share();
  return read;
}

bool name_in_share(const std::string& id) {
  uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const char ch : id) hash = (hash ^ static_cast<unsigned char>(ch)) * 0x100000001B3;
  return (hash >> 32) % share().of == share().index;
}

std::vector<Target> find_targets() {
  std::vector<Target> found;
  const std::string forced = environment("EXEUNT_ISA");
  if (environment("EXEUNT_TEST_CUDA_ONLY") != "1") {
    std::stringstream isas(forced.empty() ? exn_cpu_isas() : forced);
    for (std::string isa; std::getline(isas, isa, ',');) found.push_back({kDLCPU, isa, false});
  }
  if (exn_backend_available(EXN_BACKEND_CUDA) != 0) {
    const bool emulated = environment("EXEUNT_CUDA_LIBRARY").find("_emu") != std::string::npos;
    found.push_back({kDLCUDA, "", emulated});
  }
  return found;
}

struct Summary {
  std::map<std::string, size_t> stack;  // most bytes that a call of an op took
  std::set<std::string> left_out;       // ids of cases
};

Summary& summary() {
  static Summary s;
  return s;
}

class Report : public ::testing::Environment {
 public:
  void SetUp() override {
    for (const Target& target : targets()) std::printf("target: %s\n", target.name().c_str());
    if (exn_backend_available(EXN_BACKEND_CUDA) == 0) {
      std::printf("no CUDA: %s\n", exn_backend_reason(EXN_BACKEND_CUDA));
    }
  }
  void TearDown() override {
    for (const auto& [what, ratio] : worst_errors()) {
      std::printf("largest error / bound: %-28s %.3f\n", what.c_str(), ratio);
    }
    for (const auto& [what, band] : bands()) {
      std::printf("inside the decision band: %-25s %lld of %lld\n", what.c_str(),
                  static_cast<long long>(band.hits), static_cast<long long>(band.decisions));
    }
    for (const auto& [what, bytes] : summary().stack) {
      std::printf("largest stack: %-36s %zu\n", what.c_str(), bytes);
    }
    if (share().of > 1) {
      std::printf("share %" PRIu64 " of the cases, of %" PRIu64 "\n", share().index, share().of);
    }
    if (summary().left_out.empty()) return;
    std::printf("left out, too large for this run: %zu cases:", summary().left_out.size());
    for (const std::string& id : summary().left_out) std::printf(" %s", id.c_str());
    std::printf("\n");
  }
};

const ::testing::Environment* const kReport = ::testing::AddGlobalTestEnvironment(new Report);

}  // namespace

bool in_share(size_t index) { return index % share().of == share().index; }

const std::vector<Target>& targets() {
  static const std::vector<Target> found = find_targets();
  return found;
}

void* emulator_function(const char* name) {
  for (const Target& target : targets()) {
    if (!target.emulated) continue;
    return function_of(environment("EXEUNT_CUDA_LIBRARY"), name);
  }
  return nullptr;
}

void use(const Target& target) {
  if (target.cpu()) {
    ASSERT_EQ(exn_cpu_set_isa(target.isa.c_str()), EXN_OK) << exn_last_error();
  }
}

bool library_asserts() { return environment("EXEUNT_TEST_ASSERTS") == "1"; }

bool wanted(const CaseBase& c, const Target& target) {
  if (target.emulated) return c.small;
  if (c.big) return !c.timed && environment("EXEUNT_TEST_BIG") == "1";
  return !c.bench || environment("EXEUNT_QUICK") != "1";
}

bool meets_in_tiles(Type weight, int64_t rows) {
  const std::string isa = exn_cpu_isa();
  return (isa == "amx" || isa == "avx512_emulated") && weight == Type::kBF16 && rows > 64;
}

bool wanted_somewhere(const CaseBase& c) {
  if (!name_in_share(c.id)) return false;
  for (const Target& target : targets()) {
    if (wanted(c, target)) return true;
  }
  summary().left_out.insert(c.id);
  return false;
}

// ---- the protocol -------------------------------------------------------------------------------

namespace {

void expect_path(const Target& target, const char* op) {
  const std::string path = exn_last_path();
  if (target.cpu()) {
    EXPECT_EQ(path, "cpu/" + target.isa + "/" + op);
  } else {
    EXPECT_EQ(path.rfind("cuda/", 0), 0u) << path;
    EXPECT_TRUE(path.size() > std::strlen(op) &&
                path.substr(path.size() - std::strlen(op) - 1) == std::string("/") + op)
        << path;
  }
}

std::vector<std::vector<unsigned char>> bytes_of(const std::vector<Placed*>& tensors) {
  std::vector<std::vector<unsigned char>> bytes;
  for (const Placed* t : tensors) {
    if (t->dl() != nullptr) bytes.push_back(t->read().bytes);
  }
  return bytes;
}

void reset_all(const std::vector<Placed*>& tensors) {
  for (Placed* t : tensors) t->reset();
}

// What the protocol runs again and again: calls, one after the other, and the tensors they share.
struct Subject {
  std::vector<BoundCall> calls;
  std::function<void()> reset;      // puts the outputs back
  std::function<bool()> untouched;  // outputs are as `reset` left them
  std::function<void()> expect_intact;
  std::function<std::vector<std::vector<unsigned char>>()> bits;
};

void refuses_short_workspace(const Target& target, const BoundCall& call, size_t bytes) {
  GuardedMemory workspace(target, bytes, 0xFF);
  EXPECT_EQ(call.run(workspace.data(), bytes - 1, nullptr), EXN_INVALID_ARGUMENT)
      << call.op << ": a byte less than " << bytes;
  const std::string error = exn_last_error();
  EXPECT_NE(error.find("workspace"), std::string::npos) << error;
  EXPECT_NE(error.find(std::to_string(bytes)), std::string::npos) << error;
  EXPECT_NE(error.find(std::to_string(bytes - 1)), std::string::npos) << error;
  EXPECT_TRUE(workspace.unchanged()) << call.op << " wrote to a workspace that it refused";
}

constexpr uint64_t kPaint = 0xA5A5A5A5A5A5A5A5u;
constexpr size_t kPainted = size_t{1} << 16;

// Paints the stack below its caller's frame; where that begins.
__attribute__((noinline)) uintptr_t paint_stack() {
  volatile uint64_t painted[kPainted / sizeof kPaint];
  for (volatile uint64_t& word : painted) word = kPaint;
  volatile auto begin = reinterpret_cast<uintptr_t>(&painted[0]);
  return begin;
}

// Bytes of stack that f() takes, at most kPainted, on one that was painted before.
__attribute__((noinline)) size_t stack_taken(const std::function<void()>& f) {
  const auto from = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const auto* touched = reinterpret_cast<const volatile uint64_t*>(paint_stack());
  f();
  while (*touched == kPaint) ++touched;
  return from - reinterpret_cast<uintptr_t>(touched);
}

// A thread of Java may have 80 KiB of stack left when it calls, so no call takes more than 16. A
// sanitizer's frames are larger, and so are those of emulated vectors.
void expect_small_stack(const Target& target, const std::vector<BoundCall>& calls) {
  if (!target.cpu() || allocations() == 0 || target.isa == "avx512_emulated") return;
  std::thread([&] {
    for (const BoundCall& call : calls) {
      size_t bytes = 0;
      ASSERT_EQ(call.workspace_size(&bytes), EXN_OK) << exn_last_error();
      GuardedMemory workspace(target, bytes, 0xFF);
      const size_t taken = stack_taken([&] {
        size_t size = 0;
        (void)call.supported();
        (void)call.workspace_size(&size);
        (void)call.run(workspace.data(), bytes, nullptr);
      });
      constexpr size_t kMost = size_t{16} << 10;
      EXPECT_LE(taken, kMost) << call.op << " takes " << taken << " bytes of stack";
      size_t& most = summary().stack[std::string(call.op) + " " + target.isa];
      most = std::max(most, taken);
    }
  }).join();
}

// The first run after exn_cpu_set_threads() does, which allocates.
void start_threads() {
  static const std::vector<unsigned char> memory(1 << 20);
  uint64_t checksum = 0;
  ASSERT_EQ(exn_read_probe(memory.data(), memory.size(), 0, &checksum), EXN_OK) << exn_last_error();
}

// One run of all calls from freshly poisoned outputs.
void run_guarded(const Target& target, const Subject& subject, unsigned char dirt) {
  subject.reset();
  for (const BoundCall& call : subject.calls) {
    size_t bytes = ~size_t{0};
    ASSERT_EQ(call.workspace_size(&bytes), EXN_OK) << exn_last_error();
    GuardedMemory workspace(target, bytes, dirt);
    const auto run = [&] {
      return call.run(bytes == 0 ? nullptr : workspace.data(), bytes, nullptr);
    };
    const bool refused = target.cpu() && call.cpu_refuses;
    const auto before = refused ? subject.bits() : std::vector<std::vector<unsigned char>>();
    const exn_status status = target.cpu() ? without_allocations(call.op, run) : run();
    if (refused) {
      ASSERT_EQ(status, EXN_INVALID_ARGUMENT) << exn_last_error();
      EXPECT_EQ(subject.bits(), before) << call.op << " wrote an output of a run that it refused";
      continue;
    }
    ASSERT_EQ(status, EXN_OK) << exn_last_error();
    expect_path(target, call.op);
    ASSERT_EQ(exn_stream_synchronize(target.device_type, 0, nullptr), EXN_OK) << exn_last_error();
    EXPECT_TRUE(workspace.guards_intact())
        << call.op << " wrote outside its workspace of " << bytes << " bytes";
  }
  subject.expect_intact();
}

void exercise(const Target& target, const Subject& subject) {
  use(target);
  for (const BoundCall& call : subject.calls) {
    ASSERT_EQ(call.supported(), EXN_OK) << exn_last_error();
    size_t bytes = ~size_t{0};
    ASSERT_EQ(call.workspace_size(&bytes), EXN_OK) << exn_last_error();
    if (bytes > 0) refuses_short_workspace(target, call, bytes);
  }
  EXPECT_TRUE(subject.untouched()) << "wrote an output although it refused the workspace";
  if (target.cpu()) start_threads();
  ASSERT_NO_FATAL_FAILURE(run_guarded(target, subject, 0xFF));
  const auto first = subject.bits();
  if (!target.cpu()) {
    ASSERT_NO_FATAL_FAILURE(run_guarded(target, subject, 0x3F));
    EXPECT_EQ(first, subject.bits()) << "the second run gives other bits";
    return;
  }
  // What a sanitizer or an emulator watches is the same code for each of the counts; but not for all
  // ways in which the instance lies in caches.
  const bool emulated = target.isa == "avx512_emulated" || target.isa == "neon";
  const auto counts = emulated            ? std::vector<int32_t>{5}
                      : library_asserts() ? std::vector<int32_t>{5, 3}
                                          : std::vector<int32_t>{1, 2, 3, 5};
  const int32_t before = exn_cpu_threads();
  for (int32_t threads : counts) {
    ASSERT_EQ(exn_cpu_set_threads(threads), EXN_OK) << exn_last_error();
    start_threads();
    ASSERT_NO_FATAL_FAILURE(run_guarded(target, subject, 0x3F));
    EXPECT_EQ(first, subject.bits())
        << "other bits in a further run, with " << threads << " threads";
    if (threads == 1) {
      subject.reset();
      expect_small_stack(target, subject.calls);
    }
  }
  ASSERT_EQ(exn_cpu_set_threads(before), EXN_OK) << exn_last_error();
}

}  // namespace

void exercise(const Target& target, const BoundCall& call, const std::vector<Placed*>& read,
              const std::vector<Placed*>& written) {
  const auto untouched = [&] {
    return std::all_of(written.begin(), written.end(),
                       [](const Placed* t) { return t->unchanged(); });
  };
  const auto expect_intact = [&] {
    for (const Placed* t : read) EXPECT_TRUE(t->unchanged()) << call.op << " changed an input";
    for (const Placed* t : written)
      EXPECT_TRUE(t->guards_intact()) << call.op << " wrote outside an output";
  };
  exercise(target, Subject{{call},
                           [&] { reset_all(written); },
                           untouched,
                           expect_intact,
                           [&] { return bytes_of(written); }});
}

void exercise(const Target& target, Instance* instance) {
  const auto bits = [&] {
    std::vector<std::vector<unsigned char>> bytes;
    for (HostTensor& output : instance->outputs()) bytes.push_back(std::move(output.bytes));
    return bytes;
  };
  const auto expect_intact = [&] {
    EXPECT_TRUE(instance->surroundings_intact()) << "changed an input or wrote outside an output";
  };
  exercise(target, Subject{instance->calls(), [&] { instance->reset_outputs(); },
                           [&] { return instance->outputs_unchanged(); }, expect_intact, bits});
}

uint64_t allocations() { return exn_test_allocations(); }

exn_status run_once(const Target& target, const BoundCall& call) {
  use(target);
  size_t bytes = 0;
  exn_status status = call.workspace_size(&bytes);
  if (status != EXN_OK) return status;
  DeviceMemory workspace(target, bytes);
  status = call.run(workspace.data(), bytes, nullptr);
  return status != EXN_OK ? status : exn_stream_synchronize(target.device_type, 0, nullptr);
}

Outputs outputs_of(const Target& target, const std::unique_ptr<Instance>& instance) {
  use(target);
  instance->prepare();
  instance->run(nullptr);
  return instance->outputs();
}

// ---- comparison ---------------------------------------------------------------------------------

void BlockOfRows::operator()(const DLTensor** field) {
  if (*field == nullptr) return;
  DLTensor& view = views_.emplace_back(**field);
  std::vector<int64_t>& shape = shapes_.emplace_back(view.shape, view.shape + view.ndim);
  shape[0] = count_;
  view.shape = shape.data();
  view.byte_offset += static_cast<uint64_t>(first_ * view.strides[0] * view.dtype.bits / 8);
  *field = &view;
}

void expect_rows_agree(const Outputs& all, const Outputs& got, int64_t first, int64_t count) {
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(part_of(got[i], first, count).bytes, part_of(all[i], first, count).bytes)
        << "output " << i << ", " << count << " rows from " << first;
  }
}

void expect_all_agree(const std::string& what, const std::vector<Expected>& expected,
                      const HostTensor& got) {
  EXPECT_EQ(compare(what, expected, got), "");
}

}  // namespace exn::test
