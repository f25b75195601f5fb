// SPDX-License-Identifier: Apache-2.0
// The two functions that ONNX Runtime looks for in a plug-in, and the factory and the providers
// that they lead to.
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <map>
#include <thread>

#include "attention.h"
#include "custom_ops.h"
#include "inner.h"
#include "plan.h"
#include "row_norm.h"

#define EXN_EXPORT extern "C" __attribute__((visibility("default")))

namespace exn::ort {
namespace {

constexpr const char* kName = "ExeuntExecutionProvider";
// ONNX Runtime puts this, in lower case, before the names of a provider's options.
constexpr const char* kPrefix = "ep.exeuntexecutionprovider.";
constexpr const char* kOptions = "threads, report, f32, all";

// Of ONNX Runtime: 24 and 4 of "1.24.4".
struct Version {
  int release = 0, patch = 0;
};

// What stands for nodes of which nothing is read.
class Nothing : public Step {
 public:
  void bind(const Places&, const Places&) override {}
  void run(Frame&) const override {}
};

// The steps of a fused node, and what they hand to one another.
struct Bundle {
  std::vector<std::unique_ptr<Step>> steps;
  std::unordered_map<std::string, size_t> within;
  std::vector<size_t> last;  // of each such value: the step after which it is not read
};

struct Compiled : OrtNodeComputeInfo {
  const Api& api;
  Bundle bundle;
  mutable Scratch scratch;

  explicit Compiled(const Api& of) : OrtNodeComputeInfo{}, api(of) {
    ort_version_supported = kApiVersion;
    CreateState = [](OrtNodeComputeInfo* self, OrtNodeComputeContext*, void** state) -> OrtStatus* {
      *state = self;
      return nullptr;
    };
    Compute = [](OrtNodeComputeInfo*, void* state, OrtKernelContext* context) -> OrtStatus* {
      const auto* own = static_cast<const Compiled*>(state);
      return guarded(own->api, [&] { own->run(context); });
    };
    ReleaseState = [](OrtNodeComputeInfo*, void*) {};
  }

  void run(OrtKernelContext* context) const {
    Frame frame(api, context, scratch, bundle.last.size());
    for (size_t i = 0; i < bundle.steps.size(); ++i) {
      bundle.steps[i]->run(frame);
      for (size_t k = 0; k < bundle.last.size(); ++k) {
        if (bundle.last[k] == i) frame.release(k);
      }
    }
  }
};

int64_t whole_number(const std::string& key, const std::string& value, int64_t least,
                     int64_t most) {
  char* end = nullptr;
  const long long parsed = std::strtoll(value.c_str(), &end, 10);
  if (value.empty() || *end != '\0' || parsed < least || parsed > most) {
    throw Failure(kInvalidArgument, "exeunt: option " + key + " is '" + value +
                                        "', expected a whole number from " + std::to_string(least) +
                                        " to " + std::to_string(most));
  }
  return parsed;
}

std::FILE* opened(const std::string& report) {
  std::FILE* file = std::fopen(report.c_str(), "a");
  if (file == nullptr) {
    throw Failure(kInvalidArgument, "exeunt: option report is '" + report +
                                        "', which cannot be written: " + std::strerror(errno));
  }
  return file;
}

Settings settings_of(const Api& api, const OrtSessionOptions* options) {
  Settings settings;
  settings.threads = std::max<int64_t>(1, std::thread::hardware_concurrency());
  OrtKeyValuePairs* entries = nullptr;
  check(api, api.GetSessionOptionsConfigEntries(options, &entries));
  std::map<std::string, std::string> own;
  const char *const *keys = nullptr, *const *values = nullptr;
  size_t count = 0;
  api.GetKeyValuePairs(entries, &keys, &values, &count);
  for (size_t i = 0; i < count; ++i) {
    if (std::strncmp(keys[i], kPrefix, std::strlen(kPrefix)) == 0) {
      own[keys[i] + std::strlen(kPrefix)] = values[i];
    }
  }
  api.ReleaseKeyValuePairs(entries);
  for (const auto& [key, value] : own) {
    if (key == "threads") {
      const int64_t threads = whole_number(key, value, 0, 256);
      if (threads > 0) settings.threads = threads;
    } else if (key == "report") {
      std::fclose(opened(value));
      settings.report = value;
    } else if (key == "f32") {
      settings.policy.f32 = whole_number(key, value, 0, 1) != 0;
    } else if (key == "all") {
      settings.policy.all = whole_number(key, value, 0, 1) != 0;
    } else {
      throw Failure(kInvalidArgument,
                    "exeunt: there is no option '" + key + "'; the options are " + kOptions);
    }
  }
  return settings;
}

class Provider : public OrtEp {
 public:
  Provider(const Api& api, Settings settings)
      : OrtEp{}, api_(api), settings_(std::move(settings)), inner_(api) {
    ort_version_supported = kApiVersion;
    GetName = [](const OrtEp*) { return kName; };
    GetCapability = [](OrtEp* self, const OrtGraph* graph,
                       OrtEpGraphSupportInfo* info) -> OrtStatus* {
      auto* own = static_cast<Provider*>(self);
      return guarded(own->api_, [&] { own->claim_of(graph, info); });
    };
    Compile = [](OrtEp* self, const OrtGraph**, const OrtNode** fused, size_t count,
                 OrtNodeComputeInfo** infos, OrtNode**) -> OrtStatus* {
      auto* own = static_cast<Provider*>(self);
      return guarded(own->api_, [&] {
        for (size_t i = 0; i < count; ++i) infos[i] = own->compiled(fused[i]);
      });
    };
    ReleaseNodeComputeInfos = [](OrtEp*, OrtNodeComputeInfo** infos, size_t count) {
      for (size_t i = 0; i < count; ++i) delete static_cast<Compiled*>(infos[i]);
    };
    IsConcurrentRunSupported = [](OrtEp*, bool* out) -> OrtStatus* {
      *out = true;
      return nullptr;
    };
  }

 private:
  const Api& api_;
  const Settings settings_;
  const Inner inner_;
  Store store_;
  // What is ready for the nodes that ONNX Runtime is about to fuse, by the names of its outputs.
  std::vector<Bundle> bundles_;
  std::unordered_map<std::string, size_t> bundle_of_;

  // A claim that cannot be run is dropped here, where the nodes can still go to others.
  void claim_of(const OrtGraph* graph, OrtEpGraphSupportInfo* info) {
    bundles_.clear();
    bundle_of_.clear();
    store_.begin();
    try {
      const Graph g(api_, graph);
      std::vector<std::unique_ptr<Step>> steps;
      const Claims claims = prepared(g, &steps);
      for (const std::vector<size_t>& fused : claims.fused) fuse(g, claims, fused, &steps, info);
      if (!settings_.report.empty()) report(g, claims);
    } catch (const std::exception& failure) {
      if (!settings_.report.empty()) {
        say("left a graph: it could not be read: " + std::string(failure.what()));
      }
    }
  }

  void fuse(const Graph& g, const Claims& claims, const std::vector<size_t>& fused,
            std::vector<std::unique_ptr<Step>>* steps, OrtEpGraphSupportInfo* info) {
    Bundle bundle;
    std::vector<int> nodes;
    std::unordered_map<int, size_t> within;
    const auto reads = [&](size_t i, int value) {
      const std::vector<int>& inputs = claims.list[fused[i]].inputs;
      return std::find(inputs.begin(), inputs.end(), value) != inputs.end();
    };
    for (size_t i = 0; i < fused.size(); ++i) {
      const Claim& claim = claims.list[fused[i]];
      nodes.insert(nodes.end(), claim.nodes.begin(), claim.nodes.end());
      bundle.steps.push_back(std::move((*steps)[fused[i]]));
      for (const int value : claim.outputs) {
        bundle_of_[g.values[value].name] = bundles_.size();
        for (size_t k = fused.size() - 1; k > i; --k) {
          if (!reads(k, value)) continue;
          bundle.within.emplace(g.values[value].name, bundle.last.size());
          bundle.last.push_back(k);
          break;
        }
      }
    }
    std::sort(nodes.begin(), nodes.end());
    std::vector<const OrtNode*> list;
    for (const int node : nodes) list.push_back(g.nodes[node].node);
    const OrtNodeFusionOptions options = {kApiVersion, true};
    check(api_, api_.EpGraphSupportInfo_AddNodesToFuse(info, list.data(), list.size(), &options));
    bundles_.push_back(std::move(bundle));
  }

  // Claims with a step for each of them. Where one cannot be made its node is refused, and others
  // may have what else it took.
  Claims prepared(const Graph& g, std::vector<std::unique_ptr<Step>>* made) {
    Refused refused;
    for (;;) {
      Claims claims = claim(g, settings_.policy, refused);
      std::vector<std::unique_ptr<Step>> steps;
      const size_t before = refused.size();
      for (const Claim& one : claims.list) steps.push_back(step(g, one, &refused));
      // Weights of claims that are made anew are freed only now, so as not to be packed anew.
      *made = std::move(steps);
      if (refused.size() == before) return claims;
    }
  }

  // Null, and a reason in `refused`, if it cannot be made.
  std::unique_ptr<Step> step(const Graph& g, const Claim& claim, Refused* refused) {
    const auto tried = [&](int node, const auto& make) {
      std::string why;
      try {
        make();
        return true;
      } catch (const std::bad_alloc&) {
        why = "out of memory";
      } catch (const std::exception& failure) {
        why = failure.what();
      }
      refused->emplace(node, "could not be compiled: " + why);
      return false;
    };
    std::unique_ptr<Step> out;
    if (claim.outputs.empty()) return std::make_unique<Nothing>();
    if (const auto* group = std::get_if<Group>(&claim.what)) {
      auto plan = std::make_unique<Plan>(g, *group, settings_);
      const auto ready = [&](const Product& product) {
        return tried(product.node, [&] { plan->prepare(g, product, &store_); });
      };
      if (std::all_of(group->products.begin(), group->products.end(), ready)) out = std::move(plan);
    } else if (const auto* norm = std::get_if<Norm>(&claim.what)) {
      tried(norm->node, [&] { out = std::make_unique<RowNorm>(g, *norm); });
    } else if (const auto* attention = std::get_if<Attention>(&claim.what)) {
      tried(attention->node, [&] { out = std::make_unique<GroupQuery>(g, *attention, settings_); });
    } else if (!tried(claim.nodes[0], [&] { out = std::make_unique<Widened>(g, claim, inner_); })) {
      // Which of them it was is not known.
      for (const int node : claim.nodes)
        refused->emplace(node, "is in a cluster with one that was");
    }
    return out;
  }

  OrtNodeComputeInfo* compiled(const OrtNode* fused) {
    const auto places = [&](auto count, auto get) {
      size_t n = 0;
      check(api_, count(fused, &n));
      std::vector<const OrtValueInfo*> infos(n);
      check(api_, get(fused, infos.data(), n));
      std::unordered_map<std::string, size_t> names;
      for (size_t i = 0; i < n; ++i) {
        const char* name = "";
        if (infos[i] != nullptr) check(api_, api_.GetValueInfoName(infos[i], &name));
        if (*name != '\0') names.emplace(name, i);
      }
      return names;
    };
    Places inputs{places(api_.Node_GetNumInputs, api_.Node_GetInputs), {}};
    Places outputs{places(api_.Node_GetNumOutputs, api_.Node_GetOutputs), {}};
    auto out = std::make_unique<Compiled>(api_);
    for (const auto& [name, index] : outputs.of_node) {
      const auto at = bundle_of_.find(name);
      if (at == bundle_of_.end()) continue;
      out->bundle = std::move(bundles_[at->second]);
      break;
    }
    if (out->bundle.steps.empty() && !outputs.of_node.empty()) {
      throw Failure(kEpFail, "exeunt: a fused node is none of its own");
    }
    inputs.within = outputs.within = out->bundle.within;
    for (const std::unique_ptr<Step>& step : out->bundle.steps) step->bind(inputs, outputs);
    return out.release();
  }

  // Lines are appended, since a session asks for each graph within a graph anew. What cannot be
  // written does no harm to a session.
  void say(const std::string& lines) const {
    std::FILE* file = std::fopen(settings_.report.c_str(), "a");
    if (file == nullptr) return;
    std::fprintf(file, "%s\n", lines.c_str());
    std::fclose(file);
  }

  void report(const Graph& g, const Claims& claims) const {
    std::vector<std::string> lines;
    std::vector<bool> taken(g.nodes.size());
    for (const Claim& one : claims.list) {
      for (const int node : one.nodes) taken[node] = true;
      if (const auto* group = std::get_if<Group>(&one.what)) {
        for (const Product& product : group->products) lines.push_back("claimed " + product.text);
      } else if (const auto* norm = std::get_if<Norm>(&one.what)) {
        lines.push_back("claimed " + norm->text);
      } else if (const auto* attention = std::get_if<Attention>(&one.what)) {
        lines.push_back("claimed " + attention->text);
      } else {
        lines.push_back("claimed " + std::to_string(one.nodes.size()) +
                        " nodes of bf16, to be computed in f32:");
        for (const int node : one.nodes) lines.back() += " " + g.nodes[node].op;
      }
    }
    for (const std::string& line : claims.declined) lines.push_back("left " + line);
    std::map<std::string, int> rest;
    for (size_t i = 0; i < g.nodes.size(); ++i) {
      if (!taken[i]) ++rest[g.nodes[i].op];
    }
    for (const auto& [op, count] : rest) {
      lines.push_back("left to others: " + std::to_string(count) + " " + op);
    }
    std::string text;
    for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
    if (!lines.empty()) say(text);
  }
};

class Factory : public OrtEpFactory {
 public:
  Factory(const void* table, Version version)
      : OrtEpFactory{}, api_(table), version_(version), custom_ops_(api_) {
    ort_version_supported = kApiVersion;
    GetName = [](const OrtEpFactory*) { return kName; };
    GetVendor = [](const OrtEpFactory*) { return "exeunt"; };
    GetVendorId = [](const OrtEpFactory*) -> uint32_t { return 0; };
    GetVersion = [](const OrtEpFactory*) { return exn_version(); };
    GetSupportedDevices = [](OrtEpFactory* self, const OrtHardwareDevice* const* devices,
                             size_t count, OrtEpDevice** out, size_t room,
                             size_t* found) -> OrtStatus* {
      const Api& api = static_cast<Factory*>(self)->api_;
      return guarded(api, [&] {
        *found = 0;
        for (size_t i = 0; i < count && *found < room; ++i) {
          if (api.HardwareDevice_Type(devices[i]) != kDeviceCpu) continue;
          check(api, api.CreateEpDevice(self, devices[i], nullptr, nullptr, &out[*found]));
          ++*found;
        }
      });
    };
    CreateEp = [](OrtEpFactory* self, const OrtHardwareDevice* const*,
                  const OrtKeyValuePairs* const*, size_t, const OrtSessionOptions* options,
                  const OrtLogger*, OrtEp** out) -> OrtStatus* {
      const auto* own = static_cast<Factory*>(self);
      return guarded(own->api_, [&] {
        Settings settings = settings_of(own->api_, options);
        settings.policy.release = own->version_.release;
        settings.policy.patch = own->version_.patch;
        *out = new Provider(own->api_, std::move(settings));
      });
    };
    ReleaseEp = [](OrtEpFactory*, OrtEp* ep) { delete static_cast<Provider*>(ep); };
    // Memory is the CPU's own, nothing is copied, and there are no streams.
    CreateAllocator = [](OrtEpFactory*, const OrtMemoryInfo*, const OrtKeyValuePairs*,
                         OrtAllocator** out) -> OrtStatus* {
      *out = nullptr;
      return nullptr;
    };
    ReleaseAllocator = [](OrtEpFactory*, OrtAllocator*) {};
    CreateDataTransfer = [](OrtEpFactory*, void** out) -> OrtStatus* {
      *out = nullptr;
      return nullptr;
    };
    IsStreamAware = [](const OrtEpFactory*) { return false; };
    CreateSyncStreamForDevice = [](OrtEpFactory*, const OrtMemoryDevice*, const OrtKeyValuePairs*,
                                   OrtSyncStreamImpl** out) -> OrtStatus* {
      *out = nullptr;
      return nullptr;
    };
    ValidateCompiledModelCompatibilityInfo = [](OrtEpFactory*, const OrtHardwareDevice* const*,
                                                size_t, const char*, int32_t* out) -> OrtStatus* {
      *out = 0;  // not applicable
      return nullptr;
    };
    GetNumCustomOpDomains = [](OrtEpFactory*, size_t* out) -> OrtStatus* {
      *out = 1;
      return nullptr;
    };
    GetCustomOpDomains = [](OrtEpFactory* self, OrtCustomOpDomain** domains,
                            size_t count) -> OrtStatus* {
      if (count > 0) domains[0] = static_cast<Factory*>(self)->custom_ops_.domain();
      return nullptr;
    };
  }

 private:
  const Api api_;
  const Version version_;
  CustomOps custom_ops_;
};

// The exeunt inside, whose callers are the threads that there are.
void start() {
  check(exn_cpu_set_threads(1));
  if (!exn_backend_available(EXN_BACKEND_CPU)) {
    throw Failure(kEpFail, std::string("exeunt: ") + exn_backend_reason(EXN_BACKEND_CPU));
  }
}

// Null with a message if this ONNX Runtime does not have the interface.
const void* table_of(const OrtApiBase* base, OrtStatus** failure) {
  const void* table = base->GetApi(kApiVersion);
  if (table != nullptr) return table;
  // Where that fails even the oldest table has the function that makes a status.
  const void* oldest = base->GetApi(1);
  if (oldest != nullptr) {
    const auto* slots = static_cast<const void* const*>(oldest);
    const auto create =
        reinterpret_cast<OrtStatus* (*)(int32_t, const char*)>(const_cast<void*>(slots[0]));
    const std::string text = std::string("exeunt: this is ONNX Runtime ") +
                             base->GetVersionString() + ", expected 1.24 or newer";
    *failure = create(kNotImplemented, text.c_str());
  }
  return nullptr;
}

// Of "1.24.4"; what does not begin with 1 counts as newer.
Version version_of(const OrtApiBase* base) {
  const char* version = base->GetVersionString();
  if (std::strncmp(version, "1.", 2) != 0) return {INT_MAX, 0};
  char* end = nullptr;
  Version out;
  out.release = static_cast<int>(std::strtol(version + 2, &end, 10));
  if (*end == '.') out.patch = static_cast<int>(std::strtol(end + 1, nullptr, 10));
  return out;
}

}  // namespace
}  // namespace exn::ort

EXN_EXPORT OrtStatus* CreateEpFactories(const char*, const OrtApiBase* base, const OrtLogger*,
                                        OrtEpFactory** factories, size_t room, size_t* count) {
  OrtStatus* failure = nullptr;
  *count = 0;
  const void* table = exn::ort::table_of(base, &failure);
  if (table == nullptr) return failure;
  const exn::ort::Api api(table);
  return exn::ort::guarded(api, [&] {
    if (room < 1) {
      throw exn::ort::Failure(exn::ort::kInvalidArgument, "exeunt: no room for a factory");
    }
    exn::ort::start();
    factories[0] = new exn::ort::Factory(table, exn::ort::version_of(base));
    *count = 1;
  });
}

EXN_EXPORT OrtStatus* ReleaseEpFactory(OrtEpFactory* factory) {
  delete static_cast<exn::ort::Factory*>(factory);
  return nullptr;
}

// For sessions that want the ops of the domain org.exeunt without the provider.
EXN_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  OrtStatus* failure = nullptr;
  const void* table = exn::ort::table_of(base, &failure);
  if (table == nullptr) return failure;
  static const exn::ort::Api api(table);
  return exn::ort::guarded(api, [&] {
    exn::ort::start();
    static exn::ort::CustomOps ops(api);
    exn::ort::check(api, api.AddCustomOpDomain(options, ops.domain()));
  });
}
