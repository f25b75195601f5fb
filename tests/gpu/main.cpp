// SPDX-License-Identifier: Apache-2.0
//
// Checks and times the CUDA backend over the case tables and at the shapes of a large model;
// tests/gpu/run is its usual caller.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>

#include "bench.h"
#include "check.h"
#include "counts.h"
#include "judge.h"
#include "model.h"
#include "records.h"
#include "traffic.h"

namespace exn::gpu {
namespace {

constexpr const char* kUsage =
    "usage: exeunt_gpu_check --backend FILE --cuda-runtime FILE [option...]\n"
    "  --probes FILE    the checker's own kernels: makes inputs on the device, measures ceilings;\n"
    "                   without it there are no model shapes\n"
    "  --cub FILE       CUB's selections, to be timed as peers\n"
    "  --nvml FILE      reads clocks and power                    (default: libnvidia-ml.so.1)\n"
    "  --records FILE   appends each result there at once, a line of JSON\n"
    "  --seconds N      begin nothing after so long; what is left out is named\n"
    "  --ops A,B        only these ops\n"
    "  --small          only cases tagged small\n"
    "  --big            also cases tagged big\n"
    "  --every N        only every Nth case of an op, and those that are tagged `sampled`\n"
    "  --once           run a case once on CUDA, not from a graph and on two streams besides\n"
    "  --no-check       leave out the checks\n"
    "  --no-bench       leave out the timings\n"
    "  --no-model       leave out the shapes of a large model\n"
    "  --profile        instead of all that, run model shapes once each, after a marker\n"
    "  --traffic        instead of all that, count the bytes that realistic cases move and fail\n"
    "                   if one moves too many; with the race build of the emulator only\n"
    "  --counts FILE    instead of all that, count what machine code does at model shapes, and fail\n"
    "                   if the page FILE says otherwise or a budget is exceeded; needs the emulator\n"
    "                   as backend and the three options that follow\n"
    "  --library FILE   libexeunt_cuda.so with code for sm_90\n"
    "  --cuobjdump FILE prints the code\n"
    "  --compiler X     the version of nvcc that made it\n"
    "  --update         with --counts, write the page\n"
    "  --machine-code   with --library and --cuobjdump: check small model shapes by running the\n"
    "                   machine code\n"
    "  --dry-bench      time one small case per op once, and small model shapes: exercises the\n"
    "                   code, says nothing about speed\n";

struct Options {
  std::string backend;
  std::string cuda_runtime;
  std::string probes;
  std::string cub;
  std::string nvml = "libnvidia-ml.so.1";
  std::string records;
  CountOptions counts;
  double seconds = 1e9;
  std::set<std::string> ops;
  bool small = false;
  bool big = false;
  int every = 1;
  bool once = false;
  bool check = true;
  bool bench = true;
  bool model = true;
  bool profile = false;
  bool dry_bench = false;
  bool traffic = false;
  bool machine_code = false;

  bool wants(const std::string& op) const { return ops.empty() || ops.count(op) != 0; }
};

Options parse(int argc, char** argv) {
  Options options;
  const std::map<std::string, std::string*> texts = {{"--backend", &options.backend},
                                                     {"--cuda-runtime", &options.cuda_runtime},
                                                     {"--probes", &options.probes},
                                                     {"--cub", &options.cub},
                                                     {"--counts", &options.counts.page},
                                                     {"--library", &options.counts.library},
                                                     {"--cuobjdump", &options.counts.cuobjdump},
                                                     {"--compiler", &options.counts.compiler},
                                                     {"--nvml", &options.nvml},
                                                     {"--records", &options.records}};
  const std::map<std::string, std::pair<bool*, bool>> flags = {
      {"--small", {&options.small, true}},
      {"--big", {&options.big, true}},
      {"--once", {&options.once, true}},
      {"--no-check", {&options.check, false}},
      {"--no-bench", {&options.bench, false}},
      {"--no-model", {&options.model, false}},
      {"--profile", {&options.profile, true}},
      {"--traffic", {&options.traffic, true}},
      {"--dry-bench", {&options.dry_bench, true}},
      {"--machine-code", {&options.machine_code, true}},
      {"--update", {&options.counts.update, true}},
  };
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw std::runtime_error(name + " needs a value\n" + kUsage);
      return argv[++i];
    };
    const auto flag = flags.find(name);
    const auto text = texts.find(name);
    if (flag != flags.end()) {
      *flag->second.first = flag->second.second;
    } else if (text != texts.end()) {
      *text->second = value();
    } else if (name == "--seconds") {
      options.seconds = std::atof(value().c_str());
    } else if (name == "--ops") {
      std::stringstream list(value());
      for (std::string op; std::getline(list, op, ',');) options.ops.insert(op);
    } else if (name == "--every") {
      options.every = std::max(1, std::atoi(value().c_str()));
    } else {
      throw std::runtime_error("unknown option " + name + "\n" + kUsage);
    }
  }
  if (options.backend.empty() || options.cuda_runtime.empty()) {
    throw std::runtime_error(kUsage);
  }
  return options;
}

// ---- a run that may be stopped ------------------------------------------------------------------

bool is_in_each_sample(const ListedCase& c) { return c.base.sampled; }
bool is_in_each_sample(const Work&) { return false; }

struct Session {
  const Options& options;
  Records records;
  Monitor monitor;
  BenchOptions bench;
  Clock::time_point start = Clock::now();
  std::vector<std::string> failures;

  explicit Session(const Options& given) : options(given) {}

  double left() const { return options.seconds - seconds_since(start); }

  void fail(const std::string& what) {
    failures.push_back(what);
    std::printf("FAILED %s\n", what.c_str());
  }

  // Calls f(item) for every Nth item of each op and what is in each sample, the first one of each op
  // first: a run that is stopped has seen something of every op. At most `share` of the time that is
  // left is spent.
  template <class Item, class F>
  int each(const char* stage, const std::vector<Item>& items, int every, double share, const F& f) {
    std::map<std::string, int> seen;
    std::vector<std::pair<int, const Item*>> order;
    for (const Item& item : items) {
      const int index = seen[item.op]++;
      if (index % every == 0 || is_in_each_sample(item)) order.emplace_back(index, &item);
    }
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    const auto begun = Clock::now();
    const double most = share * left();
    size_t done = 0;
    for (; done < order.size() && seconds_since(begun) < most; ++done) {
      f(*order[done].second);
      std::fflush(stdout);
    }
    Record record("stage");
    record.add("stage", stage).add("done", static_cast<int>(done));
    record.add("of", static_cast<int>(order.size())).add("seconds", seconds_since(begun));
    records.write(record);
    if (done < order.size()) {
      std::printf("%s: out of time after %zu of %zu cases\n", stage, done, order.size());
    }
    return static_cast<int>(done);
  }

  // After an error that no later call survives there is nothing more to find out.
  void require_device(const std::string& after) {
    if (exn_stream_synchronize(kDLCUDA, 0, nullptr) == EXN_OK) return;
    const std::string why = "the device is lost after " + after + ": " + exn_last_error();
    records.write(Record("lost").add("why", why));
    throw std::runtime_error(why);
  }
};

// ---- checks -------------------------------------------------------------------------------------

void note_check(Session* session, const std::string& op, const std::string& id, bool is_model,
                const CheckResult& result) {
  Record record("check");
  record.add("op", op).add("case", id).flag("model", is_model);
  record.flag("same_bits_as_cpu", result.same_bits_as_cpu > 0).add("failures", result.failures);
  record.add("seconds", result.seconds);
  if (is_model) record.add("worst_error", result.worst_error);
  session->records.write(record);
  for (const std::string& failure : result.failures) session->fail(failure);
  if (!result.failures.empty()) session->require_device(op + " " + id);
}

using Wanted = std::function<bool(const CaseBase&)>;

int check_cases(Session* session, const char* stage, const std::vector<ListedCase>& cases,
                const Wanted& is_wanted, bool once, double share) {
  std::vector<ListedCase> wanted;
  for (const ListedCase& c : cases) {
    if (is_wanted(c.base)) wanted.push_back(c);
  }
  std::map<std::string, CheckResult> results;
  const int done =
      session->each(stage, wanted, session->options.every, share, [&](const ListedCase& c) {
        const auto start = Clock::now();
        CheckResult result;
        check(c.make(), once, &result);
        result.seconds = seconds_since(start);
        CheckResult& of_op = results[c.op];
        ++of_op.cases;
        of_op.same_bits_as_cpu += result.same_bits_as_cpu;
        of_op.failures.insert(of_op.failures.end(), result.failures.begin(), result.failures.end());
        if (result.most_traffic > of_op.most_traffic) {
          of_op.most_traffic = result.most_traffic;
          of_op.most_traffic_case = result.most_traffic_case;
        }
        note_check(session, c.op, c.base.id, false, result);
      });
  for (const auto& [op, result] : results) {
    std::printf("%-14s %4d cases, %zu failures, %d with the bits of the CPU\n", op.c_str(),
                result.cases, result.failures.size(), result.same_bits_as_cpu);
    if (result.most_traffic > 0) {
      std::printf("%-14s moves at most %.2f times the compulsory bytes (%s)\n", "",
                  result.most_traffic, result.most_traffic_case.c_str());
    }
  }
  return done;
}

void check_all(Session* session, const std::vector<ListedCase>& cases) {
  const Options& options = session->options;
  const Wanted ordinary = [&options](const CaseBase& base) {
    return (base.small || !options.small) && (!base.big || options.big);
  };
  const int done =
      check_cases(session, "check", cases, ordinary, options.once, options.bench ? 0.5 : 1);
  if (done == 0 && session->left() > 0) throw std::runtime_error("no case was checked");
  // What is timed is checked too. The oracles of the big ones take seconds each, so those run once,
  // and as far as a part of the time goes.
  if (!options.bench || options.big || options.small) return;
  const Wanted timed = [](const CaseBase& base) { return base.big && base.bench && !base.timed; };
  check_cases(session, "check of big cases", cases, timed, true, 0.4);
}

// ---- timings ------------------------------------------------------------------------------------

// Those tagged bench, or, dry, the first small one of each op that must move something.
std::vector<Work> cases_to_time(const std::vector<ListedCase>& cases, bool dry) {
  std::vector<Work> chosen;
  std::set<std::string> have;
  for (const ListedCase& listed : cases) {
    const CaseBase& base = listed.base;
    if (dry ? !base.small || have.count(listed.op) != 0 : !base.bench || base.timed) continue;
    const Case c = listed.make();
    if (dry && c.compulsory_bytes == 0) continue;
    have.insert(c.op);
    chosen.push_back(work_of(c));
  }
  return chosen;
}

void note_timing(Session* session, const Work& work, bool is_model) {
  Record record("timing");
  record.add("op", work.op).add("case", work.id).flag("model", is_model);
  record.add("bytes", work.compulsory_bytes).add("operations", work.arithmetic.operations);
  record.add("unit", work.arithmetic.unit);
  std::string shape;
  for (const auto& entry : work.description) {
    shape += (shape.empty() ? "\"" : ", \"") + entry.first + "\": " + entry.second;
  }
  record.json("shape", "{" + shape + "}");
  try {
    const BenchResult r = measure(work, session->bench);
    record.add("median_us", r.time.median_us).add("best_us", r.time.best_us);
    record.add("worst_us", r.time.worst_us).add("samples", r.time.samples);
    record.add("rotation", r.rotation).add("repeats", r.repeats);
    record.flag("exceeds_cache", r.exceeds_cache).json("before", r.before).json("after", r.after);
    std::printf("%-16s %-34s %10.2f us  %8.1f GB/s\n", work.op.c_str(), work.id.c_str(),
                r.time.median_us, work.compulsory_bytes / (r.time.median_us * 1e3));
  } catch (const std::exception& error) {
    record.add("error", error.what());
    session->fail(work.op + " " + work.id + " (timed): " + error.what());
    session->records.write(record);
    session->require_device(work.op + " " + work.id);
    return;
  }
  session->records.write(record);
}

void note_ceilings(Session* session) {
  const Ceilings ceilings = measure_ceilings(session->bench);
  Record record("ceilings");
  record.add("copy", ceilings.copy).add("read", ceilings.read);
  record.add("fma", ceilings.fma).add("mma", ceilings.mma);
  record.json("after", session->monitor.read());
  session->records.write(record);
  std::printf("copy %.1f GB/s read and written, read %.1f GB/s, f32 %.2f TFLOP/s, bf16 by mma.sync "
              "%.2f TFLOP/s\n",
              ceilings.copy * 1e-9, ceilings.read * 1e-9, ceilings.fma * 1e-12,
              ceilings.mma * 1e-12);
}

// A peer that computes something else is no peer.
void note_peer(Session* session, const PeerWork& peer) {
  Record record("peer");
  record.add("op", peer.op).add("case", peer.id).add("peer", peer.peer);
  try {
    const Complaint complaint = peer.check();
    if (complaint.empty()) {
      record.add("us", measure(peer, session->bench).time.median_us);
    } else {
      record.add("error", complaint);
    }
  } catch (const std::exception& error) {
    record.add("error", error.what());
  }
  session->records.write(record);
  session->require_device(peer.peer);
}

void run_model(Session* session, const std::vector<ModelWork>& works) {
  const Options& options = session->options;
  session->each("model", works, 1, 0.5, [&](const ModelWork& work) {
    if (options.check) {
      const auto start = Clock::now();
      CheckResult result;
      worst_errors().clear();
      try {
        const Complaint complaint = work.check();
        if (!complaint.empty())
          result.failures.push_back(work.op + " " + work.id + ": " + complaint);
      } catch (const std::exception& error) {
        result.failures.push_back(work.op + " " + work.id + ": " + error.what());
      }
      result.seconds = seconds_since(start);
      for (const auto& [output, error] : worst_errors())
        result.worst_error = std::max(result.worst_error, error);
      note_check(session, work.op, work.id, true, result);
    }
    if (!options.bench) return;
    note_timing(session, work, true);
    for (const PeerWork& peer : work.peers) note_peer(session, peer);
  });
}

// What a profiler sees: the kernels of case n follow a marker with a grid of n blocks.
void profile(Session* session, const std::vector<ModelWork>& works) {
  int number = 0;
  const Stream stream(kDLCUDA);
  session->each("profile", works, session->options.every, 1, [&](const ModelWork& work) {
    const std::unique_ptr<Runnable> run = work.make();
    require_probe(probes().mark(++number, stream.get()), "marker");
    run->run(stream.get());
    stream.synchronize();
    Record record("profiled");
    record.add("number", number).add("op", work.op).add("case", work.id);
    session->records.write(record);
  });
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

int run_machine_code(const Options& options) {
  CountOptions counts = options.counts;
  counts.backend = options.backend;
  counts.is_part = !options.ops.empty();
  take_launches(counts);
  std::vector<ModelWork> works;
  const ModelShape shape = options.machine_code ? rehearsal_shape() : counted_shape();
  for (ModelWork& work : model_work(shape)) {
    if (options.wants(work.op)) works.push_back(std::move(work));
  }
  const bool sound =
      options.machine_code ? check_machine_code(works) : count_kernels(works, counts);
  return sound ? 0 : 1;
}

void describe_run(Session* session) {
  Record record("run");
  record.add("version", exn_version()).add("backend", exn_backend_name(EXN_BACKEND_CUDA));
  record.add("multiprocessors", attribute(cudaDevAttrMultiProcessorCount));
  record.add("l2_bytes", attribute(cudaDevAttrL2CacheSize));
  record.add("monitor", session->monitor.why());
  session->records.write(record);
}

int run(const Options& options) {
  require(exn_cuda_open(options.backend.c_str()), "opening the CUDA backend");
  open_cuda_runtime(options.cuda_runtime);
  if (options.machine_code || !options.counts.page.empty()) return run_machine_code(options);
  if (!options.probes.empty()) open_probes(options.probes);
  if (!options.cub.empty()) open_cub_peers(options.cub);
  std::printf("%s\n", exn_backend_name(EXN_BACKEND_CUDA));
  std::vector<ListedCase> cases;
  for (const std::string& op : ops()) {
    if (!options.wants(op)) continue;
    for (ListedCase& c : cases_of(op)) {
      if (c.host_only) {
        std::printf("left to the CPU: %s %s\n", c.op.c_str(), c.base.id.c_str());
      } else {
        cases.push_back(std::move(c));
      }
    }
  }
  if (options.traffic) return count_traffic(cases, options);

  Session session(options);
  if (!options.records.empty()) session.records.open(options.records);
  session.monitor.open(options.nvml);
  session.bench.monitor = &session.monitor;
  if (options.dry_bench) session.bench = {0, 0, 0, 1, 2, size_t{1} << 16, 1, &session.monitor};
  std::vector<ModelWork> works;
  if (has_probes() && options.model) {
    for (ModelWork& work : model_work(options.dry_bench ? rehearsal_shape() : ModelShape{})) {
      if (options.wants(work.op)) works.push_back(std::move(work));
    }
  }
  if (options.profile) {
    profile(&session, works);
    return 0;
  }
  describe_run(&session);
  if (options.bench) note_ceilings(&session);
  run_model(&session, works);
  if (options.check) check_all(&session, cases);
  if (options.bench) {
    session.each("bench", cases_to_time(cases, options.dry_bench), 1, 1,
                 [&](const Work& work) { note_timing(&session, work, false); });
  }
  Record record("finished");
  record.add("failures", static_cast<int>(session.failures.size()));
  session.records.write(record.add("seconds", seconds_since(session.start)));
  return session.failures.empty() ? 0 : 1;
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
