#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the jars hold: natives in the jar of their platform and nowhere else, without the paths
of the machine that built them.

  check_jars.py ROOT VERSION PLATFORM NATIVE_BUILD

NATIVE_BUILD is CMake's folder: the -cuda jar must hold libexeunt_cuda.so exactly when that was
built, and is not left over from a build before CUDA was switched off.
"""

import pathlib
import re
import sys
import tempfile
import zipfile

import elf


def natives(jar):
    names = zipfile.ZipFile(jar).namelist()
    return {name for name in names if re.search(r"\.(so|dll|dylib)(\.\d+)*$", name)}


def main():
    root, version, platform, build = sys.argv[1:]
    root, build = pathlib.Path(root), pathlib.Path(build)
    jni = root / "jni-gen/target" / f"exeunt-jni-{version}"
    folder = f"org/exeunt/{platform}"
    switched_off = "EXN_CUDA:STRING=OFF" in (build / "CMakeCache.txt").read_text()
    built = not switched_off and (build / "lib/libexeunt_cuda.so").exists()
    expected = {
        pathlib.Path(f"{jni}.jar"): set(),
        pathlib.Path(f"{jni}-{platform}.jar"):
            {f"{folder}/libexeunt.so", f"{folder}/libjniexeunt.so"},
        pathlib.Path(f"{jni}-{platform}-cuda.jar"):
            {f"{folder}-cuda/libexeunt_cuda.so"} if built else set(),
        root / "java/target" / f"exeunt-{version}.jar": set(),
    }
    problems = elf.Problems()
    for jar, wanted in expected.items():
        if not jar.exists():
            problems.expect(False, f"{jar} was not built")
            continue
        found = natives(jar)
        problems.expect(found == wanted, f"{jar.name} holds the natives {sorted(found)}, "
                        f"expected {sorted(wanted)}")
        print(f"{jar.name}: {', '.join(sorted(found)) or 'no natives'}")
        with tempfile.TemporaryDirectory() as scratch:
            for name in sorted(found):
                check_native(pathlib.Path(zipfile.ZipFile(jar).extract(name, scratch)), problems)
    for jar in (pathlib.Path(f"{jni}.jar"), root / "java/target" / f"exeunt-{version}.jar"):
        if jar.exists():
            problems.expect("module-info.class" in zipfile.ZipFile(jar).namelist(),
                            f"{jar.name} is no module")
    problems.finish()


def check_native(library, problems):
    """A library inside a jar finds its neighbours beside itself, or needs no neighbours."""
    for tag in ("RUNPATH", "RPATH"):
        for path in elf.dynamic(library, tag):
            problems.expect(path.rstrip("/") == "$ORIGIN",
                            f"{library.name} carries the {tag} {path}")
    ceiling = elf.glibc_ceiling(library)
    print(f"  {library.name}: glibc {ceiling[0]}.{ceiling[1]} or newer, "
          f"needs {', '.join(elf.dynamic(library, 'NEEDED'))}")


main()
