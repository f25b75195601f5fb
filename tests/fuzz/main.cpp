// SPDX-License-Identifier: Apache-2.0
//
// fuzz: calls every op of the C ABI with sound and unsound arguments until told to stop. A worker
// process calls; when it dies, its supervisor says of which case, and starts another after it.
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/ops.h"
#include "core_calls.h"
#include "corpus.h"
#include "trial.h"

namespace exn::fuzz {
namespace {

constexpr const char* kUsage =
    "usage: fuzz [option...]\n"
    "  --seed N        other cases (default 1)\n"
    "  --minutes M     stop after so many minutes, --seconds S seconds (default 10 seconds)\n"
    "  --cases N       stop after so many cases; --calls N: calls of the C ABI\n"
    "  --op NAME       only this op, such as exn_gate, or core: what core.h declares\n"
    "  --first N       begin with this case\n"
    "  --isa NAME      CPU kernels to use (default: EXEUNT_ISA, or the best the machine runs)\n"
    "  --device cuda   tensors on a CUDA device: for the emulated one, whose memory is the host's\n"
    "  --run-every N   run one in N of the cases that can be run, and only check the others\n"
    "  --corpus NAME   no random cases, but this one of past findings; all: each of them\n"
    "  --list          only print the instruction sets that this machine can run\n"
    "  --fields        only check that the description of each op knows all fields of its params\n"
    "A finding is printed with the arguments that reproduce it. Exit status: 0 nothing was found,\n"
    "1 something was, 2 the arguments make no sense.\n";

struct Options {
  uint64_t seed = 1;
  uint64_t first = 0;
  uint64_t cases = UINT64_MAX;
  uint64_t calls = UINT64_MAX;
  double seconds = 0;
  uint64_t run_every = 1;
  std::string op;
  std::string isa;
  std::string corpus = "all";
  bool corpus_alone = false;
  bool fields = false;
  int32_t device = kDLCPU;
};

constexpr int kMostOps = 64;

// What worker and supervisor share.
struct Shared {
  Progress progress;
  Count counts[kMostOps];
};

Options options;
Shared* shared = nullptr;
Bench* bench = nullptr;
char reproduction[256];

[[noreturn]] void refuse(const std::string& why) {
  std::fprintf(stderr, "fuzz: %s\n%s", why.c_str(), kUsage);
  std::exit(2);
}

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

int op_count() { return static_cast<int>(ops_under_test().size()); }

const OpUnderTest& op_at(int op) { return ops_under_test()[static_cast<size_t>(op)]; }

const char* name_of(int op) { return op < op_count() ? op_at(op).name : kCoreName; }

// Which op a case is of; -1: none is meant.
int op_of(uint64_t iteration) {
  if (options.op.empty())
    return static_cast<int>(iteration % static_cast<uint64_t>(op_count() + 1));
  for (int op = 0; op <= op_count(); ++op) {
    if (options.op == name_of(op) || "exn_" + options.op == name_of(op)) return op;
  }
  return -1;
}

// Always made before a case, not when something is found: then it may be too late.
void describe_reproduction(uint64_t iteration, int op) {
  std::snprintf(
      reproduction, sizeof reproduction, "fuzz --seed %llu --first %llu --cases 1 --op %s%s%s%s",
      static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(iteration),
      name_of(op), options.device == kDLCPU ? "" : " --device cuda",
      options.isa.empty() ? "" : " --isa ", options.isa.c_str());
}

// ---- the worker ---------------------------------------------------------------------------------

// All of this may fail in a process that has just gone wrong; the supervisor notices either way.
void on_fault(int signal, siginfo_t* info, void*) {
  char text[512];
  int size = std::snprintf(text, sizeof text, "FAULT signal %d at %p in %s", signal, info->si_addr,
                           shared->progress.step);
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  int64_t offset;
  bool writable;
  const Slot* slot = nullptr;
  if (bench != nullptr) slot = bench->arena().around(address, &offset, &writable);
  const Case* c = bench != nullptr ? bench->current() : nullptr;
  const TensorField* f = slot != nullptr && c != nullptr ? c->maker.field_of(slot) : nullptr;
  if (f != nullptr) {
    size += std::snprintf(text + size, sizeof text - static_cast<size_t>(size),
                          ", %lld bytes after the begin of the memory of %s (%zu bytes, %s)",
                          static_cast<long long>(offset - f->tensor->offset()), f->name,
                          slot->bytes - static_cast<size_t>(f->tensor->offset()),
                          writable ? "writable" : "read-only");
  }
  std::fprintf(stderr, "%s\n", text);
  if (c != nullptr) print_case(*c);
  std::fflush(stderr);
  _exit(70);
}

void catch_faults() {
  static char stack[65536];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND;
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigaction(signal, &action, nullptr);
}

// The library as the options want it, in a worker.
void set_up() {
  catch_faults();
  if (!options.isa.empty() && exn_cpu_set_isa(options.isa.c_str()) != EXN_OK) {
    std::fprintf(stderr, "fuzz: %s\n", exn_last_error());
    _exit(2);
  }
  if (options.device == kDLCUDA && exn_cuda_open(nullptr) != EXN_OK) {
    std::fprintf(stderr, "fuzz: %s\n", exn_last_error());
    _exit(2);
  }
}

[[noreturn]] void work(uint64_t first, double deadline) {
  set_up();
  Arena arena;
  Bench the_bench(&arena, options.device, &shared->progress);
  bench = &the_bench;
  const std::string path =
      options.device == kDLCPU ? std::string("cpu/") + exn_cpu_isa() + "/" : "cuda/";
  bench->set_path(path.c_str());
  bench->set_reproduction(reproduction);
  bench->set_run_every(static_cast<int64_t>(options.run_every));
  Case c(&arena, options.device);
  uint64_t calls = 0;
  for (int op = 0; op <= op_count(); ++op) calls += shared->counts[op].calls;
  for (uint64_t i = first; i - options.first < options.cases && calls < options.calls; ++i) {
    if (i % 256 == 0 && now() >= deadline) break;
    const int op = op_of(i);
    Count* count = &shared->counts[op];
    const uint64_t calls_before = count->calls;
    shared->progress.op = op;
    shared->progress.step = "making the case";
    shared->progress.iteration = i;
    describe_reproduction(i, op);
    if (options.device == kDLCPU && i % 8192 == 0)
      exn_cpu_set_threads(static_cast<int32_t>(i / 8192 % 3) + 1);
    Random random(options.seed, i);
    if (op == op_count()) {
      shared->progress.step = "core.h's functions";
      judge_core(bench, &random, options.device, count);
    } else if (make_case(&c, op_at(op), &random)) {
      bench->judge(&c, count);
    }
    calls += count->calls - calls_before;
    ++shared->progress.cases;
  }
  std::fflush(stderr);
  _exit(0);
}

// ---- the supervisor -----------------------------------------------------------------------------

void print_progress(double seconds) {
  uint64_t calls = 0;
  for (int op = 0; op <= op_count(); ++op) calls += shared->counts[op].calls;
  const auto per_second = static_cast<double>(calls) / seconds;
  std::printf("%.0f s: %llu cases, %llu calls (%.0f a second), %llu findings\n", seconds,
              static_cast<unsigned long long>(shared->progress.cases),
              static_cast<unsigned long long>(calls), per_second,
              static_cast<unsigned long long>(shared->progress.findings));
  std::fflush(stdout);
}

void print_summary() {
  std::printf("%-22s %12s %12s %12s %12s %12s\n", "op", "cases", "calls", "accepted", "refused",
              "not run");
  Count all{};
  const auto line = [](const char* name, const Count& c) {
    std::printf("%-22s %12llu %12llu %12llu %12llu %12llu\n", name,
                static_cast<unsigned long long>(c.cases), static_cast<unsigned long long>(c.calls),
                static_cast<unsigned long long>(c.accepted),
                static_cast<unsigned long long>(c.refused),
                static_cast<unsigned long long>(c.not_run));
  };
  for (int op = 0; op <= op_count(); ++op) {
    const Count& c = shared->counts[op];
    if (c.cases > 0) line(name_of(op), c);
    all.cases += c.cases;
    all.calls += c.calls;
    all.accepted += c.accepted;
    all.refused += c.refused;
    all.not_run += c.not_run;
  }
  line("all", all);
}

// Waits for a worker, but not for ever for one case. Its status, or -1 if it hung.
int wait_for(pid_t worker, double start, double* next_line) {
  constexpr double kPatience = 30;
  uint64_t seen = UINT64_MAX;
  double since = now();
  for (;;) {
    int status = 0;
    if (waitpid(worker, &status, WNOHANG) == worker) return status;
    const double time = now();
    if (shared->progress.cases != seen) {
      seen = shared->progress.cases;
      since = time;
    }
    if (time - since > kPatience) {
      kill(worker, SIGABRT);  // it may still say what it was doing
      usleep(500000);
      kill(worker, SIGKILL);
      waitpid(worker, &status, 0);
      return -1;
    }
    if (time >= *next_line) {
      print_progress(time - start);
      *next_line = time + 30;
    }
    usleep(20000);
  }
}

// Each past finding in a process of its own.
int run_corpus() {
  bool known = false;
  for (int i = 0; i < kCorpusSize; ++i) {
    const PastFinding& past = kCorpus[i];
    if (options.corpus != "all" && options.corpus != past.name) continue;
    known = true;
    std::fflush(stdout);
    const pid_t worker = fork();
    if (worker == 0) {
      shared->progress.step = past.name;
      set_up();
      Arena arena;
      const std::string complaint = past.check(&arena, options.device);
      if (!complaint.empty()) std::fprintf(stderr, "%s: %s\n", past.name, complaint.c_str());
      std::fflush(stderr);
      _exit(complaint.empty() ? 0 : 1);
    }
    int status = 0;
    waitpid(worker, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) return 2;
    ++shared->progress.findings;
    std::fprintf(stderr, "FINDING again: %s\n  reproduce: fuzz --corpus %s%s%s%s\n", past.name,
                 past.name, options.device == kDLCPU ? "" : " --device cuda",
                 options.isa.empty() ? "" : " --isa ", options.isa.c_str());
  }
  if (!known) refuse("--corpus is " + options.corpus + ", which is no past finding");
  return 0;
}

int supervise() {
  const double start = now();
  const double deadline = start + options.seconds;
  double next_line = start + 30;
  uint64_t first = options.first;
  for (;;) {
    std::fflush(stdout);
    const pid_t worker = fork();
    if (worker < 0) {
      std::perror("fuzz: cannot start a worker");
      return 2;
    }
    if (worker == 0) work(first, deadline);
    const int status = wait_for(worker, start, &next_line);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) return 2;
    ++shared->progress.findings;
    const uint64_t at = shared->progress.iteration;
    const int op = shared->progress.op;
    describe_reproduction(at, op);
    std::fprintf(stderr, "FINDING %s %s in %s\n  reproduce: %s\n", name_of(op),
                 status == -1 ? "hangs" : "kills the process", shared->progress.step, reproduction);
    first = at + 1;
  }
  print_progress(now() - start);
  print_summary();
  return shared->progress.findings == 0 ? 0 : 1;
}

// ---- descriptions -------------------------------------------------------------------------------

#define EXN_NAME_OF_OP(op, Args) "exn_" #op,

// Every byte of every params struct must belong to a described field, in one case or another.
int check_fields() {
  Arena arena;
  static Maker maker(&arena, kDLCPU);
  int missing = 0;
  for (const char* name : {EXN_FOR_EACH_OP(EXN_NAME_OF_OP)}) {
    const std::vector<OpUnderTest>& all = ops_under_test();
    if (std::any_of(all.begin(), all.end(),
                    [&](const auto& op) { return std::strcmp(op.name, name) == 0; }))
      continue;
    std::printf("%s: no description in its folder\n", name);
    ++missing;
  }
  for (const OpUnderTest& op : ops_under_test()) {
    std::string known(op.params_bytes, 0);
    known.replace(0, sizeof(uint64_t), sizeof(uint64_t), 1);  // struct_size
    for (uint64_t i = 0; i < 200; ++i) {
      Random random(1, i);
      char* params = static_cast<char*>(maker.begin(&random, known.size()));
      op.describe(maker, params);
      const auto mark = [&](const void* place, size_t bytes) {
        const size_t at = static_cast<size_t>(static_cast<const char*>(place) - params);
        if (at < known.size()) known.replace(at, bytes, bytes, 1);
      };
      for (int f = 0; f < maker.field_count(); ++f) mark(maker.fields()[f].place, sizeof(void*));
      for (int s = 0; s < maker.scalar_count(); ++s) {
        const ScalarField& field = maker.scalars()[s];
        const auto kind = field.kind;
        mark(field.place, kind == ScalarField::kInt32 || kind == ScalarField::kFloat ? 4 : 8);
      }
    }
    const size_t at = known.find('\0');
    if (at == std::string::npos) continue;
    std::printf("%s: no description of the field %zu bytes after the begin of its params\n",
                op.name, at);
    ++missing;
  }
  if (missing == 0) std::printf("%d ops, every field of their params described\n", op_count());
  return missing == 0 ? 0 : 1;
}

uint64_t number(const std::string& name, const std::string& text) {
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || text[0] == '-' || *end != 0)
    refuse(name + " is " + text + ", expected a number");
  return value;
}

void parse(int argc, char** argv) {
  bool bounded = false;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) refuse(name + " needs a value");
      return argv[++i];
    };
    if (name == "--help") {
      std::printf("%s", kUsage);
      std::exit(0);
    } else if (name == "--seed") {
      options.seed = number(name, value());
    } else if (name == "--first") {
      options.first = number(name, value());
    } else if (name == "--cases") {
      options.cases = number(name, value());
      bounded = true;
    } else if (name == "--calls") {
      options.calls = number(name, value());
      bounded = true;
    } else if (name == "--run-every") {
      options.run_every = number(name, value());
      if (options.run_every < 1) refuse(name + " is 0, expected at least 1");
    } else if (name == "--minutes" || name == "--seconds") {
      options.seconds = static_cast<double>(number(name, value())) * (name == "--minutes" ? 60 : 1);
    } else if (name == "--op") {
      options.op = value();
      if (op_of(0) < 0) refuse("--op is " + options.op + ", which is no op");
    } else if (name == "--isa") {
      options.isa = value();
    } else if (name == "--device") {
      const std::string device = value();
      if (device != "cpu" && device != "cuda")
        refuse("--device is " + device + ", expected cpu or cuda");
      options.device = device == "cuda" ? kDLCUDA : kDLCPU;
    } else if (name == "--corpus") {
      options.corpus = value();
      options.corpus_alone = true;
    } else if (name == "--list") {
      std::printf("%s\n", exn_cpu_isas());
      std::exit(0);
    } else if (name == "--fields") {
      options.fields = true;
    } else {
      refuse("unknown option " + name);
    }
  }
  if (options.seconds == 0) options.seconds = bounded ? 1e9 : 10;
}

}  // namespace
}  // namespace exn::fuzz

int main(int argc, char** argv) {
  using namespace exn::fuzz;
  parse(argc, argv);
  if (options.fields) return check_fields();
  static_assert(sizeof(Shared) <= 1 << 16);
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 2;
  shared = new (memory) Shared{};
  const int past = run_corpus();
  if (past != 0) return past;
  if (options.corpus_alone) {
    std::printf("%d past findings, %llu again\n", kCorpusSize,
                static_cast<unsigned long long>(shared->progress.findings));
    return shared->progress.findings == 0 ? 0 : 1;
  }
  return supervise();
}
