// SPDX-License-Identifier: Apache-2.0
#include "counts.h"

#include <dlfcn.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <numeric>
#include <set>
#include <sstream>
#include <stdexcept>

#include "../simt/include/simt/control.h"
#include "sass.h"

namespace exn::gpu {
namespace {

// An H100 SXM.
constexpr int kMultiprocessors = 132;
constexpr int kThreads = 2048;
constexpr int kBlocks = 32;
constexpr int kRegistersOfQuarter = 16384;
constexpr int kRegisterUnit = 256;  // in which a warp gets them
constexpr int64_t kShared = 228 << 10;
constexpr int64_t kSharedOfSystem = 1024;  // of each block
constexpr int64_t kSharedUnit = 128;
constexpr const char* kSettings[][2] = {
    {"SMS", "132"}, {"L2", "52428800"}, {"MEMORY", "68719476736"}};

// Blocks of a launch are run until they have taken so many instructions.
constexpr double kEnoughInstructions = 2e5;

// ---- budgets ------------------------------------------------------------------------------------

// What is asked of every kernel, and of some less, for a reason that the page gives. The first that
// fits counts. The page pins each figure; a budget says how far a change may move it.
struct Budget {
  const char* op;
  const char* id;       // with fnmatch's stars
  double instructions;  // of warps, for each KiB of compulsory bytes, at most
  double requested;     // bytes, by the compulsory ones, at most
  double sectors;       // their bytes, by the same, at most
  double wavefronts;    // by the least, at most
  double in_flight;     // KiB on an SM, at least
  const char* why;
};
constexpr double kInstructions = 170, kRequested = 1.05, kSectors = 1.05, kWavefronts = 1.10,
                 kInFlight = 32;
constexpr const char* kHeads =
    "16 fused multiply-adds a KiB for each query head of a KV head, without tensor cores; the rest "
    "turns bf16 into f32, adds up what threads have of a score, and weighs";
constexpr const char* kShortParts =
    "as below; and the few slots are cut into parts, each of which reads the queries and leaves sums";
constexpr const char* kRows =
    "each block of outputs reads all rows (`tests/gpu/traffic.cpp`) and parts those of f32 into three "
    "bf16; where outputs are few, the sums of parts of the depth weigh more";
constexpr const char* kPropagation =
    "as of other products, but a layer has few outputs for its rows, which each block normalises, and "
    "which are read once more for their moments (`tests/gpu/traffic.cpp`); each 32 rows read weights";
constexpr const char* kWindow =
    "each key meets the window's rows of all query heads: 16 fused multiply-adds a KiB for each, "
    "without tensor cores; each tile of keys reads all queries, and there are half as many tiles as "
    "SMs";
constexpr const char* kSecondReading =
    "a row is longer than what a block holds: it is read twice, and powers are taken twice; of few "
    "rows an SM has one block";
constexpr const char* kStatistics =
    "all statistics of each element; a row's last tile is shorter, and of few rows an SM has one block";
constexpr const char* kCoefficients =
    "coefficients in f32 weigh as much as a row in and out, and a thread reads 32 bytes of them in "
    "two halves; of 64 rows an SM has one block";
constexpr const char* kFewBlocks =
    "an SM has one block, and all that it reads is on its way; the turns of a row are shared by few "
    "elements if its heads are narrow; of 80 in bf16 every other half begins within a sector";
constexpr const char* kDigits =
    "the digits of what a block holds are counted again and again in shared memory; each thread "
    "writes the indices that it has found, 4 bytes at a time";
constexpr const char* kTeams = "as above; and blocks exchange counts through global memory";
constexpr const char* kBlocksOfWeights =
    "more weights in a KiB, whose integers are unpacked and scaled; each block of 64 outputs reads x, "
    "and rounds it; a row's stage of some formats begins and ends within a sector";
constexpr Budget kBudgets[] = {
    {"attention", "8b_1x?x4096", 505, 1.21, 1.20, kWavefronts, kInFlight, kShortParts},
    {"attention", "8b_*x4x*", 295, kRequested, kSectors, kWavefronts, kInFlight, kHeads},
    {"attention", "8b_*x8x*", 405, kRequested, kSectors, kWavefronts, kInFlight, kHeads},
    {"attention_scores", "8b_8x*", 1820, 1.54, 1.59, kWavefronts, 20, kWindow},
    {"attention_scores", "8b_32x*", 5470, 2.66, 2.86, kWavefronts, 20, kWindow},
    {"cross_entropy", "8b_*", 305, 1.53, 1.55, kWavefronts, kInFlight, kSecondReading},
    {"stablemax", "8b_*", 290, 1.53, 1.55, kWavefronts, 8, kSecondReading},
    {"row_stats", "8b_*", 252, kRequested, kSectors, kWavefronts, 16, kStatistics},
    {"kv_propagate", "8b_1x*", kInstructions, 1.19, 1.19, kWavefronts, kInFlight, kPropagation},
    {"kv_propagate", "8b_8x*", 265, 2.25, 2.25, kWavefronts, kInFlight, kPropagation},
    {"kv_propagate", "8b_16x*", 415, 3.41, 3.41, kWavefronts, kInFlight, kPropagation},
    {"kv_propagate", "8b_64x*", 1400, 11.53, 11.53, 1.13, kInFlight, kPropagation},
    {"select", "8b_*x4096x*", 1260, kRequested, 2.37, kWavefronts, kInFlight, kDigits},
    {"select", "8b_*", 2320, 1.34, 2.78, kWavefronts, 16, kTeams},
    {"linear", "8b_q*_1x*", 300, 1.16, 1.52, 1.22, kInFlight, kBlocksOfWeights},
    {"linear", "8b_q*_8x*", 377, 1.95, 2.30, 1.18, kInFlight, kBlocksOfWeights},
    {"*", "8b*_8x4096x*", 125, 1.22, 1.23, kWavefronts, kInFlight, kRows},
    {"*", "8b*_16x4096x*", 150, 1.65, 1.67, kWavefronts, kInFlight, kRows},
    {"*", "8b*_64x4096x*", 325, 3.42, 3.44, kWavefronts, kInFlight, kRows},
    {"norm", "8b_*", kInstructions, 2.01, 3.01, kWavefronts, 8, kCoefficients},
    {"rope", "8b*_64x*", 181, kRequested, 1.25, kWavefronts, 5, kFewBlocks},
    {"*", "*", kInstructions, kRequested, kSectors, kWavefronts, kInFlight, nullptr},
};

const Budget& budget_of(const Work& work) {
  return *std::find_if(std::begin(kBudgets), std::end(kBudgets), [&](const Budget& budget) {
    return fnmatch(budget.op, work.op.c_str(), 0) == 0 &&
           fnmatch(budget.id, work.id.c_str(), 0) == 0;
  });
}

// ---- the device that takes launches -------------------------------------------------------------

// Values that are made when they are read, a page at a time.
struct Unmade {
  static constexpr uint64_t kPage = 4096;

  uint64_t begin = 0, end = 0;
  Type type = Type::kF32;
  uint64_t seed = 0, stream = 0;
  float scale = 1;
  std::vector<bool> made;

  void make(uint64_t address, size_t bytes) {
    for (uint64_t page = (address - begin) / kPage; page <= (address + bytes - 1 - begin) / kPage;
         ++page) {
      if (made[page]) continue;
      made[page] = true;
      const auto size = static_cast<uint64_t>(size_of(type));
      const uint64_t last = std::min(end, begin + (page + 1) * kPage);
      for (uint64_t at = begin + page * kPage; at < last; at += size) {
        store(reinterpret_cast<unsigned char*>(at), type,
              static_cast<double>(bell(word(seed, stream, (at - begin) / size)) * scale));
      }
    }
  }
};

struct Counted {
  std::string kernel;
  int64_t blocks = 0;
  int resident = 0;   // blocks on an SM, as its registers and shared memory allow
  SassCounts counts;  // of the launch; in_flight of a block
};

class Device {
 public:
  void open(const CountOptions& options);
  void begin() { unmade_.clear(), launches.clear(); }
  void expect(uint64_t begin, Unmade unmade) { unmade_[begin] = std::move(unmade); }
  // The machine code of all kernels that were launched.
  void read_code();

  void launch(const simt_launch& l);
  int blocks(const void* kernel, int threads, int64_t dynamic) const;

  bool is_rehearsal = true;  // launches are noted, not run
  bool runs_all = false;     // blocks of a launch
  std::vector<Counted> launches;
  std::string error;

 private:
  std::string name_of_kernel(const void* kernel) const;
  void touch(uint64_t address, size_t bytes);

  CountOptions options_;
  const char* base_ = nullptr;  // of the emulator in memory
  std::map<uint64_t, std::string> symbols_;
  std::set<std::string> launched_;
  std::map<std::string, SassKernel> code_;
  std::map<uint64_t, Unmade> unmade_;
};

Device& device() {
  static Device instance;
  return instance;
}

void Device::open(const CountOptions& options) {
  options_ = options;
  void* library = dlopen(options.backend.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail(dlerror());
  const auto use = reinterpret_cast<decltype(&simt_use_device)>(dlsym(library, "simt_use_device"));
  const auto set = reinterpret_cast<decltype(&simt_configure)>(dlsym(library, "simt_configure"));
  Dl_info info;
  if (use == nullptr || set == nullptr || dladdr(reinterpret_cast<void*>(use), &info) == 0)
    fail(options.backend + " is not the emulator");
  base_ = static_cast<const char*>(info.dli_fbase);
  for (const auto& setting : kSettings) {
    if (set(setting[0], setting[1]) != 0) fail(std::string("no setting ") + setting[0]);
  }
  simt_device as_device = {};
  as_device.context = this;
  as_device.launch = [](void* self, const simt_launch* l) {
    static_cast<Device*>(self)->launch(*l);
  };
  as_device.blocks = [](void* self, const void* kernel, int threads, uint64_t dynamic) {
    return static_cast<Device*>(self)->blocks(kernel, threads, static_cast<int64_t>(dynamic));
  };
  use(&as_device);
  code_ = read_kernels(options.cuobjdump, options.library);
  FILE* names = popen(("nm --defined-only '" + options.backend + "'").c_str(), "r");
  if (names == nullptr) fail("cannot run nm");
  char line[4096];
  while (std::fgets(line, sizeof line, names) != nullptr) {
    std::istringstream words(line);
    std::string address, kind, name;
    if (words >> address >> kind >> name) symbols_[std::stoull(address, nullptr, 16)] = name;
  }
  if (pclose(names) != 0) fail("nm failed");
}

// As nvcc mangles it, which makes every kernel a symbol of its own: g++ marks the static ones.
std::string Device::name_of_kernel(const void* kernel) const {
  const auto found = symbols_.find(static_cast<uint64_t>(static_cast<const char*>(kernel) - base_));
  if (found == symbols_.end()) return "";
  std::string name = found->second;
  const std::string scope = "_ZN3exn4cuda";
  if (name.rfind(scope + "L", 0) == 0) name.erase(scope.size(), 1);
  return name;
}

void Device::read_code() {
  exn::gpu::read_code(options_.cuobjdump, options_.library, {launched_.begin(), launched_.end()},
                      &code_);
  is_rehearsal = false;
}

int Device::blocks(const void* kernel, int threads, int64_t dynamic) const {
  const auto found = code_.find(name_of_kernel(kernel));
  if (found == code_.end()) fail("no machine code of " + name_of_kernel(kernel));
  const int warps = (threads + 31) / 32;
  const int of_warp =
      (found->second.registers * 32 + kRegisterUnit - 1) / kRegisterUnit * kRegisterUnit;
  const int64_t shared =
      (found->second.static_shared + dynamic + kSharedOfSystem + kSharedUnit - 1) / kSharedUnit *
      kSharedUnit;
  return static_cast<int>(
      std::min({int64_t{kBlocks}, int64_t{kThreads / (warps * 32)},
                int64_t{4 * (kRegistersOfQuarter / of_warp) / warps}, kShared / shared}));
}

void Device::touch(uint64_t address, size_t bytes) {
  const auto after = unmade_.upper_bound(address + bytes - 1);
  if (after == unmade_.begin()) return;
  Unmade& range = std::prev(after)->second;
  const uint64_t begin = std::max(address, range.begin), end = std::min(address + bytes, range.end);
  if (begin < end) range.make(begin, end - begin);
}

// All blocks, such that however many are taken from the front lie evenly among them.
std::vector<int64_t> scattered(int64_t blocks) {
  int64_t step = std::max<int64_t>(1, std::llround(0.618 * static_cast<double>(blocks)));
  while (std::gcd(step, blocks) != 1) ++step;
  std::vector<int64_t> order;
  for (int64_t i = 0; i < blocks; ++i) order.push_back((i * step + blocks / 2) % blocks);
  return order;
}

void Device::launch(const simt_launch& l) {
  const std::string name = name_of_kernel(l.kernel);
  launched_.insert(name);
  if (is_rehearsal || !error.empty()) return;
  try {
    const auto code = code_.find(name);
    if (code == code_.end() || code->second.code.empty()) fail("no machine code of " + name);
    SassLaunch launch;
    std::copy(l.grid, l.grid + 3, launch.grid.begin());
    std::copy(l.block, l.block + 3, launch.block.begin());
    launch.dynamic_shared = static_cast<int64_t>(l.dynamic_shared);
    launch.arguments.assign(l.arguments, l.arguments + l.argument_bytes);
    Counted counted;
    counted.kernel = name;
    counted.blocks = launch.blocks();
    counted.resident = blocks(l.kernel, launch.threads(), launch.dynamic_shared);
    const Touch touches = [this](uint64_t address, size_t bytes) { touch(address, bytes); };
    const std::vector<int64_t> order = scattered(counted.blocks);
    SassCounts sum;
    double run = 0;
    if (runs_all || code->second.waits_for_blocks) {
      sum = run_blocks(code->second, launch, order, touches);
      run = static_cast<double>(counted.blocks);
    } else {
      for (const int64_t block : order) {
        if (sum.instructions > kEnoughInstructions) break;
        sum.add(run_blocks(code->second, launch, {block}, touches), 1);
        ++run;
      }
    }
    counted.counts.add(sum, static_cast<double>(counted.blocks) / run);
    counted.counts.in_flight = sum.in_flight / run;
    launches.push_back(counted);
  } catch (const std::exception& e) {
    error = e.what();
  }
}

int expect_values(void* data, int dtype, int64_t count, uint64_t seed, uint64_t stream, float scale,
                  void*) {
  Unmade unmade;
  unmade.type = dtype == EXEUNT_PROBE_F16    ? Type::kF16
                : dtype == EXEUNT_PROBE_BF16 ? Type::kBF16
                                             : Type::kF32;
  unmade.begin = reinterpret_cast<uint64_t>(data);
  unmade.end = unmade.begin + static_cast<uint64_t>(count * size_of(unmade.type));
  unmade.seed = seed;
  unmade.stream = stream;
  unmade.scale = scale;
  unmade.made.assign((unmade.end - unmade.begin) / Unmade::kPage + 1, false);
  device().expect(unmade.begin, std::move(unmade));
  return 0;
}

// ---- the page -----------------------------------------------------------------------------------

struct Row {
  const ModelWork* work = nullptr;
  std::string kernel;  // that takes most of the instructions
  size_t launches = 0;
  double blocks = 0, resident = 0, waves = 0;
  double instructions = 0, requested = 0, sectors = 0, wavefronts = 1, in_flight = 0;
};

// "linear_kernel" of its mangled name.
std::string short_name(const std::string& mangled) {
  size_t at = mangled.rfind("_ZN", 0) == 0 ? 3 : 2;
  std::string last;
  while (at < mangled.size() && mangled[at] >= '0' && mangled[at] <= '9') {
    const size_t size = std::strtoull(mangled.c_str() + at, nullptr, 10);
    while (mangled[at] >= '0' && mangled[at] <= '9') ++at;
    last = mangled.substr(at, size);
    at += size;
  }
  return last;
}

Row row_of(const ModelWork& work, const std::vector<Counted>& launches) {
  Row row;
  row.work = &work;
  row.launches = launches.size();
  SassCounts sum;
  const Counted* most = nullptr;
  for (const Counted& launch : launches) {
    sum.add(launch.counts, 1);
    if (most == nullptr || launch.counts.instructions > most->counts.instructions) most = &launch;
  }
  if (most == nullptr) fail(work.op + " " + work.id + ": no launch");
  row.kernel = short_name(most->kernel);
  row.blocks = static_cast<double>(most->blocks);
  row.resident = most->resident;
  row.waves = row.blocks / (kMultiprocessors * row.resident);
  row.instructions = sum.instructions / (work.compulsory_bytes / 1024);
  row.requested = sum.requested / work.compulsory_bytes;
  row.sectors = 32 * sum.sectors / work.compulsory_bytes;
  if (sum.least_wavefronts > 0) row.wavefronts = sum.wavefronts / sum.least_wavefronts;
  const double here = std::min(row.resident, std::ceil(row.blocks / kMultiprocessors));
  row.in_flight = most->counts.in_flight * here / 1024;
  return row;
}

std::string formatted(int digits, double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// A figure, and its budget if that is not everybody's.
struct Cell {
  const char* name;
  int digits;
  double value, budget, usual;
  bool is_least = false;

  bool is_exceeded() const {
    // As the page has it, so that one machine does not fail where another passes.
    const double shown = std::strtod(formatted(digits, value).c_str(), nullptr);
    return is_least ? shown < budget : shown > budget;
  }
  std::string text() const {
    return formatted(digits, value) + (budget == usual ? "" : " of " + formatted(digits, budget));
  }
};

std::vector<Cell> cells_of(const Row& row) {
  const Budget& budget = budget_of(*row.work);
  return {{"warp instructions a KiB", 0, row.instructions, budget.instructions, kInstructions},
          {"requested", 2, row.requested, budget.requested, kRequested},
          {"sectors", 2, row.sectors, budget.sectors, kSectors},
          {"wavefronts", 2, row.wavefronts, budget.wavefronts, kWavefronts},
          {"KiB in flight", 0, row.in_flight, budget.in_flight, kInFlight, true}};
}

std::string text_of(const Row& row) {
  std::string text = "| " + row.work->op + " | " + row.work->id + " | " + row.kernel;
  if (row.launches > 1) text += " + " + std::to_string(row.launches - 1);
  text += " | " + formatted(0, row.blocks) + " | " + formatted(0, row.resident) + " | " +
          formatted(2, row.waves);
  for (const Cell& cell : cells_of(row)) text += " | " + cell.text();
  return text + " |\n";
}

// They wait for weights: two blocks for each SM, at least.
bool is_product(const std::string& op) {
  return op == "exit_head" || op == "ffn" || op == "kv_propagate" || op == "linear";
}

std::string faults_of(const Row& row) {
  std::string faults;
  if (is_product(row.work->op) && row.blocks < 2 * kMultiprocessors) {
    faults += row.work->op + " " + row.work->id + ": fewer than two blocks for each SM\n";
  }
  for (const Cell& cell : cells_of(row)) {
    if (!cell.is_exceeded()) continue;
    faults += row.work->op + " " + row.work->id + ": " + formatted(cell.digits, cell.value) + " " +
              cell.name + ", budget " + formatted(cell.digits, cell.budget) + "\n";
  }
  return faults;
}

constexpr const char* kHead = R"(<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by tests/gpu/counts.cpp; `cmake --build build/native --target cuda_counts` does so again. -->
# What the CUDA kernels do, counted

No card has timed this. The launchers of this tree ask for launches at the shapes of a model of 8
billion parameters; some blocks of each, scattered evenly (all of them where they are few), are run
by an interpreter of the machine code for sm_90 (`tests/gpu/sass.h`), which also has to come to the
oracles' results at smaller shapes (`cuda.machine_code`). Where blocks merge what others left, the
last one's share is missing as far as not all are run. What must move is what the op's header calls
compulsory; several launches are added up.

| column | | budget |
| --- | --- | --- |
| shape | rows, then what the op is about, as in `tests/gpu/model.cpp` | |
| kernel | that takes most of the instructions, and how many launches there are besides | |
| blocks, on an SM, waves | of that kernel, on 132 SMs of an H100; as registers and shared memory allow | of products with weights 264 blocks, at least |
| instructions | of warps, for each KiB that must move; memory brings one in the time of 283 | 170 |
| requested | bytes of global memory that threads ask for, by those that must move | 1.05 |
| sectors | of 32 bytes, distinct in each instruction of a warp, by the same | 1.05 |
| wavefronts | of shared memory, by the least for the same accesses | 1.10 |
| in flight | KiB on their way from memory on an SM, at most, while all of its places are taken | 32, at least |

"280 of 290": the budget of this line is 290, for a reason that is given below. The test `cuda.counts`
fails where a figure is not that of this page, or exceeds its budget.

)";

std::string page_of(const std::vector<Row>& rows, const std::string& compiler) {
  std::string page = kHead;
  page += "Compiled by nvcc " + compiler + "; with another one the budgets alone are compared.\n\n";
  page +=
      "| op | shape | kernel | blocks | on an SM | waves | instructions | requested | sectors | "
      "wavefronts | in flight |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- "
      "|\n";
  for (const Row& row : rows) page += text_of(row);
  page += "\n## Why some have other budgets\n\n";
  const char* why = nullptr;
  for (const Budget& budget : kBudgets) {
    if (budget.why == nullptr) continue;
    if (why != nullptr) page += why == budget.why ? ", " : std::string(": ") + why + "\n";
    if (why != budget.why) page += "* ";
    page +=
        (budget.op == std::string("*") ? "" : budget.op + std::string(" ")) + "`" + budget.id + "`";
    why = budget.why;
  }
  if (why != nullptr) page += std::string(": ") + why + "\n";
  return page;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

void take_launches(const CountOptions& options) {
  device().open(options);
  make_inputs_with(expect_values);
}

bool check_machine_code(const std::vector<ModelWork>& works) {
  bool sound = true;
  device().runs_all = true;
  for (const bool rehearses : {true, false}) {
    if (!rehearses) device().read_code();
    for (const ModelWork& work : works) {
      device().begin();
      const Complaint complaint = work.check();
      if (!device().error.empty()) fail(work.op + " " + work.id + ": " + device().error);
      if (rehearses) continue;
      std::printf("%s %s: %s\n", work.op.c_str(), work.id.c_str(),
                  complaint.empty() ? "sound" : complaint.c_str());
      sound &= complaint.empty();
    }
  }
  return sound;
}

bool count_kernels(const std::vector<ModelWork>& works, const CountOptions& options) {
  const auto run = [](const ModelWork& work) {
    device().begin();
    work.make()->run(nullptr);
    if (!device().error.empty()) fail(work.op + " " + work.id + ": " + device().error);
  };
  for (const ModelWork& work : works) run(work);
  device().read_code();
  std::vector<Row> rows;
  std::string faults;
  for (const ModelWork& work : works) {
    run(work);
    rows.push_back(row_of(work, device().launches));
    faults += faults_of(rows.back());
    std::printf("%s", text_of(rows.back()).c_str());
    std::fflush(stdout);
  }
  for (const Budget& budget : kBudgets) {
    const bool is_used = std::any_of(
        rows.begin(), rows.end(), [&](const Row& row) { return &budget_of(*row.work) == &budget; });
    if (!is_used && !options.is_part) {
      faults += std::string("no shape has the budget of ") + budget.op + " " + budget.id + "\n";
    }
  }
  const std::string page = page_of(rows, options.compiler), before = read_file(options.page);
  if (options.is_part) {
    std::printf("a part of the ops: budgets alone are compared\n");
  } else if (options.update) {
    std::ofstream(options.page) << page;
  } else if (!before.empty() &&
             before.find("by nvcc " + options.compiler + ";") == std::string::npos) {
    std::printf("%s is about another compiler: budgets alone are compared\n", options.page.c_str());
  } else if (page != before) {
    std::istringstream now(page);
    for (std::string line; std::getline(now, line);) {
      if (before.find(line + "\n") == std::string::npos)
        faults += options.page + " does not say: " + line + "\n";
    }
    faults += options.page + " is stale: the target cuda_counts makes it again\n";
  }
  std::printf("%s", faults.c_str());
  return faults.empty();
}

}  // namespace exn::gpu
