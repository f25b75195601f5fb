#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_release.py and compare_builds.py on a small release that is right, and on ones that are spoilt
in one way each: what is wrong is found, and named.

  release_test.py ROOT
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import local_maven

VERSION = "1.2.3"
PLATFORMS = ("linux-x86_64", "macosx-arm64")
FACTS = """<description>d</description><url>https://x</url>
<licenses><license><name>l</name><url>https://x</url></license></licenses>
<developers><developer><name>d</name><url>https://x</url></developer></developers>
<scm><connection>scm:git:x</connection><developerConnection>scm:git:x</developerConnection>
<url>https://x</url></scm>"""
SKIPPED = 3


def dependency(group, artifact, version, classifier=""):
    return (f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version>"
            + (f"<classifier>{classifier}</classifier>" if classifier else "") + "</dependency>")


class Staged:
    """A release of the fewest artifacts, as Maven leaves it."""

    def __init__(self, root, folder):
        self.root, self.folder = root, folder
        javacpp = dependency("org.bytedeco", "javacpp", "1.0")
        self.artifact("exeunt", dependency("org.exeunt", "exeunt-jni", VERSION))
        self.artifact("exeunt-jni", javacpp)
        for platform in PLATFORMS:
            self.jar("exeunt-jni", f"-{platform}", local_maven.natives_of(platform))
        natives = "".join(
            dependency(group, artifact, version, f"${{javacpp.platform.{platform}}}")
            for group, artifact, version in (("org.exeunt", "exeunt-jni", "${project.version}"),
                                             ("org.bytedeco", "javacpp", "1.0"))
            for platform in PLATFORMS)
        self.artifact("exeunt-platform", dependency("org.exeunt", "exeunt", VERSION) + natives, properties(
            lambda platform: platform) + "<profiles><profile><id>one</id><activation><property>"
            "<name>javacpp.platform</name></property></activation>" + properties(
                lambda platform: "${javacpp.platform}") + "</profile></profiles>")
        managed = "".join(dependency("org.exeunt", artifact, VERSION, classifier)
                          for artifact, classifier in (
                              ("exeunt", ""), ("exeunt-platform", ""), ("exeunt-jni", ""),
                              *(("exeunt-jni", platform) for platform in PLATFORMS)))
        self.pom("exeunt-bom", "", "<packaging>pom</packaging><dependencyManagement><dependencies>"
                 f"{managed}</dependencies></dependencyManagement>")
        self.finish()

    def finish(self):
        subprocess.run([self.root / "launcher/release.py", "finish", self.folder, ""], check=True)

    def path(self, artifact, ending):
        folder = self.folder / "org/exeunt" / artifact / VERSION
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{artifact}-{VERSION}{ending}"

    def pom(self, artifact, dependencies, more=""):
        self.path(artifact, ".pom").write_text(
            f'<project xmlns="http://maven.apache.org/POM/4.0.0"><groupId>org.exeunt</groupId>'
            f"<artifactId>{artifact}</artifactId><version>{VERSION}</version><name>{artifact}</name>"
            f"{FACTS}{more}<dependencies>{dependencies}</dependencies></project>")

    def jar(self, artifact, tail, names):
        with zipfile.ZipFile(self.path(artifact, f"{tail}.jar"), "w") as jar:
            for name in sorted({"META-INF/LICENSE", "META-INF/NOTICE", *names}):
                jar.writestr(zipfile.ZipInfo(name), f"{artifact}{tail} {name}")

    def artifact(self, artifact, dependencies, more=""):
        self.pom(artifact, dependencies, more)
        classes = [] if artifact == "exeunt-platform" else ["org/exeunt/A.class", "org/exeunt/A$B.class"]
        self.jar(artifact, "", classes)
        self.jar(artifact, "-sources", ["org/exeunt/A.java"])
        self.jar(artifact, "-javadoc", ["index.html"])
        parts = [("org.exeunt", "exeunt", VERSION), ("org.exeunt", "exeunt-jni", VERSION),
                 ("org.bytedeco", "javacpp", "1.0")]
        self.path(artifact, "-cyclonedx.json").write_text(json.dumps({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": {
                "purl": f"pkg:maven/org.exeunt/{artifact}@{VERSION}?type=jar", "bom-ref": artifact}},
            "dependencies": [{"ref": artifact, "dependsOn": ["javacpp"]}],
            "components": [{"group": g, "name": n, "version": v} for g, n, v in parts]}))


def properties(value):
    return "<properties>" + "".join(
        f"<javacpp.platform.{platform}>{value(platform)}</javacpp.platform.{platform}>"
        for platform in PLATFORMS) + "</properties>"


def replaced(artifact, old, new, ending=".pom"):
    def spoil(staged):
        path = staged.path(artifact, ending)
        text = path.read_text()
        assert old in text, f"{path} has no {old}"
        path.write_text(text.replace(old, new, 1))
    return spoil


def gone(artifact, ending):
    return lambda staged: staged.path(artifact, ending).unlink()


def rejarred(artifact, tail, names):
    return lambda staged: staged.jar(artifact, tail, names)


def holding(platform, content):
    """A jar whose library has a part of another, as its bytes show."""
    def spoil(staged):
        with zipfile.ZipFile(staged.path("exeunt-jni", f"-{platform}.jar"), "w") as jar:
            for name in local_maven.natives_of(platform):
                jar.writestr(name, content)
    return spoil


def another_key(staged):
    key = (staged.folder / "key.asc").read_bytes()
    staged.finish()
    (staged.folder / "key.asc").write_bytes(key)


def appended(artifact, ending):
    def spoil(staged):
        with staged.path(artifact, ending).open("ab") as file:
            file.write(b"x")
    return spoil


def added(name):
    return lambda staged: staged.path("exeunt", name).write_text("x")


SPOILT = (
    ("no licence", replaced("exeunt", "<name>l</name>", ""), "has no licenses/license/name"),
    ("no developers", replaced("exeunt-jni", "<developer><name>d</name>", "<developer>"),
     "has no developers/developer/name"),
    ("no scm", replaced("exeunt-bom", "<connection>scm:git:x</connection>", ""), "has no scm/connection"),
    ("no description", replaced("exeunt", "<description>d</description>", ""), "has no description"),
    ("no url", replaced("exeunt", "<url>https://x</url>", ""), "has no url"),
    ("a parent", replaced("exeunt", "<name>", "<parent><version>1</version></parent><name>"),
     "has a parent"),
    ("properties", replaced("exeunt", "<name>", "<properties><a>b</a></properties><name>"),
     "has the properties a"),
    ("a build", replaced("exeunt", "<name>", "<build/><name>"), "has <build>"),
    ("a snapshot", replaced("exeunt", "<version>1.2.3</version><name>",
                            "<version>1.2.4-SNAPSHOT</version><name>"), "is no version of a release"),
    ("a version that is none", replaced("exeunt", "<version>1.2.3</version><name>",
                                        "<version>1.2</version><name>"), "'1.2' is no version"),
    ("a snapshot below", replaced("exeunt-jni", "<version>1.0<", "<version>1.0-SNAPSHOT<"),
     "which is no release"),
    ("a version that is left open", replaced("exeunt-jni", "<version>1.0<", "<version>${v}<"),
     "javacpp:${v}, which is no release"),
    ("a test's dependency", replaced("exeunt-jni", "</dependency>", "<scope>test</scope></dependency>"),
     "for its tests"),
    ("no sources", gone("exeunt", "-sources.jar"), "exeunt-1.2.3-sources.jar is missing"),
    ("no javadoc", gone("exeunt-jni", "-javadoc.jar"), "exeunt-jni-1.2.3-javadoc.jar is missing"),
    ("a javadoc without pages", rejarred("exeunt", "-javadoc", []), "has no index.html"),
    ("a class without its source", rejarred("exeunt", "", ["org/exeunt/A.class", "org/exeunt/C.class"]),
     "do not have org/exeunt/C.java"),
    ("a jar that is cut", lambda staged: staged.path("exeunt", ".jar").write_bytes(
        staged.path("exeunt", ".jar").read_bytes()[:-30]), "is no jar"),
    ("no platform", gone("exeunt-jni", "-macosx-arm64.jar"),
     "exeunt-jni-1.2.3-macosx-arm64.jar is missing"),
    ("a platform without libraries", rejarred("exeunt-jni", "-macosx-arm64", []), "holds no library"),
    ("a library without a digest", rejarred("exeunt-jni", "-macosx-arm64", [
        "org/exeunt/macosx-arm64/libx.dylib"]), "has no digest"),
    ("a library of another platform", rejarred("exeunt-jni", "-macosx-arm64", [
        "org/exeunt/linux-x86_64/libx.so", "org/exeunt/linux-x86_64/libx.so.digest"]), "is not macosx-arm64's"),
    ("natives where none belong", rejarred("exeunt", "", ["org/exeunt/A.class", "libx.so"]),
     "holds natives: libx.so"),
    ("no licence in a jar", lambda staged: zipfile.ZipFile(staged.path("exeunt", ".jar"), "w").close(),
     "has no META-INF/LICENSE"),
    ("a platform that cannot be left out", replaced(
        "exeunt-platform", ">${javacpp.platform}<", ">linux-x86_64<"), "does not narrow linux-x86_64"),
    ("another JavaCPP", replaced("exeunt-jni", "<version>1.0<", "<version>1.1<"),
     "has javacpp 1.0, and exeunt-jni 1.1"),
    ("a jar that the bill does not list", replaced("exeunt-bom", dependency(
        "org.exeunt", "exeunt-jni", VERSION, "macosx-arm64"), ""), "does not list exeunt-jni-1.2.3-macosx"),
    ("no bill", lambda staged: shutil.rmtree(staged.path("exeunt-bom", "").parent.parent),
     "there is no bill of materials"),
    ("no SBOM", gone("exeunt", "-cyclonedx.json"), "no list of what it is made of"),
    ("an SBOM of another", replaced("exeunt", "org.exeunt/exeunt@", "org.exeunt/other@", "-cyclonedx.json"),
     "is no CycloneDX of pkg:maven/org.exeunt/exeunt@1.2.3"),
    ("an SBOM that lacks a part", replaced("exeunt-jni", '"name": "javacpp"', '"name": "j"',
                                           "-cyclonedx.json"), "does not list org.bytedeco:javacpp:1.0"),
    ("an SBOM without what is linked in", holding("macosx-arm64", "libc++abi: terminating"),
     "does not list libc++abi, of which org/exeunt/macosx-arm64/libx.so has a part"),
    ("a wrong checksum", appended("exeunt", ".jar.sha512"), "exeunt-1.2.3.jar.sha512 is wrong"),
    ("no checksum", gone("exeunt", ".pom.md5"), "exeunt-1.2.3.pom.md5 is missing"),
    ("no signature", gone("exeunt", ".pom.asc"), "exeunt-1.2.3.pom.asc is missing"),
    ("a signature of something else", appended("exeunt", "-sources.jar"),
     "exeunt-1.2.3-sources.jar.asc is no signature"),
    ("another key", another_key, "is no signature of"),
    ("no key", lambda staged: (staged.folder / "key.asc").unlink(), "there is no key.asc"),
    ("what does not belong", added("-tests.zip"), "exeunt-1.2.3-tests.zip does not belong"),
    ("a checksum of nothing", added("-tests.jar.md5"), "-tests.jar.md5 is of no file"),
    ("nothing", lambda staged: shutil.rmtree(staged.folder / "org"), "holds no artifact"),
)


def run(program, *arguments):
    done = subprocess.run([sys.executable, pathlib.Path(__file__).with_name(program), *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


MAP = """Archive member included to satisfy reference by file (symbol)

/usr/lib/gcc/x/12/libstdc++.a(tree.o)
                              a.o (f)
{more}
Memory Configuration

LOAD /usr/lib/gcc/x/12/../../../x/crti.o
LOAD a.o
LOAD /usr/lib/gcc/x/12/libgcc.a
"""
CACHE = "/home/zig/o/0123456789abcdef0123456789abcdef"


def check_linked(root, folder, judge):
    """launcher/linked.py on what linkers say: the list names the parts, and check_release.py agrees."""
    subprocess.run(["cp", "-r", root / "launcher", folder / "launcher"], check=True)
    linux, mac = folder / "build/native", folder / "build/platform/macosx-arm64"
    zig = folder / "zig"
    for place in (linux / "maps", linux / "CMakeFiles/3.25.1", mac, zig / "lib/libcxx/include"):
        place.mkdir(parents=True)
    (zig / "zig").write_text("#!/bin/sh\necho 0.17.1\n")
    (zig / "zig").chmod(0o755)
    (zig / "lib/libcxx/include/__config").write_text("#  define _LIBCPP_VERSION 220108\n")
    (linux / "CMakeCache.txt").touch()  # of a toolchain file
    (linux / "CMakeFiles/3.25.1/CMakeCXXCompiler.cmake").write_text('set(CMAKE_CXX_COMPILER "c++")\n')
    (mac / "CMakeCache.txt").write_text(f"EXN_ZIG:FILEPATH={zig}/zig\n")
    (linux / "maps/x.map").write_text(MAP.format(more=""))
    command = "zig ld -dylib -o {}/libx.so a.o " + f"{CACHE}/libc++abi.a {CACHE}/libcompiler_rt.a"
    (mac / "links").write_text(command.format("old") + f" {CACHE}/odd.a\n" + command.format("lib") + "\n")
    staged = Staged(root, folder / "stage")
    holding("linux-x86_64", "terminate called")(staged)
    holding("macosx-arm64", "libc++abi: terminating")(staged)

    def sbom():
        done = subprocess.run([folder / "launcher/linked.py", "sbom", staged.folder, VERSION],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout

    judge.expect("what is linked in", sbom(), 0, "")
    listed = json.loads(staged.path("exeunt-jni", "-cyclonedx.json").read_text())
    parts = [f"{part['name']} {part['version']}" for part in listed["components"] if "properties" in part]
    judge.expect("parts of what is linked in", (0, ", ".join(parts)), 0, "compiler-rt of zig 0.17.1, glibc 2.")
    judge.expect("their versions", (0, ", ".join(parts)), 0, ", libc++abi 22.1.8, libstdc++ ")
    staged.finish()
    judge.expect("a release with what is linked in", run("check_release.py", staged.folder), 0, "4 artifacts")
    (linux / "maps/x.map").write_text(MAP.format(more="/usr/lib/x/libfmt.a(format.o)\n   a.o (g)\n"))
    judge.expect("what is linked in and not known", sbom(), 1, "'/usr/lib/x/libfmt.a' is linked in, and PARTS")
    (linux / "maps/x.map").unlink()
    judge.expect("a build that does not say", sbom(), 1, "does not say what libx.so was linked of")


class Judge:
    wrong = 0

    def expect(self, what, answer, status, text):
        right = answer[0] == status and text in answer[1]
        self.wrong += not right
        print(f"ok    {what}" if right else f"WRONG {what}: {answer[0]}, not {status}, or no '{text}' "
              f"in:\n{answer[1]}")


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    if not shutil.which("gpg"):
        print("left out: there is no gpg")
        sys.exit(SKIPPED)
    judge = Judge()
    with tempfile.TemporaryDirectory() as scratch:
        right = pathlib.Path(scratch, "right")
        Staged(root, right)
        judge.expect("a release that is right", run("check_release.py", right), 0, "4 artifacts")
        for what, spoil, text in SPOILT:
            spoilt = pathlib.Path(scratch, "spoilt")
            shutil.copytree(right, spoilt)
            staged = Staged.__new__(Staged)
            staged.root, staged.folder = root, spoilt
            spoil(staged)
            judge.expect(what, run("check_release.py", spoilt), 1, text)
            if what == "no platform":
                for file in staged.path("exeunt-jni", "").parent.glob("*macosx-arm64*"):
                    file.unlink()
                judge.expect("no platform, in part", run("check_release.py", spoilt, "--partial"), 0,
                             "fit to be published, but for what is missing")
            if what == "a library without a digest":
                judge.expect("builds that differ", run("compare_builds.py", right, spoilt), 1,
                             "macosx-arm64.jar differs: org/exeunt/macosx-arm64/libx.dylib")
                jars = [staged.path("exeunt-jni", "").parent for staged.folder in (right, spoilt)]
                judge.expect("folders of jars that differ", run("compare_builds.py", *jars), 1,
                             "exeunt-jni-1.2.3-macosx-arm64.jar differs: org/exeunt")
            shutil.rmtree(spoilt)
        check_linked(root, pathlib.Path(scratch), judge)
        judge.expect("builds that do not differ", run("compare_builds.py", right, right), 0, "same bytes")
    sys.exit(judge.wrong > 0)


main()
