#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the jars hold: natives with their digests in the jar of their platform and nowhere else,
hardened and without the paths of the machine that built them; modules; what native-image has to
know; licences; the sources of all ops; nothing left over.

  check_jars.py ROOT VERSION PLATFORM NATIVE_BUILD

NATIVE_BUILD is CMake's folder: the -cuda jar must hold libexeunt_cuda.so exactly when that was
built, and is not left over from a build before CUDA was switched off.
"""

import hashlib
import json
import pathlib
import re
import sys
import tempfile
import zipfile
import zlib

import elf


def natives(names):
    return {name for name in names if re.search(r"\.(so|dll|dylib)(\.\d+)*$", name)}


def main():
    root, version, platform, build = sys.argv[1:]
    root, build = pathlib.Path(root), pathlib.Path(build)
    jni = root / "jni-gen/target" / f"exeunt-jni-{version}"
    ort = root / "onnxruntime/target" / f"exeunt-onnxruntime-{version}"
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
        pathlib.Path(f"{ort}.jar"): set(),
        pathlib.Path(f"{ort}-{platform}.jar"): {f"{folder}/libexeunt_ort.so"},
    }
    problems = elf.Problems()
    for path, wanted in expected.items():
        if path.exists():
            with zipfile.ZipFile(path) as jar:
                check_jar(path.name, jar, wanted, root, problems)
        else:
            problems.expect(False, f"{path} was not built")
    for path in (pathlib.Path(f"{jni}.jar"), pathlib.Path(f"{jni}-{platform}.jar"),
                 pathlib.Path(f"{jni}-{platform}-cuda.jar"),
                 root / "java/target" / f"exeunt-{version}.jar"):
        if path.exists():
            problems.expect("module-info.class" in zipfile.ZipFile(path).namelist(),
                            f"{path.name} is no module")
    check_image(pathlib.Path(f"{jni}.jar"), pathlib.Path(f"{jni}-{platform}.jar"), folder, problems)
    check_sources(root, root / "java/target" / f"exeunt-{version}-sources.jar", problems)
    problems.finish()


def check_image(binding, natives_jar, folder, problems):
    """native-image is told of what libjniexeunt.so looks up by name, and of all resources."""
    known, patterns = {}, []
    for path in (binding, natives_jar):
        with zipfile.ZipFile(path) as jar:
            for entry in jar.namelist():
                if re.fullmatch(r"META-INF/native-image/.*/jni-config\.json", entry):
                    known.update({found["name"]: found for found in json.loads(jar.read(entry))})
                elif re.fullmatch(r"META-INF/native-image/.*/resource-config\.json", entry):
                    resources = json.loads(jar.read(entry))["resources"]
                    listed = resources["includes"] if isinstance(resources, dict) else resources
                    patterns += [resource["pattern"] for resource in listed]
    with zipfile.ZipFile(natives_jar) as jar:
        library = jar.read(f"{folder}/libjniexeunt.so")
        for entry in jar.namelist():
            if entry.startswith(folder) and not entry.endswith("/"):
                problems.expect(any(re.fullmatch(pattern, entry) for pattern in patterns),
                                f"no resource-config.json has {entry}")
    classes = set(re.findall(rb"(?<=\0)(?:java|javax|org)/[\w/$]+(?=\0)", library))
    problems.expect(len(classes) > 50, f"libjniexeunt.so looks up {len(classes)} classes only")
    for name in sorted(found.decode().replace("/", ".") for found in classes):
        # Of structs and exceptions the library makes objects by what it knows of Pointer.
        members = name.startswith(("org.bytedeco.", "java.nio.", "java.lang.String"))
        problems.expect(name in known and not (members and len(known[name]) < 9),
                        f"no jni-config.json has {name} with what the library looks up")


def check_sources(root, path, problems):
    """Every op's source is there, most of which the build makes."""
    names = zipfile.ZipFile(path).namelist() if path.exists() else []
    op = (root / "java/src/main/java/org/exeunt/Op.java").read_text()
    for name in re.findall(r"\w+", re.search(r"\bpermits\b(.*?)\{", op, re.DOTALL)[1]):
        problems.expect(f"org/exeunt/{name}.java" in names, f"{path.name} has no {name}.java")


def check_jar(name, jar, wanted, root, problems):
    names = [entry for entry in jar.namelist() if not entry.endswith("/")]
    found = natives(names)
    problems.expect(found == wanted, f"{name} holds the natives {sorted(found)}, "
                    f"expected {sorted(wanted)}")
    print(f"{name}: {', '.join(sorted(found)) or 'no natives'}")
    digests = {f"{native}.digest" for native in wanted}
    for entry in names:
        known = entry in wanted | digests or entry.startswith("META-INF/") or not wanted and (
            entry.endswith(".class") and "-cuda" not in name)
        known = known or re.fullmatch(r"module-info\.class|org/exeunt/jni/.*/Libraries\.class", entry)
        problems.expect(known, f"{name} holds {entry}, which does not belong there")
    for text in ("LICENSE", "NOTICE"):
        entry = f"META-INF/{text}"
        problems.expect(entry in names and jar.read(entry) == (root / text).read_bytes(),
                        f"{name} does not hold {text} as it stands in the tree")
    with tempfile.TemporaryDirectory() as scratch:
        for native in sorted(found):
            check_native(pathlib.Path(jar.extract(native, scratch)), problems)
            packed = jar.read(native)
            digest = (f"{hashlib.sha256(packed).hexdigest()} {zlib.crc32(packed):08x} "
                      f"{len(packed)}\n")
            entry = f"{native}.digest"
            problems.expect(entry in names and jar.read(entry).decode() == digest,
                            f"{name} does not hold {entry} of the library that it holds")


def check_native(library, problems):
    """A library inside a jar finds its neighbours beside itself, or needs no neighbours."""
    for tag in ("RUNPATH", "RPATH"):
        for path in elf.dynamic(library, tag):
            problems.expect(path.rstrip("/") == "$ORIGIN",
                            f"{library.name} carries the {tag} {path}")
    for weakness in elf.weaknesses(library):
        problems.expect(False, f"{library.name} {weakness}")
    ceiling = elf.glibc_ceiling(library)
    problems.expect(not elf.too_new(library), f"{library.name} needs glibc {ceiling[0]}.{ceiling[1]}")
    print(f"  {library.name}: glibc {ceiling[0]}.{ceiling[1]} or newer, "
          f"needs {', '.join(elf.dynamic(library, 'NEEDED'))}")


main()
