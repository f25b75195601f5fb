// SPDX-License-Identifier: Apache-2.0
//
// Checks and times the CUDA backend over the case tables; tests/gpu/run is its usual caller.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>

#include "bench.h"
#include "check.h"
#include "traffic.h"

namespace exn::gpu {
namespace {

constexpr const char* kUsage =
    "usage: exeunt_gpu_check --backend FILE --cuda-runtime FILE [option...]\n"
    "  --json FILE      write the results there\n"
    "  --ops A,B        only these ops\n"
    "  --small          only cases tagged small\n"
    "  --big            also cases tagged big\n"
    "  --every N        only every Nth case of an op\n"
    "  --once           run a case once on CUDA, not from a graph and on two streams besides\n"
    "  --no-check       leave out the checks\n"
    "  --no-bench       leave out the timings\n"
    "  --traffic        instead of all that, count the bytes that realistic cases move and fail\n"
    "                   if one moves too many; with the race build of the emulator only\n"
    "  --dry-bench      time one small case per op once: exercises the code, says nothing about "
    "speed\n";

struct Options {
  std::string backend;
  std::string cuda_runtime;
  std::string json;
  std::set<std::string> ops;
  bool small = false;
  bool big = false;
  int every = 1;
  bool once = false;
  bool check = true;
  bool bench = true;
  bool dry_bench = false;
  bool traffic = false;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw std::runtime_error(name + " needs a value\n" + kUsage);
      return argv[++i];
    };
    if (name == "--backend") {
      options.backend = value();
    } else if (name == "--cuda-runtime") {
      options.cuda_runtime = value();
    } else if (name == "--json") {
      options.json = value();
    } else if (name == "--ops") {
      std::stringstream list(value());
      for (std::string op; std::getline(list, op, ',');) options.ops.insert(op);
    } else if (name == "--small") {
      options.small = true;
    } else if (name == "--big") {
      options.big = true;
    } else if (name == "--every") {
      options.every = std::max(1, std::atoi(value().c_str()));
    } else if (name == "--once") {
      options.once = true;
    } else if (name == "--no-check") {
      options.check = false;
    } else if (name == "--no-bench") {
      options.bench = false;
    } else if (name == "--traffic") {
      options.traffic = true;
    } else if (name == "--dry-bench") {
      options.dry_bench = true;
    } else {
      throw std::runtime_error("unknown option " + name + "\n" + kUsage);
    }
  }
  if (options.backend.empty() || options.cuda_runtime.empty()) {
    throw std::runtime_error(kUsage);
  }
  return options;
}

std::vector<CheckResult> check_all(const std::vector<ListedCase>& cases, const Options& options) {
  std::vector<CheckResult> results;
  int index = 0;
  for (const ListedCase& c : cases) {
    if (results.empty() || results.back().op != c.op) {
      results.emplace_back();
      results.back().op = c.op;
      index = 0;
    }
    const bool wanted = (c.base.small || !options.small) && (!c.base.big || options.big);
    if (!wanted || index++ % options.every != 0) continue;
    const size_t failures_before = results.back().failures.size();
    check(c.make(), options.once, &results.back());
    for (size_t i = failures_before; i < results.back().failures.size(); ++i) {
      std::printf("FAILED %s\n", results.back().failures[i].c_str());
    }
    std::fflush(stdout);
  }
  for (const CheckResult& result : results) {
    std::printf("%-14s %4d cases, %zu failures, %d with the bits of the CPU\n", result.op.c_str(),
                result.cases, result.failures.size(), result.same_bits_as_cpu);
    if (result.most_traffic > 0) {
      std::printf("%-14s moves at most %.2f times the compulsory bytes (%s)\n", "",
                  result.most_traffic, result.most_traffic_case.c_str());
    }
  }
  return results;
}

// Those tagged bench, or, dry, the first small one of each op that must move something.
std::vector<Case> cases_to_time(const std::vector<ListedCase>& cases, bool dry) {
  std::vector<Case> chosen;
  std::set<std::string> have;
  for (const ListedCase& listed : cases) {
    const CaseBase& base = listed.base;
    if (dry ? !base.small || have.count(listed.op) != 0 : !base.bench || base.timed) continue;
    Case c = listed.make();
    if (dry && c.compulsory_bytes == 0) continue;
    have.insert(c.op);
    chosen.push_back(std::move(c));
  }
  return chosen;
}

std::vector<BenchResult> time_all(const std::vector<ListedCase>& cases, const Options& options,
                                  double* copy_bytes_per_second) {
  BenchOptions bench;
  if (options.dry_bench) bench = {1, size_t{1} << 16};
  *copy_bytes_per_second = copy_bandwidth(bench);
  std::printf("copy: %.1f GB/s read and written\n", *copy_bytes_per_second * 1e-9);
  std::vector<BenchResult> results;
  for (const Case& c : cases_to_time(cases, options.dry_bench)) {
    results.push_back(measure(c, bench));
    const double rate = c.compulsory_bytes / (results.back().median_us * 1e-6);
    std::printf("%-14s %-34s %9.2f us  %8.1f GB/s  %5.1f %% of copy\n", c.op.c_str(),
                c.base.id.c_str(), results.back().median_us, rate * 1e-9,
                100 * rate / *copy_bytes_per_second);
    std::fflush(stdout);
  }
  return results;
}

int count_traffic(const std::vector<ListedCase>& cases, const Options& options) {
  follow_traffic();
  std::vector<TrafficResult> results;
  std::set<std::string> missing;
  for (const ListedCase& c : cases) {
    if (!c.composed) missing.insert(c.op);
  }
  for (const ListedCase& listed : cases) {
    if (listed.base.big && !options.big) continue;
    const Case c = listed.make();
    if (!is_realistic(c)) continue;
    results.push_back(measure_traffic(c));
    missing.erase(c.op);
  }
  print_traffic(results);
  for (const std::string& op : missing) std::printf("%s: no realistic case\n", op.c_str());
  const auto is_wasteful = [](const TrafficResult& result) { return result.is_wasteful(); };
  return missing.empty() && std::none_of(results.begin(), results.end(), is_wasteful) ? 0 : 1;
}

// ---- JSON ---------------------------------------------------------------------------------------

std::string escaped(const std::string& text) {
  std::string out;
  for (const char ch : text) {
    if (ch == '"' || ch == '\\') out += '\\';
    out += static_cast<unsigned char>(ch) < 0x20 ? ' ' : ch;
  }
  return out;
}

void write_checks(FILE* file, const std::vector<CheckResult>& checks) {
  std::fprintf(file, "  \"checks\": [");
  for (size_t i = 0; i < checks.size(); ++i) {
    const CheckResult& c = checks[i];
    std::fprintf(
        file, "%s\n    {\"op\": \"%s\", \"cases\": %d, \"same_bits_as_cpu\": %d, \"failures\": [",
        i == 0 ? "" : ",", c.op.c_str(), c.cases, c.same_bits_as_cpu);
    for (size_t f = 0; f < c.failures.size(); ++f) {
      std::fprintf(file, "%s\"%s\"", f == 0 ? "" : ", ", escaped(c.failures[f]).c_str());
    }
    std::fprintf(file, "]}");
  }
  std::fprintf(file, "\n  ],\n");
}

void write_timings(FILE* file, const std::vector<BenchResult>& timings) {
  std::fprintf(file, "  \"timings\": [");
  for (size_t i = 0; i < timings.size(); ++i) {
    const BenchResult& t = timings[i];
    std::fprintf(
        file, "%s\n    {\"op\": \"%s\", \"case\": \"%s\", \"bytes\": %.0f, \"median_us\": %.4f, ",
        i == 0 ? "" : ",", t.measured.op.c_str(), t.measured.base.id.c_str(),
        t.measured.compulsory_bytes, t.median_us);
    std::fprintf(file, "\"best_us\": %.4f, \"rotation\": %d, \"exceeds_cache\": %s, \"shape\": {",
                 t.best_us, t.rotation, t.exceeds_cache ? "true" : "false");
    const char* separator = "";
    for (const auto& entry : t.measured.description) {
      std::fprintf(file, "%s\"%s\": %s", separator, entry.first.c_str(), entry.second.c_str());
      separator = ", ";
    }
    std::fprintf(file, "}}");
  }
  std::fprintf(file, "\n  ]\n");
}

void write_json(const std::string& path, const std::vector<CheckResult>& checks,
                const std::vector<BenchResult>& timings, double copy_bytes_per_second) {
  FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) throw std::runtime_error("cannot write " + path);
  std::fprintf(file, "{\n  \"version\": \"%s\",\n", exn_version());
  std::fprintf(file, "  \"backend\": \"%s\",\n",
               escaped(exn_backend_name(EXN_BACKEND_CUDA)).c_str());
  std::fprintf(file, "  \"copy_bytes_per_second\": %.0f,\n", copy_bytes_per_second);
  write_checks(file, checks);
  write_timings(file, timings);
  std::fprintf(file, "}\n");
  std::fclose(file);
}

int run(const Options& options) {
  require(exn_cuda_open(options.backend.c_str()), "opening the CUDA backend");
  open_cuda_runtime(options.cuda_runtime);
  std::printf("%s\n", exn_backend_name(EXN_BACKEND_CUDA));
  std::vector<ListedCase> cases;
  for (const std::string& op : ops()) {
    if (!options.ops.empty() && options.ops.count(op) == 0) continue;
    for (ListedCase& c : cases_of(op)) {
      if (c.host_only) {
        std::printf("left to the CPU: %s %s\n", c.op.c_str(), c.base.id.c_str());
      } else {
        cases.push_back(std::move(c));
      }
    }
  }
  if (options.traffic) return count_traffic(cases, options);
  std::vector<CheckResult> checks;
  std::vector<BenchResult> timings;
  double copy_bytes_per_second = 0;
  if (options.check) checks = check_all(cases, options);
  if (options.bench) timings = time_all(cases, options, &copy_bytes_per_second);
  if (!options.json.empty()) write_json(options.json, checks, timings, copy_bytes_per_second);
  size_t failures = 0;
  int checked = 0;
  for (const CheckResult& result : checks) {
    failures += result.failures.size();
    checked += result.cases;
  }
  if (options.check && checked == 0) throw std::runtime_error("no case was checked");
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace exn::gpu

int main(int argc, char** argv) {
  try {
    return exn::gpu::run(exn::gpu::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
