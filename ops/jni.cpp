// SPDX-License-Identifier: Apache-2.0
// The cases for Java: org.exeunt.cases.Cases. A handle is an open case, with its tensors on a
// device.
#include <jni.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <map>
#include <mutex>

#include "case.h"
#include "expected.h"
#include "maker.h"

#ifdef _WIN32  // the headers are those of a JDK for Linux
#undef JNIEXPORT
#define JNIEXPORT __declspec(dllexport)
#endif

namespace {

using namespace exn::test;

struct Open {
  Case c;
  std::unique_ptr<Instance> instance;
  Outputs kept;
};

// Memory of the caller's, with gaps between what is taken of it.
class Pieces : public Memory {
 public:
  Pieces(char* begin, size_t bytes) : begin_(begin), bytes_(bytes) {}
  void reset() override {
    used_ = kGap;
    slots_.clear();
  }
  Slot* take(size_t bytes) override {
    if (bytes > bytes_ - kGap - used_) return nullptr;
    slots_.push_back({begin_ + used_, begin_ + used_, bytes, nullptr});
    used_ = std::min((used_ + bytes + 7) / 8 * 8 + kGap, bytes_ - kGap);
    return &slots_.back();
  }

 private:
  static constexpr size_t kGap = 64;
  char* begin_;
  size_t bytes_;
  size_t used_ = kGap;
  std::deque<Slot> slots_;
};

struct Drawn {
  Drawn(char* begin, size_t bytes) : memory(begin, bytes), maker(&memory, kDLCPU) {}

  Pieces memory;
  Maker maker;
};

Drawn& drawn_at(jlong handle) { return *reinterpret_cast<Drawn*>(handle); }

Open& at(jlong handle) { return *reinterpret_cast<Open*>(handle); }

// Runs f; what it throws becomes an IllegalStateException.
template <class F>
auto guarded(JNIEnv* env, F&& f) {
  using Result = decltype(f());
  try {
    return f();
  } catch (const std::exception& e) {
    env->ThrowNew(env->FindClass("java/lang/IllegalStateException"), e.what());
    return Result();
  }
}

template <class F>
void guarded_call(JNIEnv* env, F&& f) {
  guarded(env, [&] {
    f();
    return 0;
  });
}

// Reads a table once, not for each of its cases.
const std::vector<ListedCase>& table(const std::string& op) {
  static std::mutex mutex;
  static std::map<std::string, std::vector<ListedCase>> tables;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = tables.find(op);
  return found != tables.end() ? found->second : tables.emplace(op, cases_of(op)).first->second;
}

std::string text(JNIEnv* env, jstring string) {
  const char* chars = env->GetStringUTFChars(string, nullptr);
  const std::string copy = chars;
  env->ReleaseStringUTFChars(string, chars);
  return copy;
}

jobjectArray strings(JNIEnv* env, const std::vector<std::string>& values) {
  const jobjectArray array = env->NewObjectArray(static_cast<jsize>(values.size()),
                                                 env->FindClass("java/lang/String"), nullptr);
  for (size_t i = 0; i < values.size(); ++i) {
    const jstring value = env->NewStringUTF(values[i].c_str());
    env->SetObjectArrayElement(array, static_cast<jsize>(i), value);
    env->DeleteLocalRef(value);
  }
  return array;
}

// Of each line of a table: "column=word ...".
std::map<std::string, std::string> fields_of(const std::string& op) {
  const Table table = read_table(op);
  std::map<std::string, std::string> fields;
  for (const std::vector<std::string>& line : table.lines) {
    std::string& words = fields[line[0]];
    for (size_t i = 1; i < line.size(); ++i) words += " " + table.columns[i].name + "=" + line[i];
  }
  return fields;
}

// "<id> [tag...] [column=word...]"
std::string line_of(const ListedCase& c, const std::string& fields) {
  std::string line = c.base.id;
  const std::pair<bool, const char*> tags[] = {
      {c.base.small, " small"}, {c.base.exact, " exact"}, {c.base.big, " big"},
      {c.base.bench, " bench"}, {c.spoiled, " spoiled"},  {c.host_only, " host_only"},
      {c.composed, " composed"}};
  for (const auto& tag : tags) {
    if (tag.first) line += tag.second;
  }
  return line + fields;
}

}  // namespace

#define CASES(type, name) extern "C" JNIEXPORT type JNICALL Java_org_exeunt_cases_Cases_##name

CASES(jobjectArray, ops)(JNIEnv* env, jclass) {
  return guarded(env, [&] { return strings(env, ops()); });
}

CASES(jobjectArray, list)(JNIEnv* env, jclass, jstring op) {
  return guarded(env, [&] {
    std::vector<std::string> lines;
    const std::string name = text(env, op);
    const std::vector<ListedCase>& cases = table(name);
    std::map<std::string, std::string> fields;
    if (!cases.empty() && !cases[0].composed) fields = fields_of(name);
    for (const ListedCase& c : cases) lines.push_back(line_of(c, fields[c.base.id]));
    return strings(env, lines);
  });
}

CASES(jlong, open)(JNIEnv* env, jclass, jstring op, jint index, jint device_type) {
  return guarded(env, [&] {
    auto open = std::make_unique<Open>();
    open->c = table(text(env, op)).at(static_cast<size_t>(index)).make();
    open->instance = open->c.instantiate(device_type);
    open->instance->prepare();
    return reinterpret_cast<jlong>(open.release());
  });
}

CASES(void, close)(JNIEnv*, jclass, jlong handle) { delete &at(handle); }

CASES(jlong, streamedBytes)(JNIEnv*, jclass, jlong handle, jboolean outputs) {
  return static_cast<jlong>(at(handle).instance->streamed_bytes(outputs));
}

CASES(void, moveTo)(JNIEnv* env, jclass, jlong handle, jlong address, jboolean outputs) {
  guarded_call(env, [&] {
    at(handle).instance->move_to(reinterpret_cast<unsigned char*>(address), outputs);
  });
}

CASES(jint, calls)(JNIEnv*, jclass, jlong handle) {
  return static_cast<jint>(at(handle).instance->calls().size());
}

CASES(jstring, op)(JNIEnv* env, jclass, jlong handle, jint call) {
  return env->NewStringUTF(at(handle).instance->calls()[static_cast<size_t>(call)].op);
}

CASES(jlong, params)(JNIEnv*, jclass, jlong handle, jint call) {
  const BoundCall& c = at(handle).instance->calls()[static_cast<size_t>(call)];
  return reinterpret_cast<jlong>(c.params.get());
}

CASES(void, prepare)(JNIEnv* env, jclass, jlong handle) {
  guarded_call(env, [&] { at(handle).instance->prepare(); });
}

CASES(void, run)(JNIEnv* env, jclass, jlong handle, jint call) {
  guarded_call(env, [&] { at(handle).instance->run_call(static_cast<size_t>(call), nullptr); });
}

CASES(void, keepOutputs)(JNIEnv* env, jclass, jlong handle) {
  guarded_call(env, [&] { at(handle).kept = at(handle).instance->outputs(); });
}

// Whether outputs are as before any run.
CASES(jboolean, untouched)(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&]() -> jboolean { return at(handle).instance->outputs_unchanged(); });
}

// The first output whose bytes are not those that were kept; null if all are.
CASES(jstring, changedOutput)(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&]() -> jstring {
    const Open& open = at(handle);
    const Outputs now = open.instance->outputs();
    for (size_t i = 0; i < now.size(); ++i) {
      if (now[i].bytes != open.kept[i].bytes)
        return env->NewStringUTF(open.instance->output_names()[i].c_str());
    }
    return nullptr;
  });
}

CASES(jboolean, intact)(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&]() -> jboolean { return at(handle).instance->surroundings_intact(); });
}

CASES(jstring, judge)(JNIEnv* env, jclass, jlong handle, jdouble factor, jdouble more) {
  return guarded(env, [&]() -> jstring {
    leeway() = {factor, more};
    const Complaint complaint = at(handle).c.judge(at(handle).instance->outputs());
    leeway() = {};
    return complaint.empty() ? nullptr : env->NewStringUTF(complaint.c_str());
  });
}

CASES(jboolean, refusedOnCpu)(JNIEnv*, jclass, jlong handle) { return at(handle).c.cpu_refuses; }

CASES(jdouble, bytes)(JNIEnv*, jclass, jlong handle) { return at(handle).c.compulsory_bytes; }

CASES(jobjectArray, description)(JNIEnv* env, jclass, jlong handle) {
  std::vector<std::string> pairs;
  for (const auto& [name, value] : at(handle).c.description) {
    pairs.push_back(name);
    pairs.push_back(value);
  }
  return strings(env, pairs);
}

// A sound call of `op` in so much memory.
CASES(jlong, draw)(JNIEnv* env, jclass, jstring op, jlong seed, jlong memory, jlong bytes) {
  return guarded(env, [&] {
    const std::string name = "exn_" + text(env, op);
    const std::vector<OpUnderTest>& all = ops_under_test();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const OpUnderTest& o) { return name == o.name; });
    if (found == all.end()) throw std::runtime_error("no op is called " + name);
    auto drawn =
        std::make_unique<Drawn>(reinterpret_cast<char*>(memory), static_cast<size_t>(bytes));
    for (uint64_t tries = 0; tries == 0 || !drawn->maker.complete(); ++tries) {
      Random random(static_cast<uint64_t>(seed), tries);
      found->describe(drawn->maker, drawn->maker.begin(&random, found->params_bytes));
    }
    return reinterpret_cast<jlong>(drawn.release());
  });
}

CASES(jlong, drawnParams)(JNIEnv*, jclass, jlong handle) {
  return reinterpret_cast<jlong>(drawn_at(handle).maker.params());
}

// Of each field: "<name> tensor <address> [written] [optional] [any_rank]", or of a number that may
// be another: "<name> int32|int64|float|double <address>".
CASES(jobjectArray, drawnFields)(JNIEnv* env, jclass, jlong handle) {
  Maker& m = drawn_at(handle).maker;
  std::vector<std::string> lines;
  for (int i = 0; i < m.field_count(); ++i) {
    const TensorField& f = m.fields()[i];
    if (f.tensor == nullptr) continue;
    lines.push_back(std::string(f.name) + " tensor " +
                    std::to_string(reinterpret_cast<uintptr_t>(&f.tensor->dl)) +
                    (f.tensor->written ? " written" : "") +
                    ((f.flags & kOptional) != 0 ? " optional" : "") +
                    ((f.flags & kAnyRank) != 0 ? " any_rank" : ""));
  }
  for (int i = 0; i < m.scalar_count(); ++i) {
    const ScalarField& f = m.scalars()[i];
    if (f.in_array >= 0 || f.is_mode) continue;
    lines.push_back(f.name + (std::string(" ") + ScalarField::kKinds[f.kind] + " ") +
                    std::to_string(reinterpret_cast<uintptr_t>(f.place)));
  }
  return strings(env, lines);
}

CASES(void, release)(JNIEnv*, jclass, jlong handle) { delete &drawn_at(handle); }
