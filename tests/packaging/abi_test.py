#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_abi.py on a small header that changes: what may change passes, what may not is named.

  abi_test.py CC
"""

import pathlib
import subprocess
import sys
import tempfile

HEADER = """#include <stddef.h>
#include <stdint.h>
#define EXN_API
#define EXN_ABI_VERSION 1
enum { EXN_ONE = 1, /* not = 9 */ EXN_TWO = 2 };
typedef struct exn_a_params {
  uint64_t struct_size; /**< bytes; of them */
  const float* x;
  int32_t n;
  int32_t reserved;
} exn_a_params;
EXN_API int32_t exn_a(const exn_a_params* params, void* workspace,
                      size_t bytes);
EXN_API const char* exn_name(void);
"""
CHANGES = (  # what, old, new, the sentence; none if that may be
    ("nothing", "", "", None),
    ("another name of a parameter", "size_t bytes", "size_t size", None),
    ("a function more", "EXN_API const", "EXN_API int exn_b(int x);\nEXN_API const", None),
    ("a constant more", "EXN_TWO = 2", "EXN_TWO = 2, EXN_THREE = 3", None),
    ("a field at the end", "reserved;", "reserved;\n  float* y;", None),
    ("another ABI", "EXN_ABI_VERSION 1\nenum { EXN_ONE = 1", "EXN_ABI_VERSION 2\nenum { EXN_ONE = 5", None),
    ("a function that is gone", "EXN_API const char* exn_name(void);", "", "function exn_name is gone"),
    ("another parameter", "size_t bytes", "int32_t bytes", "the function exn_a is"),
    ("another result", "EXN_API const char* ", "EXN_API char* ", "the function exn_name is"),
    ("another constant", "EXN_TWO = 2", "EXN_TWO = 3", "constant EXN_TWO is '3', and was '2'"),
    ("a constant that is gone", ", /* not = 9 */ EXN_TWO = 2", "", "constant EXN_TWO is gone"),
    ("a field that moved", "  const float* x;\n  int32_t n;\n  int32_t reserved;",
     "  int32_t n;\n  int32_t reserved;\n  const float* x;", "field exn_a_params.n is '8 4"),
    ("a field between", "const float* x;", "const float* x;\n  float* y;",
     "exn_a_params.y is new and begins at byte 16, within the 24"),
    ("a field of another type", "int32_t n;", "float n;", "field exn_a_params.n is '16 4 float'"),
    ("a field in place of one", "int32_t reserved;", "int32_t m;", "field exn_a_params.reserved is gone"),
    ("a smaller struct", "  int32_t n;\n  int32_t reserved;\n", "", "has 16 bytes, less than 24"),
)


def check_unreleased(root, header, check):
    """The record of the version to be released follows the headers; that of a release stays."""
    wrong = 0

    def expect(what, done, status, sentence):
        nonlocal wrong
        right = done.returncode == status and sentence in done.stdout
        wrong += not right
        print(f"ok    {what}" if right else f"WRONG {what}: {done.returncode}, {done.stdout}")

    header.write_text(HEADER)
    expect("a release without a record", check("--release", "0.2.0"), 1, "0.2.0.txt is not recorded")
    expect("a record", check("--record", "0.2.0"), 0, "compared with 0.1.0, 0.2.0")
    header.write_text(HEADER + "EXN_API int exn_b(int x);\n")
    expect("a function more than recorded", check(), 1, "1 lines are new, 0 are gone, such as 'function exn_b "
           "int (int)'. As long as 0.2.0 is not released")
    expect("how to record it", check(), 1, "python3 tests/packaging/check_abi.py . cc --record 0.2.0")
    expect("another record", check("--record", "0.2.0"), 0, "compared with 0.1.0, 0.2.0")
    git = ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message=a"],
                    ["tag", "v0.1.0"]):
        subprocess.run([*git, *command], check=True)
    expect("a record of a release", check("--record", "0.1.0"), 1, "as the tag v0.1.0 says: its record stays")
    return wrong


def main():
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        header = root / "native/include/exeunt/a.h"
        header.parent.mkdir(parents=True)

        def check(*arguments):
            return subprocess.run([sys.executable, pathlib.Path(__file__).with_name("check_abi.py"), root,
                                   sys.argv[1], *arguments], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False)

        (root / "CMakeLists.txt").write_text("project(exeunt VERSION 0.2.0 LANGUAGES C)\n")
        header.write_text(HEADER)
        check("--record", "0.1.0")
        for what, old, new, sentence in CHANGES:
            assert old in HEADER, old
            header.write_text(HEADER.replace(old, new, 1))
            done = check()
            right = done.returncode == (sentence is not None) and (sentence or "compared") in done.stdout
            if what == "a field at the end":
                right = right and check("--release", "0.1.0").returncode == 1
            wrong += not right
            print(f"ok    {what}" if right else f"WRONG {what}: {done.returncode}, {done.stdout}")
        wrong += check_unreleased(root, header, check)
    sys.exit(wrong > 0)


main()
