// SPDX-License-Identifier: Apache-2.0
#include "tuning.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/platform/platform.h"
#include "choices.h"
#include "cpu_features.h"

namespace exn::cpu {

Tuning in_force;

namespace {

#define EXN_VALUES(name, ...) constexpr int k_##name[] = {__VA_ARGS__};
EXN_FOR_EACH_CHOICE(EXN_VALUES)
#undef EXN_VALUES

// What is in force, for people. A run may be the first call of a process, and must not allocate.
struct Story {
  std::mutex lock;
  char isa[24] = "";
  char source[1200] = "the defaults";
  Findings findings;
};
Story story;

// What a core with these caches does well without having been measured.
struct Defaults {
#define EXN_DEFAULT(name, ...) int name;
  EXN_FOR_EACH_CHOICE(EXN_DEFAULT)
#undef EXN_DEFAULT
};

int far_mib_of(int64_t l3) {
  const int64_t half = l3 == 0 ? 16 : l3 >> 21;
  return half >= 64 ? 64 : half >= 32 ? 32 : half >= 16 ? 16 : 8;
}

Defaults defaults_of(const Processor& p) {
  // Cores with an L2 of more than 1 MiB were seen to need requests for what they read on, and to
  // keep those that they get; others read ahead by themselves. Unknown: as the former.
  const bool large = p.l2 == 0 || p.l2 > (int64_t{1} << 20);
  Defaults d = {};
  d.prefetch_streams = large;
  d.prefetch_alternates = large;
  d.prefetch_again = !large;
  // With the smaller L1 more requests are lost, with the larger one they take the time of loads.
  d.stream_requests = !large && p.l1 <= (int64_t{32} << 10) ? 4 : 0;
  d.blocks_stay = !large;
  d.blocks_at_once = large ? 8 : 5;
  d.cached_ticks = large ? 0 : 200;
  d.far_mib = far_mib_of(p.l3);
  return d;
}

void list_defaults(int (&values)[kChoiceCount]) {
  const Defaults d = defaults_of(processor());
  int i = 0;
#define EXN_LIST(name, ...) values[i++] = d.name;
  EXN_FOR_EACH_CHOICE(EXN_LIST)
#undef EXN_LIST
}

// Of one line without its comment; false, with a sentence: it is none.
bool read_line(const char* line, int number, int (&values)[kChoiceCount], char* why, int size) {
  char name[40] = "", more = 0;
  int value = 0;
  const int words = std::sscanf(line, " %39s %d %c", name, &value, &more);
  if (words < 1) return true;
  if (words != 2) {
    std::snprintf(why, static_cast<size_t>(size), "line %d is no name and a number", number);
    return false;
  }
  for (int i = 0; i < kChoiceCount; ++i) {
    const ChoiceInfo& choice = kChoiceInfo[i];
    if (std::strcmp(choice.name, name) != 0) continue;
    for (int k = 0; k < choice.count; ++k) {
      if (choice.values[k] != value) continue;
      values[i] = value;
      return true;
    }
    int at = std::snprintf(why, static_cast<size_t>(size), "line %d: %s is %d, expected", number,
                           name, value);
    for (int k = 0; k < choice.count && at < size; ++k)
      at += std::snprintf(why + at, static_cast<size_t>(size - at), "%s %d", k > 0 ? "," : "",
                          choice.values[k]);
    return false;
  }
  std::snprintf(why, static_cast<size_t>(size), "line %d: there is no choice %s", number, name);
  return false;
}

void make(const int (&values)[kChoiceCount], const char* source, const Findings& findings) {
  const std::lock_guard<std::mutex> guard(story.lock);
  for (int i = 0; i < kChoiceCount; ++i) kChoiceInfo[i].made->choose(values[i]);
  std::snprintf(story.source, sizeof story.source, "%s", source);
  story.findings = findings;
}

constexpr size_t kMostText = 4096;

// False, with a sentence, if the file is no tuning; a file that must be there, or may be missing.
bool read_tuning_file(const char* file, bool must, char* why, int size) {
  char text[kMostText + 1];
  const int64_t bytes = platform::read_file(file, text, kMostText);
  if (bytes < 0 && !must) {
    why[0] = 0;
    return false;
  }
  if (bytes < 0 || bytes == static_cast<int64_t>(kMostText)) {
    std::snprintf(why, static_cast<size_t>(size),
                  bytes < 0 ? "it cannot be read" : "it is longer than 4 KiB");
    return false;
  }
  text[bytes] = 0;
  return read_tuning(text, file, why, size);
}

}  // namespace

const ChoiceInfo kChoiceInfo[kChoiceCount] = {
#define EXN_INFO(name, ...) \
  {#name, k_##name, static_cast<int>(sizeof k_##name / sizeof k_##name[0]), &in_force.name},
    EXN_FOR_EACH_CHOICE(EXN_INFO)
#undef EXN_INFO
};

bool read_tuning(const char* text, const char* source, char* why, int size) {
  int values[kChoiceCount];
  list_defaults(values);
  int number = 1;
  for (const char* at = text; *at != 0; ++number) {
    const size_t length = std::strcspn(at, "\n"), said = std::strcspn(at, "#\n");
    char line[128];
    if (said >= sizeof line) {
      std::snprintf(why, static_cast<size_t>(size), "line %d is no name and a number", number);
      return false;
    }
    std::memcpy(line, at, said);
    line[said] = 0;
    if (!read_line(line, number, values, why, size)) return false;
    at += length;
    if (*at == '\n') ++at;
  }
  make(values, source, Findings());
  return true;
}

void begin_tuning(const char* isa) {
  {
    const std::lock_guard<std::mutex> guard(story.lock);
    std::snprintf(story.isa, sizeof story.isa, "%s", isa);
  }
  const char* const asked = std::getenv("EXEUNT_TUNING");
  const bool named = asked != nullptr && *asked != 0;
  char file[1024], why[200], source[1200];
  std::snprintf(source, sizeof source, "the defaults");
  if (named ? std::strcmp(asked, "default") != 0 : tuning_file(isa, file, sizeof file)) {
    const char* const path = named ? asked : file;
    if (read_tuning_file(path, named, why, sizeof why)) return;
    if (why[0] != 0)
      std::snprintf(source, sizeof source, "the defaults, as of %.900s %s", path, why);
  }
  int values[kChoiceCount];
  list_defaults(values);
  make(values, source, Findings());
}

const char* tuning_text() {
  static thread_local char text[kMostText];
  const std::lock_guard<std::mutex> guard(story.lock);
  const Processor& p = processor();
  int at =
      std::snprintf(text, sizeof text, "# %s, L1 %lld, L2 %lld, L3 %lld KiB, %s\n# %s\n", p.name,
                    static_cast<long long>(p.l1 >> 10), static_cast<long long>(p.l2 >> 10),
                    static_cast<long long>(p.l3 >> 10), story.isa, story.source);
  for (int i = 0; i < kChoiceCount; ++i) {
    const char* const found = story.findings.of[i];
    at += std::snprintf(text + at, sizeof text - static_cast<size_t>(at), "%s %d%s%s\n",
                        kChoiceInfo[i].name, static_cast<int>(*kChoiceInfo[i].made),
                        found[0] != 0 ? "  # " : "", found);
  }
  return text;
}

void note_tuning(const char* source, const Findings& findings) {
  const std::lock_guard<std::mutex> guard(story.lock);
  std::snprintf(story.source, sizeof story.source, "%s", source);
  story.findings = findings;
}

bool tuning_file(const char* isa, char* to, int size) {
  const Processor& p = processor();
  char folder[700];
  if (p.name[0] == 0 || !platform::cache_folder(folder, sizeof folder)) return false;
  char name[sizeof p.name];
  for (size_t i = 0; i < sizeof name; ++i) name[i] = p.name[i] == '/' ? '-' : p.name[i];
  const int length =
      std::snprintf(to, static_cast<size_t>(size), "%s/exeunt/tuning-%s-%lld-%lld-%lld-%s.txt",
                    folder, name, static_cast<long long>(p.l1 >> 10),
                    static_cast<long long>(p.l2 >> 10), static_cast<long long>(p.l3 >> 10), isa);
  return length < size;
}

}  // namespace exn::cpu
