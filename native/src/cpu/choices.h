// SPDX-License-Identifier: Apache-2.0
// The choices of tuning.h as a list: text that says them, files that keep them.
#pragma once

#include "tuning.h"

namespace exn::cpu {

struct ChoiceInfo {
  const char* name;
  const int* values;
  int count;
  Choice* made;
};

#define EXN_COUNT(name, ...) +1
constexpr int kChoiceCount = EXN_FOR_EACH_CHOICE(EXN_COUNT);
#undef EXN_COUNT

extern const ChoiceInfo kChoiceInfo[kChoiceCount];

// What calibrate() found of each choice, for people; may be empty.
struct Findings {
  char of[kChoiceCount][160] = {};
};

// Begins with what EXEUNT_TUNING names for this set, or the file that tune() wrote, or the defaults.
void begin_tuning(const char* isa);

// Lines `name value` and comments, which begin with #. Valid until the thread's next call.
const char* tuning_text();

// Makes the choices that the text names, and the others by default. False, with a sentence in why:
// nothing was changed.
bool read_tuning(const char* text, const char* source, char* why, int size);

// Says what calibrate() chose, from now on.
void note_tuning(const char* source, const Findings& findings);

// The file of this processor and set in the user's cache folder. False: there is no folder.
bool tuning_file(const char* isa, char* to, int size);

}  // namespace exn::cpu
