#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run on the emulated device: to its end, killed, told to end, and short of time.

usage: run_test.py WHAT LIBRARY CHECKER NVML FOLDER    (WHAT: a function of this file)
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = os.path.join(HERE, "run")
WHAT, LIBRARY, CHECKER, NVML, FOLDER = sys.argv[1:]
RESULTS = os.path.join(FOLDER, "gpu-emulated.jsonl")
PAGE = os.path.join(FOLDER, "gpu-emulated.md")


def expect(condition, what):
    if not condition:
        sys.exit(f"{WHAT}: {what}")


def start(*options, env=None):
    command = [RUN, "--emulated", "--library", LIBRARY, "--checker", CHECKER, "--out", FOLDER]
    return subprocess.Popen(command + list(options), start_new_session=True,
                            env={**os.environ, **(env or {})})


def records(whole=True):
    """The lines of the results; the last one may be half a line if the run was killed."""
    with open(RESULTS) as file:
        lines = file.read().split("\n")
    expect(not whole or lines[-1] == "", "the last line is no line")
    return [json.loads(line) for line in lines[:-1]]


def of_kind(kind, some=None):
    return [r for r in (records() if some is None else some) if r["kind"] == kind]


def page():
    with open(PAGE) as file:
        return file.read()


def wait_for(kind, count, process):
    """Until the results have so many of a kind: the run is in its middle."""
    for _ in range(3000):
        if os.path.exists(RESULTS) and len(of_kind(kind, records(whole=False))) >= count:
            return
        expect(process.poll() is None, f"ended before it had {count} of {kind}")
        time.sleep(0.1)
    sys.exit(f"{WHAT}: no {kind} in five minutes")


def survivors(process):
    """What of the run goes on a second later."""
    time.sleep(1)
    alive = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
            if state != "Z" and os.getsid(int(pid)) == process.pid:
                alive.append(pid)
        except OSError:
            continue  # it has just ended
    return alive


def complete():
    """All stages, with a page, a picture, and what is missing named."""
    has_tools = shutil.which("compute-sanitizer") or shutil.which("ncu")
    expect(start(*(["--no-tools"] if has_tools else [])).wait() == 0, "the run failed")
    expect(of_kind("finished")[0]["failures"] == 0 and of_kind("ended"), "did not end")
    model = [t for t in of_kind("timing") if t["model"]]
    checked = {(c["op"], c["case"]) for c in of_kind("check") if c["model"]}
    expect({(t["op"], t["case"]) for t in model} == checked and len(checked) > 30,
           "model shapes that are timed and those that are checked differ")
    expect(all(0 <= c["worst_error"] <= 1 for c in of_kind("check") if c["model"]),
           "an error beyond what is allowed")
    # Sums over a row have an error if anything has: with none, nothing was compared.
    for op in ("attention", "exit_head", "ffn", "kv_propagate", "linear", "row_stats"):
        expect(any(c["worst_error"] > 0 for c in of_kind("check") if c["op"] == op and c["model"]),
               f"no output of {op} was compared")
    expect(of_kind("ceilings")[0]["read"] > 0 and of_kind("ceilings")[0]["fma"] > 0, "no ceilings")
    expect(any(t["operations"] > 0 for t in model), "no row has arithmetic")
    text = page()
    for part in ("## Checks", "## Times", "![Roofline](gpu-emulated.svg)", "8-billion",
                 "PyTorch: rehearsed only",
                 "not asked for" if has_tools else "compute-sanitizer: no such program here"):
        expect(part in text, f"the page lacks '{part}'")
    picture = xml.etree.ElementTree.parse(PAGE.replace(".md", ".svg")).getroot()
    points = [e for e in picture.iter() if e.tag.endswith("circle")]
    expect(len(points) > len([t for t in model if t["operations"]]), "the picture lacks points")


def killed():
    """Nothing is lost when the whole run is killed in its middle."""
    process = start()
    wait_for("check", 40, process)
    before = len(records(whole=False))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    expect(not survivors(process), "something goes on")
    kept = records(whole=False)
    expect(len(kept) >= before and not of_kind("finished", kept), "lost something, or too late")
    expect(not os.path.exists(PAGE), "there is a page already")
    subprocess.run([RUN, "--page", RESULTS], check=True)
    text = page()
    expect("the run was ended before its checks and times were complete" in text, "does not say so")
    expect("## Checks" in text, "has no checks")


def told_to_end():
    """A signal makes a page of what there is, at once."""
    process = start()
    wait_for("check", 40, process)
    process.send_signal(signal.SIGTERM)
    expect(process.wait(60) == 143, "another status")
    expect("the run was ended before" in page(), "the page does not say so")
    expect(not survivors(process), "something goes on")


def short_of_time():
    """--seconds ends in time, with something of every op that had its turn, and no error."""
    seconds = 1
    began = time.monotonic()
    expect(start("--seconds", str(seconds)).wait() == 0, "failed")
    took = time.monotonic() - began
    # One case may be under way, and the page is made afterwards.
    expect(took < seconds + 20, f"took {took:.0f} s")
    cut = [s for s in of_kind("stage") if s["done"] < s["of"]]
    expect(cut or not of_kind("ended") or took < seconds, "nothing was left out, but it was late")
    if cut:
        expect("out of time after" in page(), "the page does not say what was left out")
    ops = [c["op"] for c in of_kind("check") if c["model"]]
    expect(len(set(ops)) == min(len(ops), 12), "some op had two turns before others had one")


FAKE_SANITIZER = """#!/bin/bash
# Runs the program; racecheck finds something.
tool=""
while [[ $1 == --* ]]; do
  [[ $1 == --tool ]] && tool=$2
  shift 2
done
"$@" || exit 1
[[ $tool == racecheck ]] && exit 86
exit 0
"""
FAKE_NCU = """#!/bin/bash
# Runs the program, and counts two kernels for the first marker and one for the second.
while [[ $1 == --* ]]; do
  case $1 in
    --csv) shift ;;
    --log-file) log=$2; shift 2 ;;
    --metrics) metrics=$2; shift 2 ;;
    *) shift 2 ;;
  esac
done
"$@" || exit 1
{
  echo '==PROF== Connected to process 1'
  echo "\\"ID\\",\\"Kernel Name\\",\\"Block Size\\",\\"Grid Size\\",\\"${metrics//,/\\",\\"}\\""
  echo '"","","","","nsecond","%","%","%","sector/request","register/thread",""'
  echo '"0","exeunt_probe_marker()","(32, 1, 1)","(1, 1, 1)","900","0","0","0","0","16","0"'
  echo '"1","void exn::first<float>(int)","(256, 1, 1)","(132, 1, 1)","1,500","81.5","30","50","16","40","1"'
  echo '"2","void exn::second(int)","(256, 1, 1)","(4, 1, 1)","2,000","12","3","5","n/a","40","0.1"'
  echo '"3","exeunt_probe_marker()","(32, 1, 1)","(2, 1, 1)","900","0","0","0","0","16","0"'
  echo '"4","void exn::third(int)","(256, 1, 1)","(8, 1, 1)","4,000","22","3","5","4","40","0.1"'
} >"$log"
"""


def tools():
    """NVIDIA's tools, where something of their name is found."""
    fakes = os.path.join(FOLDER, "fakes")
    os.makedirs(fakes)
    for name, text in (("compute-sanitizer", FAKE_SANITIZER), ("ncu", FAKE_NCU)):
        path = os.path.join(fakes, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
    process = start("--ops", "norm,rope", "--no-peers",
                    env={"PATH": fakes + os.pathsep + os.environ["PATH"]})
    expect(process.wait() == 1, "racecheck's finding is no failure")
    outcomes = {r["tool"]: r["outcome"] for r in of_kind("sanitizer")}
    expect(list(outcomes) == ["memcheck", "racecheck", "synccheck", "initcheck"], "other tools")
    expect(outcomes["memcheck"] == "clean" and "errors" in outcomes["racecheck"], outcomes)
    cases = [(p["op"], p["case"]) for p in sorted(of_kind("profiled"), key=lambda p: p["number"])]
    kernels = [(k["kernel"], k["op"], k["case"]) for k in of_kind("kernel")]
    expect(kernels == [("first", *cases[0]), ("second", *cases[0]), ("third", *cases[1])], kernels)
    first = of_kind("kernel")[0]
    expect((first["us"], first["memory_share"], first["store_sectors"]) == (1.5, 81.5, 16), first)
    expect(of_kind("kernel")[1]["store_sectors"] is None, "a figure out of nothing")
    expect("## Nsight Compute" in page() and "| racecheck | errors" in page(), "the page lacks them")


def clocks():
    """Clocks and power, from a stand-in for NVML."""
    results = RESULTS
    status = subprocess.run([CHECKER, "--backend", LIBRARY, "--cuda-runtime", LIBRARY, "--probes",
                             LIBRARY, "--nvml", NVML, "--records", results, "--ops", "norm",
                             "--small", "--every", "25", "--dry-bench"], check=False).returncode
    expect(status == 0, "failed")
    timing = of_kind("timing")[0]
    expect(timing["after"] == {"sm_mhz": 1755, "memory_mhz": 2619, "watts": 432.5, "celsius": 61,
                               "throttle": 4} and timing["before"] == timing["after"], timing)
    subprocess.run([RUN, "--page", results], check=True)
    expect("| SM clock, MHz | 1755 to 1755 | 1755 to 1755 |" in page(), "no clocks on the page")
    expect("held back (other than by idling) in" in page(), "nothing about throttling")


shutil.rmtree(FOLDER, ignore_errors=True)
os.makedirs(FOLDER)
globals()[WHAT]()
