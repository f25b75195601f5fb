#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `./exeunt release` does besides building.

  release.py options OPTION...            prints, one a line: folder, version, key, yes if partial,
                                          previous release's folder; refuses what makes no sense
  release.py platforms                    the classifiers of exeunt-jni that the build itself has not
  release.py last VERSION FOLDER          the newest release before it, in native/abi or in FOLDER, and
                                          yes if nothing of it may break
  release.py finish FOLDER KEY            checksums and signatures of what Maven has staged
  release.py bundle FOLDER VERSION        what is uploaded, as one file
"""

import argparse
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
NUMBER = r"(?:0|[1-9]\d*)"
VERSION = re.compile(rf"({NUMBER}\.{NUMBER}\.{NUMBER})(?:-(?!SNAPSHOT)[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?")


def refuse(sentence):
    print(f"exeunt: release: {sentence}", file=sys.stderr)
    sys.exit(2)


class Options(argparse.ArgumentParser):
    def error(self, message):
        refuse(message.replace("argument ", ""))


def found(path, pattern):
    file = ROOT / path
    match = re.search(pattern, file.read_text(), flags=re.M) if file.exists() else None
    return match and match[1]


def others():
    """All platforms but that of Maven's build, as exeunt-platform lists them."""
    pom = (ROOT / "platform/pom.xml").read_text()
    return sorted(set(re.findall(r"<javacpp\.platform\.([^>]*)>", pom)) - {"linux-x86_64"})


def lacks(version):
    """What a tree that is released has, and this one has not."""
    if not found("CHANGELOG.md", rf"^## \[?({re.escape(version)})\]?(?:\s|$)"):
        yield f"CHANGELOG.md has no heading '## {version}'"
    if not (ROOT / f"native/abi/{version}.txt").exists():
        yield f"native/abi/{version}.txt is not recorded (tests/packaging/check_abi.py)"
    changed = subprocess.run(["git", "-C", ROOT, "status", "--porcelain"], capture_output=True,
                             text=True, check=False)
    if changed.returncode or changed.stdout:
        yield "git knows of changes that are not committed"


def options(words):
    parser = Options(prog="release", add_help=False, allow_abbrev=False)
    parser.add_argument("--stage", metavar="FOLDER")
    parser.add_argument("--version", default=re.sub("-SNAPSHOT$", "", found(
        "pom.xml", "<revision>(.*)</revision>")))
    parser.add_argument("--key", default="")
    parser.add_argument("--partial", action="store_true")
    parser.add_argument("--previous", metavar="FOLDER", default="")
    chosen, rest = parser.parse_known_args(words)
    if rest:
        refuse(f"unknown option '{rest[0]}'")
    if not chosen.stage:
        refuse("--stage FOLDER says where the release goes, and is missing")
    origin = pathlib.Path(os.environ.get("FROM", "."))
    stage = (origin / chosen.stage).absolute()
    if stage.exists() and (not stage.is_dir() or any(stage.iterdir())):
        refuse(f"--stage {chosen.stage} is there already, and not an empty folder")
    number = VERSION.fullmatch(chosen.version)
    if not number:
        refuse(f"--version '{chosen.version}' is no semantic version of a release, such as 1.2.3")
    native = found("CMakeLists.txt", r"^project\(exeunt VERSION (\S+)")
    if number[1] != native:
        refuse(f"--version '{chosen.version}' is not that of the C library, {native} in CMakeLists.txt")
    if chosen.key and subprocess.run(["gpg", "--batch", "--list-secret-keys", chosen.key],
                                     capture_output=True, check=False).returncode:
        refuse(f"--key '{chosen.key}' is no secret key that gpg has")
    previous = (origin / chosen.previous).absolute() if chosen.previous else ""
    if previous and not (previous / "org/exeunt/exeunt").is_dir():
        refuse(f"--previous {chosen.previous} is no repository with a release of exeunt")
    lacking = [] if chosen.partial else list(lacks(chosen.version))
    if lacking:
        refuse(f"{'; '.join(lacking)}; --partial goes on, to no release that can be published")
    print(stage, chosen.version, chosen.key, "yes" if chosen.partial else "", previous, sep="\n")


def platforms():
    print(*others(), sep="\n")


def last(version, folder):
    """The order of versions is semver.org's, but for pre-releases of one version."""
    def order(name):
        return [int(word) for word in name.partition("-")[0].split(".")]

    names = ([path.name for path in pathlib.Path(folder, "org/exeunt/exeunt").iterdir()] if folder
             else [path.stem for path in (ROOT / "native/abi").glob("*.txt")])
    names = [name for name in names if VERSION.fullmatch(name) and order(name) < order(version)]
    if names:
        newest = max(names, key=order)
        was, now = order(newest), order(version)
        print(newest, "yes" if was[0] == now[0] and (now[0] > 0 or was[1] == now[1]) else "", sep="\n")
    else:
        print()


def sign(files, key, public):
    """With a key of the user's, or with one that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="exn") as home:
        gpg = ["gpg", "--quiet", "--yes"]
        if not key:
            gpg += ["--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
            key = "exeunt, thrown away"
            subprocess.run([*gpg, "--quick-generate-key", key, "ed25519", "sign", "never"],
                           check=True, stderr=subprocess.DEVNULL)
        try:
            for file in files:
                subprocess.run([*gpg, "--local-user", key, "--armor", "--detach-sign", file],
                               check=True)
            subprocess.run([*gpg, "--armor", "--output", public, "--export", key], check=True)
        finally:
            if "--homedir" in gpg:
                subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=False)


def finish(folder, key):
    folder = pathlib.Path(folder)
    # Which versions there are, the repository that takes a release says; these have the time.
    for path in folder.rglob("maven-metadata*"):
        path.unlink()
    for path in list(folder.rglob("*.jar")):
        with zipfile.ZipFile(path) as jar:
            empty = path.stem.endswith("-cuda") and not any(
                name.endswith(".so") for name in jar.namelist())
        if empty:
            for file in path.parent.glob(path.name + "*"):
                file.unlink()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()
             and path.suffix in (".jar", ".pom", ".json")]
    for path in files:
        for kind in ("md5", "sha1", "sha256", "sha512"):
            digest = hashlib.new(kind, path.read_bytes()).hexdigest()
            path.with_name(f"{path.name}.{kind}").write_text(digest)
    sign(files, key, folder / "key.asc")


def bundle(folder, version):
    """With the folders that a repository has, which Central's portal asks for."""
    folder = pathlib.Path(folder)
    with zipfile.ZipFile(folder / f"exeunt-{version}-bundle.zip", "w") as out:
        for path in sorted((folder / "org").rglob("*")):
            if path.is_file():
                out.write(path, path.relative_to(folder))


def main():
    command, *words = sys.argv[1:] or [""]
    if command not in ("options", "platforms", "last", "finish", "bundle"):
        sys.exit(__doc__)
    if command == "options":
        options(words)
    else:
        {"platforms": platforms, "last": last, "finish": finish, "bundle": bundle}[command](*words)


main()
