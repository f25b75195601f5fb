#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the Java ops are made of: the headers as they are suffice, docs/ops.md and the lists of ops in
sources have what they say, and a header that lacks what it needs is named with struct, field and
reason, and nothing is written.

  builders_test.py ROOT
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import elf

# A header, what is replaced in it once, by what, and the sentence.
FAULTS = [
    ("cosine.h", "compact. The similarities.", "compact",
     "native/include/exeunt/cosine.h: exn_cosine_params, field out: has no sentence after 'out, "
     "[R], f32, compact.' that says what it is"),
    ("cosine.h", "/**< out, [R]", "/**< [R]",
     "native/include/exeunt/cosine.h: exn_cosine_params, field out: does not begin with in, out or "
     "in-out: '[R], f32, compact. The similarities.'"),
    ("column_norms.h", r"float scale; .*?\*/", "float scale;",
     "native/include/exeunt/column_norms.h: exn_column_norms_params, field scale: has no comment"),
    ("perp_grad.h", "int32_t form; ", "int32_t shape; ",
     "native/include/exeunt/perp_grad.h: exn_perp_grad_params, field shape: is of int32_t and says "
     "'EXN_PERP_CODE or EXN_PERP_PAPER', which partial/PerpGrad.java has to give a Java field for"),
    ("prune.h", "exn_prune_apply_params", "exn_prune_params",
     "Op permits PruneApply, but no header has its params struct"),
]


# Lists of ops in sources.
LISTS = ["native/include/exeunt/exeunt.h", "native/src/base/ops.h",
         "java/src/main/java/org/exeunt/Op.java"]


def make(classes, tree, *more):
    # In Turkish, i and I are no pair: what is made depends on no language.
    return subprocess.run(["java", "-XX:TieredStopAtLevel=1", "-Duser.language=tr", "-cp", classes,
                           "Builders", tree, *more], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def main():
    root, problems = pathlib.Path(sys.argv[1]), elf.Problems()
    if not shutil.which("javac"):
        print("there is no javac")
        sys.exit(3)
    with tempfile.TemporaryDirectory() as folder:
        tree, classes = pathlib.Path(folder, "tree"), pathlib.Path(folder, "classes")
        subprocess.run(["javac", "-d", classes, root / "java/src/build/Builders.java"], check=True)
        done = make(classes, root, "check")
        problems.expect(done.returncode == 0, f"the headers do not suffice:\n{done.stdout}")
        page = pathlib.Path(folder, "ops.md")
        shutil.copy(root / "docs/ops.md", page)
        make(classes, root, "docs", page)
        problems.expect(page.read_text() == (root / "docs/ops.md").read_text(), "docs/ops.md is not "
                        "current: java java/src/build/Builders.java . docs docs/ops.md")
        shutil.copytree(root / "native/include", tree / "native/include")
        shutil.copytree(root / "java/src/main", tree / "java/src/main")
        shutil.copytree(root / "ops/java", tree / "ops/java")
        shutil.copytree(root / "native/src/base", tree / "native/src/base")
        make(classes, tree, "lists")
        for name in LISTS:
            problems.expect((tree / name).read_text() == (root / name).read_text(), f"{name} is not "
                            "current: java java/src/build/Builders.java . lists")
        for header, text, fault, sentence in FAULTS:
            path = tree / "native/include/exeunt" / header
            sound = path.read_text()
            broken, count = re.subn(text if ".*" in text else re.escape(text), fault, sound,
                                    flags=re.DOTALL, count=0 if "_params" in text else 1)
            problems.expect(count > 0, f"{header} has no '{text}'")
            path.write_text(broken)
            done = make(classes, tree, "builders", tree / "made")
            path.write_text(sound)
            problems.expect(done.returncode == 1 and sentence in done.stdout.splitlines(),
                            f"{header} without '{text}': expected '{sentence}', got "
                            f"{done.returncode} and:\n{done.stdout}")
            problems.expect(not (tree / "made").exists(), f"{header}: something was written")
    print(f"{len(FAULTS)} faults")
    problems.finish()


if __name__ == "__main__":
    main()
