#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program of somebody who has a staged release and nothing else of exeunt: a new Maven project
with one dependency, exeunt-platform, runs README's example and prints what that promises.

  stranger_test.py ROOT STAGE VERSION
  stranger_test.py ROOT                  the jars and POMs that were built here are the release

The project lies outside the tree, and its local repository is its own, and empty at first. What is
not exeunt's comes from this user's local repository as from a remote one. It runs with the natives of
all platforms, and with those of this one alone, as its user would narrow them. For a platform that
was not staged stands the smallest jar that a release can have.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

import local_maven

MOST = 60  # seconds, from an empty local repository to the program's end


def readme(root):
    text = (root / "README.md").read_text()
    block = re.search(r"^```java\n(.*?)^```\n\nIt prints (.*?)\.(?:\s+[A-Z])", text, flags=re.S | re.M)
    return block[1], re.findall(r"`([^`]*)`", block[2])


def write_missing(repository, version, platforms):
    """The smallest jars of platforms that a release can have."""
    place = repository / "org/exeunt/exeunt-jni" / version
    place.mkdir(parents=True)
    for platform in platforms:
        with zipfile.ZipFile(place / f"exeunt-jni-{version}-{platform}.jar", "w") as jar:
            for name in local_maven.natives_of(platform):
                jar.writestr(zipfile.ZipInfo(name), platform)


def fetch_javacpp(root, platforms):
    """Its natives of all platforms, into this user's local repository; this build has but one."""
    version = re.search(r"<javacpp.version>(.*)</javacpp.version>", (root / "pom.xml").read_text())[1]
    place = pathlib.Path.home() / ".m2/repository/org/bytedeco/javacpp" / version
    lacking = [f"org.bytedeco:javacpp:{version}:jar:{platform}" for platform in sorted(platforms)
               if place.parent.parent.is_dir() and not (place / f"javacpp-{version}-{platform}.jar").exists()]
    return all(subprocess.run(
        ["mvn", "--file", root / "pom.xml", "--batch-mode", "--quiet", "--non-recursive", "dependency:get",
         f"-Dartifact={coordinates}", "-Dtransitive=false"], check=False).returncode == 0
               for coordinates in lacking)


def write_project(folder, root, repositories, version, program):
    source = folder / "src/main/java/Snippet.java"
    source.parent.mkdir(parents=True)
    source.write_text(program)
    repositories = "".join(f"<repository><id>{repository.name}</id><url>{repository.as_uri()}</url></repository>"
                           for repository in repositories)
    plugins = local_maven.plugins(
        root, ("maven-resources-plugin", "maven-compiler-plugin", "exec-maven-plugin"))
    (folder / "pom.xml").write_text(f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>stranger</groupId><artifactId>program</artifactId><version>1</version>
  <properties>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <repositories>{repositories}</repositories>
  <dependencies>
    <dependency>
      <groupId>org.exeunt</groupId>
      <artifactId>exeunt-platform</artifactId>
      <version>{version}</version>
    </dependency>
  </dependencies>
  <build><pluginManagement><plugins>{plugins}</plugins></pluginManagement></build>
</project>
""")


def built(root, stage):
    """What was built here, as a repository; its version."""
    local_maven.link_built(root, stage)
    return next((stage / "org/exeunt/exeunt-platform").iterdir()).name


def write_settings(path):
    """What is not ours comes from what this user's Maven has fetched, or from afar."""
    fetched = pathlib.Path.home() / ".m2/repository"
    mirror = (f"<mirror><id>fetched</id><url>{fetched.as_uri()}</url><mirrorOf>central</mirrorOf></mirror>"
              if fetched.is_dir() else "")
    path.write_text(f"<settings><mirrors>{mirror}</mirrors></settings>")


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    if len(sys.argv) == 4:
        run(root, pathlib.Path(sys.argv[2]).resolve(), sys.argv[3])
    else:
        with tempfile.TemporaryDirectory(prefix="built") as folder:
            run(root, pathlib.Path(folder), built(root, pathlib.Path(folder)))


def run(root, stage, version):
    program, expected = readme(root)
    staged = {path.stem.split(f"-{version}-")[1] for path in
              (stage / "org/exeunt/exeunt-jni" / version).glob("*.jar") if version + "-" in path.stem}
    wanted = set(re.findall(r"<javacpp\.platform\.([^>/]*)>", (root / "platform/pom.xml").read_text()))
    runs = [(["-Djavacpp.platform=linux-x86_64"], {"linux-x86_64"})]
    if fetch_javacpp(root, wanted):
        runs.append(([], wanted))
    else:
        print("left out: all platforms, for JavaCPP's natives could not be fetched")
    with tempfile.TemporaryDirectory(prefix="stranger") as scratch:
        folder = pathlib.Path(scratch)
        write_missing(folder / "missing", version, wanted - staged)
        write_project(folder / "program", root, [stage, folder / "missing"], version, program)
        write_settings(folder / "settings.xml")
        for narrow, platforms in runs:
            run_once(folder, narrow, platforms, expected)


def run_once(folder, narrow, platforms, expected):
    """With an empty local repository, into which the jars of these platforms come, and no other's."""
    shutil.rmtree(folder / "repository", ignore_errors=True)
    # Its unpacked libraries are its own, too.
    command = ["mvn", "--batch-mode", "--quiet", "--settings", folder / "settings.xml",
               f"-Dmaven.repo.local={folder / 'repository'}", *narrow, "compile", "exec:exec",
               "-Dexec.executable=java", "-Dexec.args=-Dorg.bytedeco.javacpp.cachedir="
               f"{folder / 'cache'} -cp %classpath Snippet"]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=folder / "program", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          env={**os.environ, "MAVEN_OPTS": "-XX:TieredStopAtLevel=1"})
    took = time.monotonic() - begin
    lines = re.sub(r"\x1b\[[\d;]*m", "", done.stdout).splitlines()  # Maven's colours
    printed = [line for line in lines if line in expected]
    if done.returncode != 0 or printed != expected:
        raise SystemExit(f"README promises {expected}, printed was\n{done.stdout}")
    for group, artifact in ("org/exeunt", "exeunt-jni"), ("org/bytedeco", "javacpp"):
        jars = (folder / "repository" / group / artifact).glob("*/*.jar")
        came = {match[1] for match in (re.search(r"-((linux|windows|macosx)-\w+)$", jar.stem) for jar in jars)
                if match}
        if came != platforms:
            raise SystemExit(f"of {artifact} there came {sorted(came)}, not {sorted(platforms)}")
    if took > MOST:
        raise SystemExit(f"it took {took:.0f} s, more than {MOST}")
    print(f"one dependency, {narrow[0] if narrow else 'all platforms'}: {' '.join(printed)}, "
          f"{took:.0f} s after an empty local repository")


main()
