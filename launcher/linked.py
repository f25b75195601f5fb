#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What of others is linked into the native libraries, as their linkers say.

  linked.py check BUILD           NOTICE names all that is in the libraries of a build
  linked.py sbom FOLDER VERSION   adds it to the CycloneDX lists of what Maven has staged

A build has in maps what GNU ld says of each library (exeunt_hardening in native/CMakeLists.txt), or in
links the commands that zig gave its linkers (launcher/platform.sh). An archive that is not in the
table ends with an error.
"""

import json
import pathlib
import re
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"
LLVM = "Apache-2.0 WITH LLVM-exception"
# Component: the files it comes in, what tells its version, its licence.
PARTS = {
    "libstdc++": (r"libstdc\+\+\.a", "gcc", GCC),
    "libgcc": (r"libgcc(_eh)?\.a|crt(begin|end)\w*\.o", "gcc", GCC),
    "glibc": (r"crt[in]\.o|libc_nonshared\.a", "glibc", "LGPL-2.1-or-later WITH GCC-exception-2.0-note"),
    "CUDA Runtime": (r"libcuda(rt_static|devrt)\.a", "nvcc", "NVIDIA CUDA Toolkit EULA"),
    "libc++": (r"(lib)?c\+\+\.(a|lib)", "libcxx", LLVM),
    "libc++abi": (r"(lib)?c\+\+abi\.(a|lib)", "libcxx", LLVM),
    "libunwind": (r"(lib)?unwind\.(a|lib)", "libcxx", LLVM),
    "compiler-rt of zig": (r"(lib)?compiler_rt\.(a|o|lib|obj)", "zig", "MIT"),
    "libc of zig": (r"(lib)?zigc\.(a|lib)", "zig", "MIT"),
    "mingw-w64": (r"libmingw32\.lib|dllcrt2\.obj", "mingw", "ZPL-2.1"),
}
# These say in which library of the system a function is, and leave nothing else.
IMPORTS = re.compile(r"(api-ms-win-[\w-]+|advapi32|kernel32|ntdll|psapi|shell32|user32)\.lib")


def refuse(sentence):
    sys.exit(f"exeunt: linked.py: {sentence}")


def component(path):
    """The name in the table of what was linked; none if it is but a description of the system."""
    name = pathlib.PurePath(path).name
    if IMPORTS.fullmatch(name):
        return None
    for part, (pattern, _, _) in PARTS.items():
        if re.fullmatch(pattern, name):
            return part
    return refuse(f"'{path}' is linked in, and PARTS in launcher/linked.py does not have it")


def of_map(text):
    """Members of archives, and objects that are not of this build, in a map of GNU ld."""
    archives = re.findall(r"^(\S+\.a)\([^)\n]*\)$", text.partition("\nMemory Configuration")[0], flags=re.M)
    return {*archives, *re.findall(r"^LOAD (/usr/\S+\.o)$", text, flags=re.M)}


def of_command(command):
    """What zig brings lies in its cache."""
    return {word for word in command.split() if re.search(r"/o/[0-9a-f]{32}/[^/]+\.(a|o|lib|obj)$", word)}


def linked(build, library):
    """The components of a library that was built in a folder."""
    stem = re.sub(r"^lib|\..*$", "", library)
    path = build / "maps" / f"{stem}.map"
    if path.exists():
        found = of_map(path.read_text(errors="replace"))
    else:
        links = build / "links"
        commands = [line for line in (links.read_text().splitlines() if links.exists() else [])
                    if re.search(rf"(-OUT:|-o )(\S*/)?{re.escape(library)}( |$)", line)]
        found = of_command(commands[-1]) if commands else set()
    if not found:
        refuse(f"{build} does not say what {library} was linked of")
    return {part for part in map(component, found) if part}


def known(build, name):
    """What CMake has of a name in its cache, or found out about compilers."""
    for file in (build / "CMakeCache.txt", *build.glob("CMakeFiles/*/CMake*Compiler.cmake")):
        match = re.search(rf'^(?:{name}:\w+=(.*)|set\({name} "(.*)"\))$', file.read_text(), flags=re.M)
        if match:
            return match[1] or match[2]
    return refuse(f"CMake has no {name} in {build}")


def say(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def version(build, source):
    """Of the compiler, or of a library that comes with it."""
    if source == "gcc":
        return say(known(build, "CMAKE_CXX_COMPILER"), "-dumpfullversion").strip()
    if source == "glibc":
        macros = say(known(build, "CMAKE_CXX_COMPILER"), "-E", "-dM", "-include", "features.h", "-x", "c",
                     "/dev/null")
        return ".".join(re.search(rf"define {name} (\d+)", macros)[1] for name in ("__GLIBC__", "__GLIBC_MINOR__"))
    if source == "nvcc":
        return known(build, "CMAKE_CUDA_COMPILER_VERSION")
    zig = pathlib.Path(known(build, "EXN_ZIG"))
    if source == "zig":
        return say(zig, "version").strip()
    if source == "libcxx":
        config = (zig.parent / "lib/libcxx/include/__config").read_text()
        number = int(re.search(r"define _LIBCPP_VERSION (\d+)", config)[1])
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    header = (zig.parent / "lib/libc/include/any-windows-any/_mingw_mac.h").read_text()
    return ".".join(re.search(rf"define __MINGW64_VERSION_{name} (\d+)", header)[1]
                    for name in ("MAJOR", "MINOR", "BUGFIX"))


def check(build):
    """Of what is shipped of this build; Maven links jniexeunt, later."""
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    for library in ("exeunt", "exeunt_ort", "exeunt_cuda", "jniexeunt"):
        there = build / ("maps/jniexeunt.map" if library == "jniexeunt" else f"lib/lib{library}.so")
        if not there.exists():
            continue
        parts = sorted(linked(build, library))
        for part in parts:
            if part not in notice:
                refuse(f"{library} has {part} linked in, which NOTICE does not name")
        print(f"{library}: {', '.join(f'{part} {version(build, PARTS[part][1])}' for part in parts)}")


def natives(place):
    """Of the jars of an artifact: platform, and name of each library within."""
    for path in sorted(place.glob("*.jar")):
        with zipfile.ZipFile(path) as jar:
            for name in sorted(jar.namelist()):
                if re.search(r"\.(so|dll|dylib)$", name):
                    yield name


def add(path):
    """Adds to the list of an artifact what is linked into its libraries."""
    found = {}
    for name in natives(path.parent):
        platform = pathlib.PurePath(name).parent.name
        here = platform.startswith("linux-x86_64")
        build = ROOT / "build" / ("native" if here else f"platform/{platform}")
        for part in linked(build, pathlib.PurePath(name).name):
            found.setdefault((part, version(build, PARTS[part][1])), []).append(name)
    if not found:
        return
    sbom = json.loads(path.read_text())
    refs = []
    for (part, number), names in sorted(found.items()):
        licence = PARTS[part][2]
        refs.append(f"linked:{part.replace(' ', '-')}@{number}")
        sbom["components"].append({
            "type": "library", "bom-ref": refs[-1], "name": part, "version": number,
            "licenses": [{"expression": licence} if "NVIDIA" not in licence else {"license": {"name": licence}}],
            "properties": [{"name": "exeunt:linked-into", "value": name} for name in names]})
    own = sbom["metadata"]["component"]["bom-ref"]
    for dependency in sbom["dependencies"]:
        if dependency["ref"] == own:
            dependency["dependsOn"] = [*dependency.get("dependsOn", []), *refs]
    sbom["dependencies"] += [{"ref": ref, "dependsOn": []} for ref in refs]
    path.write_text(json.dumps(sbom, indent=2, ensure_ascii=False) + "\n")


def main():
    if sys.argv[1:2] == ["check"] and len(sys.argv) == 3:
        check(pathlib.Path(sys.argv[2]))
    elif sys.argv[1:2] == ["sbom"] and len(sys.argv) == 4:
        for path in sorted(pathlib.Path(sys.argv[2]).glob(f"org/exeunt/*/{sys.argv[3]}/*-cyclonedx.json")):
            add(path)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
