// SPDX-License-Identifier: Apache-2.0
// The plug-in before an ONNX Runtime that is too old for it, or leaves it no room: one sentence.
// What it does in a real one is tested from Java.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "../src/ort_api.h"

namespace {

std::string sentence;
const char* version = "1.20.1";
uint32_t newest = 20;
int domains = 0, ops = 0;

OrtStatus* create_status(int32_t, const char* message) {
  sentence = message;
  return reinterpret_cast<OrtStatus*>(&sentence);
}
OrtStatus* create_domain(const char*, OrtCustomOpDomain** out) {
  ++domains;
  *out = reinterpret_cast<OrtCustomOpDomain*>(&domains);
  return nullptr;
}
OrtStatus* add_op(OrtCustomOpDomain*, const OrtCustomOp* op) {
  ops += op->GetName(op)[0] != '\0';
  return nullptr;
}
void release_domain(OrtCustomOpDomain*) { --domains; }

void* slots[512];
void* ep_slots[8];
const void* ep_api() { return ep_slots; }
const void* api(uint32_t asked) { return asked <= newest ? slots : nullptr; }
const char* version_string() { return version; }

int failures = 0;
void expect(bool right, const char* what) {
  if (right) return;
  std::printf("FAILED: %s; the last sentence was '%s'\n", what, sentence.c_str());
  ++failures;
}

template <class F>
void* slot(F* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

int main(int, char** arguments) {
  using Create = OrtStatus* (*)(const char*, const OrtApiBase*, const OrtLogger*, OrtEpFactory**,
                                size_t, size_t*);
  using Release = OrtStatus* (*)(OrtEpFactory*);
  void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::printf("FAILED: %s\n", dlerror());
    return 1;
  }
  const auto create = reinterpret_cast<Create>(dlsym(library, "CreateEpFactories"));
  const auto release = reinterpret_cast<Release>(dlsym(library, "ReleaseEpFactory"));
  slots[0] = slot(create_status);
  slots[26] = slot(create_domain);
  slots[27] = slot(add_op);
  slots[101] = slot(release_domain);
  slots[317] = slot(ep_api);
  const OrtApiBase base = {api, version_string};
  OrtEpFactory* factory = nullptr;
  size_t count = 7;

  expect(create("exeunt", &base, nullptr, &factory, 1, &count) != nullptr, "1.20 is too old");
  expect(sentence == "exeunt: this is ONNX Runtime 1.20.1, expected 1.24 or newer", "names both");
  expect(count == 0 && factory == nullptr, "no factory of an old one");

  newest = 29;
  version = "1.29.0";
  expect(create("exeunt", &base, nullptr, &factory, 0, &count) != nullptr, "no room");
  expect(sentence == "exeunt: no room for a factory" && count == 0, "says so");

  expect(create("exeunt", &base, nullptr, &factory, 1, &count) == nullptr, "1.29 is taken");
  expect(count == 1 && factory != nullptr, "one factory");
  expect(std::strcmp(factory->GetName(factory), "ExeuntExecutionProvider") == 0, "its name");
  expect(factory->ort_version_supported == exn::ort::kApiVersion, "its version");
  size_t found = 0;
  expect(factory->GetNumCustomOpDomains(factory, &found) == nullptr && found == 1, "a domain");
  expect(domains == 1 && ops == 4, "of four ops");
  release(factory);
  expect(domains == 0, "which goes with the factory");
  std::printf("%s\n", failures == 0 ? "passed" : "failed");
  return failures != 0;
}
