#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs of others find an installed exeunt and run on it.

  installed_test.py cmake CMAKE BUILD
  installed_test.py foreign LIBRARY

cmake: by find_package and by pkg-config, from a folder that was moved since, and not where they ask
for a version that this is not; with the shared library, by the name of its ABI, and with the static
one. foreign: through java.lang.foreign, without JavaCPP; status 3 where no JDK 22 or newer is found.
"""

import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import elf

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
HEAD = ["token 0, p 0.7413", "token 1, p 0.5845"]


def run(*command, fails=False, status=None, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                          **options)
    if (done.returncode != 0) != fails or status is not None and done.returncode != status:
        raise SystemExit(f"{' '.join(map(str, command))}: status {done.returncode}\n"
                         f"{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def expect(said, *lines):
    for line in lines:
        if line not in said:
            raise SystemExit(f"expected '{line}' in:\n{said}")


def check_program(program, needs, expected, **options):
    """It runs, and of libexeunt needs this name alone, or nothing."""
    needed = [name for name in elf.dynamic(program, "NEEDED") if "exeunt" in name]
    if needed != needs:
        raise SystemExit(f"{program} needs {needed}, not {needs}")
    expect(run(program, **options), *expected)


def check_cmake(cmake, build):
    header = (EXAMPLES.parent / "native/include/exeunt/core.h").read_text()
    soname = "libexeunt.so." + re.search(r"#define EXN_ABI_VERSION (\d+)", header)[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run(cmake, "--install", build, "--prefix", folder / "first")
        prefix = folder / "moved"
        (folder / "first").rename(prefix)
        expected = [HEAD[0] + ": leaves", HEAD[1] + ": goes on"]

        example = folder / "example"
        run(cmake, "-S", EXAMPLES / "c", "-B", example, f"-DCMAKE_PREFIX_PATH={prefix}")
        run(cmake, "--build", example)
        check_program(example / "exit_head", [soname], expected)

        text = (EXAMPLES / "c/CMakeLists.txt").read_text()
        static = folder / "static"
        static.mkdir()
        (static / "CMakeLists.txt").write_text(text.replace("exeunt::exeunt)",
                                                            "exeunt::exeunt_static)"))
        shutil.copy(EXAMPLES / "c/exit_head.c", static)
        run(cmake, "-S", static, "-B", static / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
        run(cmake, "--build", static / "build")
        check_program(static / "build/exit_head", [], expected)

        other = folder / "other"
        other.mkdir()
        (other / "CMakeLists.txt").write_text(text.replace("find_package(exeunt 0.1",
                                                           "find_package(exeunt 99.1"))
        shutil.copy(EXAMPLES / "c/exit_head.c", other)
        said = run(cmake, "-S", other, "-B", other / "build", f"-DCMAKE_PREFIX_PATH={prefix}",
                   fails=True)
        expect(said, 'requested version "99.1"', 'exeunt-config.cmake, version: 0.1.0')

        if not shutil.which("pkg-config"):
            print("pkg-config: left out, it is not installed")
            return
        [described] = prefix.glob("lib*/**/exeunt.pc")
        asks = {**os.environ, "PKG_CONFIG_PATH": str(described.parent)}
        flags = run("pkg-config", "--cflags", "--libs", "exeunt", env=asks).split()
        run("pkg-config", "--exists", "exeunt >= 99", env=asks, fails=True)
        program = folder / "exit_head"
        run("cc", EXAMPLES / "c/exit_head.c", *flags, "-o", program)
        libraries = str(described.parent.parent)
        check_program(program, [soname], expected,
                      env={**os.environ, "LD_LIBRARY_PATH": libraries})
        flags = run("pkg-config", "--static", "--cflags", "--libs", "exeunt", env=asks).split()
        run("cc", "-static", EXAMPLES / "c/exit_head.c", *flags, "-o", program)
        check_program(program, [], expected)


def check_foreign(library):
    for home in [os.environ.get("JAVA_HOME", "")] + sorted(glob.glob("/usr/lib/jvm/*")):
        java = pathlib.Path(home) / "bin/java"
        if not os.access(java, os.X_OK):
            continue
        version = re.search(r'version "(\d+)', run(java, "-version"))
        if version and int(version[1]) >= 22:
            break
    else:
        print("left out: no JDK 22 or newer")
        raise SystemExit(3)
    source, options = EXAMPLES / "foreign/ExitHead.java", ["--enable-native-access=ALL-UNNAMED"]
    said = run(java, *options, source, library)
    expect(said, *HEAD, "refused: exn_exit_head: temperature is -1")
    # From its source once, as a user runs it, which compiles it each time.
    with tempfile.TemporaryDirectory() as classes:
        run(java.with_name("javac"), "-d", classes, source)
        program = [java, *options, "-cp", classes, "ExitHead"]
        expect(run(*program, "/nowhere/libexeunt.so", fails=True, status=1), "/nowhere/libexeunt.so")
        for wrong in [], ["--help"], [library, library]:
            expect(run(*program, *wrong, fails=True, status=2),
                   "usage: ExitHead.java /path/to/libexeunt.so")


if sys.argv[1] == "cmake":
    check_cmake(*sys.argv[2:])
else:
    check_foreign(*sys.argv[2:])
