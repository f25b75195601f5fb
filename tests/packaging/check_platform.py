#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the native jar of another platform holds: check_platform.py PLATFORM JAR. Its libraries, each
with its digest, and licences; both are of that platform, show others what they should and no more,
and need nothing but what each such system has."""

import hashlib
import pathlib
import re
import sys
import tempfile
import zipfile
import zlib

import binaries
import check_library
import elf

ROOT = pathlib.Path(__file__).resolve().parents[2]
SYSTEM = re.compile(
    r"(?i)^(kernel32|ntdll|msvcrt|psapi|advapi32|api-ms-win-[-\w]+)\.dll$|^/usr/lib/lib(System\.B|c\+\+\.1)\.dylib$")


def check_entries(platform, jar, names, problems):
    folder = f"org/exeunt/{platform}"
    wanted = {f"{folder}/{name}{suffix}" for name in names for suffix in ("", ".digest")}
    wanted |= {f"META-INF/{name}" for name in ("MANIFEST.MF", "LICENSE", "NOTICE")}
    wanted |= {"module-info.class", f"org/exeunt/jni/{platform.replace('-', '/')}/Libraries.class"}
    problems.expect(set(jar.namelist()) == wanted, f"holds {sorted(jar.namelist())}")
    for name in names:
        content = jar.read(f"{folder}/{name}")
        digest = f"{hashlib.sha256(content).hexdigest()} {zlib.crc32(content):08x} {len(content)}"
        problems.expect(jar.read(f"{folder}/{name}.digest").decode().strip() == digest,
                        f"the digest of {name} is another's")
        problems.expect(str(ROOT).encode() not in content, f"{name} names the folder of its build")


def check_exports(name, exports, problems):
    if "jni" in name:
        strays = {export for export in exports if not export.startswith("Java_org_exeunt_")}
        strays -= {"JNI_OnUnload", "exn_structs_on_load"}
        problems.expect(exports - strays, f"{name} has no native methods")
        problems.expect(not strays, f"{name} exports {sorted(strays)[:5]}")
    else:
        wanted = check_library.declared(ROOT / "native/include/exeunt")
        problems.expect(exports == wanted, f"{name} exports {sorted(exports - wanted)[:5]} besides, and "
                        f"lacks {sorted(wanted - exports)[:5]}")


def check_linux(name, content, problems):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        check_exports(name, elf.exports(file.name), problems)
        needs = {need for need in elf.dynamic(file.name, "NEEDED") if not check_library.ALLOWED.match(need)}
        if "jni" in name:
            needs = {need for need in needs if not re.match(r"libexeunt\.so\.\d+$", need)}
        problems.expect(not needs, f"{name} needs {sorted(needs)}")
        ceiling = elf.glibc_ceiling(file.name)
        problems.expect(ceiling <= (2, 28), f"{name} needs glibc {ceiling}")
        for weakness in elf.weaknesses(file.name):
            problems.expect(False, f"{name} {weakness}")
        return f"glibc {'.'.join(map(str, ceiling))}"


def check_other(platform, name, content, problems):
    library = binaries.read(content)
    problems.expect(library.machine == platform.split("-")[1], f"{name} is for {library.machine}")
    windows = name.endswith(".dll")
    if not windows:  # zig's linker shows what it defines itself; nobody else's names are bound to these
        library.exports -= {"__dso_handle", "_mh_dylib_header"}
    check_exports(name, library.exports, problems)
    own = name if windows else f"@rpath/{name}"
    problems.expect(library.name == own, f"{name} is called {library.name}, not {own}")
    needs = {need for need in library.needs if not SYSTEM.match(need)}
    problems.expect(needs == ({"exeunt.dll"} if windows and "jni" in name else set()),
                    f"{name} needs {sorted(needs)}")
    if windows:
        problems.expect(library.flags & 0x160 == 0x160, f"{name} may not be moved, or its data be run")
    else:
        problems.expect(library.system == (11, 0), f"{name} asks for macOS {library.system}, not 11.0")
    return f"{len(library.exports)} exports, needs {', '.join(sorted(library.needs))}"


def main():
    platform, path = sys.argv[1:]
    suffix = {"windows": "dll", "macosx": "dylib", "linux": "so"}[platform.split("-")[0]]
    prefix = "" if suffix == "dll" else "lib"
    names = [f"{prefix}{name}.{suffix}" for name in ("exeunt", "jniexeunt")]
    problems = elf.Problems()
    with zipfile.ZipFile(path) as jar:
        check_entries(platform, jar, names, problems)
        for name in names:
            content = jar.read(f"org/exeunt/{platform}/{name}")
            said = (check_linux(name, content, problems) if suffix == "so" else
                    check_other(platform, name, content, problems))
            print(f"{name}: {len(content)} bytes, {said}")
    problems.finish()


main()
