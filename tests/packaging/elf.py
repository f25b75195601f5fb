# SPDX-License-Identifier: Apache-2.0
"""What the packaging checks read out of ELF files, through binutils."""

import os
import re
import subprocess

NM = os.environ.get("EXEUNT_NM", "nm")
READELF = os.environ.get("EXEUNT_READELF", "readelf")


def run(*command):
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def exports(library):
    """Names that the library defines for others, without symbol versions."""
    lines = run(NM, "--dynamic", "--defined-only", "--format=posix", library).splitlines()
    return {line.split()[0].split("@")[0] for line in lines if line.split()[1] != "A"}


def dynamic(library, tag):
    """Values of a tag of the dynamic section: NEEDED, RUNPATH, RPATH, SONAME."""
    return re.findall(rf"\({tag}\).*\[(.*)\]", run(READELF, "--dynamic", "--wide", library))


def glibc_ceiling(library):
    """The newest GLIBC_x.y that the library needs, as a tuple; one with a flag may be missing."""
    text = run(READELF, "--version-info", "--wide", library)
    versions = re.findall(r"Name: GLIBC_(\d+)\.(\d+)(?:\.\d+)?  Flags: none", text)
    return max((tuple(map(int, version)) for version in versions), default=(0, 0))


def too_new(library):
    """Whether it needs a newer glibc than 2.28, where one up to 2.36 built it: later ones have functions
    that no older one has."""
    built = tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")[:2]))
    return built <= (2, 36) and glibc_ceiling(library) > (2, 28)


def weaknesses(library):
    """What a library lacks of the hardening that every shipped one has, in sentences."""
    found = []
    flags = " ".join(re.findall(r"\(FLAGS(?:_1)?\)(.*)", run(READELF, "--dynamic", "--wide", library)))
    if "NOW" not in flags:
        found.append("binds its functions late, so that their addresses stay writable (no BIND_NOW)")
    headers = run(READELF, "--program-headers", "--wide", library)
    if "GNU_RELRO" not in headers:
        found.append("leaves what the linker has filled in writable (no RELRO)")
    if not re.search(r"GNU_STACK\s.*\sRW\s", headers):
        found.append("asks for a stack whose content can be run")
    if "__stack_chk_fail" not in run(NM, "--dynamic", "--undefined-only", library):
        found.append("was compiled without a stack protector")
    return found


class Problems:
    """Collects what is wrong; each check ends with `finish`."""

    def __init__(self):
        self.found = []

    def expect(self, condition, message):
        if not condition:
            self.found.append(message)

    def finish(self):
        for message in self.found:
            print("WRONG:", message)
        raise SystemExit(1 if self.found else 0)
