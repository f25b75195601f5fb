# SPDX-License-Identifier: Apache-2.0
"""Has a worker run cases, and judges what comes of them."""
import collections
import os
import pathlib
import pickle
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from graphs import wide
from reference import Graph, UNIT, Unknown, outside

HERE = pathlib.Path(__file__).parent
# What ONNX Runtime alone does not have may be missing with the provider, too.
MISSING = ("NotImplemented", "NOT_IMPLEMENTED", "Could not find an implementation",
           "InsertedPrecisionFreeCast")  # f16 before opset 6, which has other casts
GREW_MB = 1500
ROWS = (b"TopK", b"ReduceMax", b"ArgMax", b"MatMulNBits")
# What the Python binding cannot pass on.
PYTHON = ("can't be converted to MLDataType", "Unable to handle object")


class Worker:
    """A process that runs models, started anew after it has died."""

    def __init__(self, options, perturb=None):
        """With `perturb`, fresh memory is full of that byte instead of zeros and what was there."""
        self.options, self.process, self.perturb = options, None, perturb
        self.report = tempfile.NamedTemporaryFile(prefix="exeunt-report-", delete=False).name
        os.remove(self.report)

    def start(self):
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            [self.options.runtime, environment.get("PYTHONPATH", "")])
        if self.perturb is not None:
            environment["MALLOC_PERTURB_"] = str(self.perturb)
        limit = 6000
        if self.options.preload:
            environment["LD_PRELOAD"] = self.options.preload
            environment.setdefault("ASAN_OPTIONS", "detect_leaks=0:alloc_dealloc_mismatch=0:"
                                   "allocator_may_return_null=1:hard_rss_limit_mb=8000")
            environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
            limit = 0
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(HERE / "worker.py"), self.options.library, self.report,
             str(limit)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            env=environment)
        self.version = self.read(120)
        if not isinstance(self.version, str):
            raise SystemExit(f"fuzz: the worker does not start ({self.died()})")

    def read(self, seconds):
        """The next answer; None: it died; "hangs"."""
        data, until, stream = b"", time.monotonic() + seconds, self.process.stdout
        while True:
            if len(data) >= 8 and len(data) >= 8 + struct.unpack("<q", data[:8])[0]:
                return pickle.loads(data[8:])
            ready, _, _ = select.select([stream], [], [], max(0, until - time.monotonic()))
            if not ready:
                return {"hangs": True}
            want = 8 - len(data) if len(data) < 8 else 8 + struct.unpack("<q", data[:8])[0] - len(
                data)
            part = os.read(stream.fileno(), want)
            if not part:
                return None
            data += part

    def died(self):
        """How, in words, and the worker is put away."""
        self.process.kill() if self.process.poll() is None and not self.closed() else None
        status = self.process.wait()
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace")
        self.stop()
        found = re.findall(r"(?:ERROR: AddressSanitizer: [^\n(]*|runtime error: [^\n]*)", text)
        place = re.findall(r"#\d+ 0x\w+ in ([^\n]*?/src/[^\n]*)", text)[:1]
        words = found[:1] + place or text.strip().splitlines()[-1:]
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return " ".join([name] + words)[:400]

    def closed(self):
        """Whether a process that closed its answers ends by itself; sanitizers take their time."""
        try:
            self.process.wait(20)
            return True
        except subprocess.TimeoutExpired:
            return False

    def stop(self):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def tell(self, case):
        """(ONNX Runtime alone, with exeunt): answers, or {"died": how} or {"hangs": True}."""
        if self.process is None:
            self.start()
        data = pickle.dumps(case)
        try:
            self.process.stdin.write(struct.pack("<q", len(data)) + data)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        out = []
        for side in ("alone", "with"):
            if side == "alone" and case.get("only") or side == "with" and case.get("alone"):
                out.append(None)
                continue
            got = self.read(self.options.patience)
            if got is None:
                got = {"died": self.died()}
            elif "hangs" in got:
                self.stop()
            out.append(got)
            if self.process is None:
                break
        return out if len(out) == 2 else out + [None]


def words(error):
    return ": ".join(error).replace("[ONNXRuntimeError] : ", "")


def missing(error):
    return any(word in words(error) for word in MISSING)


def same(a, b):
    """Whether sequences and maps of arrays are, which may differ in shape among one another."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if repr(a) == repr(b):
        return True
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f" == b.dtype.kind)


def alike(alone, ours, tolerance):
    """"" or how two outputs differ."""
    (type_, a), (other, b) = alone, ours
    if type_ is None or isinstance(a, (list, dict)):
        return "" if same(a, b) else "other values"
    if (type_ != other and {type_, other} != {1, 16}) or a.shape != b.shape:
        return f"type {other} and shape {b.shape}, alone {type_} and {a.shape}"
    a, b = wide(alone), wide(ours)
    if other == 16:  # to which the largest f32 is infinite
        a = np.where(np.abs(a) > 3.39e38, np.copysign(np.inf, a), a)
    if type_ not in UNIT:
        # Indices of almost equal elements may differ.
        return "" if np.array_equal(a, b) else "other whole numbers"
    with np.errstate(all="ignore"):
        scale = np.abs(a[np.isfinite(a)]).max(initial=0)
        near = (np.abs(a - b) <= tolerance * scale) | (a == b)
        wrong = ~(near | ~np.isfinite(a) & ~np.isfinite(b))
    if not wrong.any():
        return ""
    at = tuple(np.argwhere(wrong)[0])
    return (f"{wrong.sum()} of {wrong.size} elements, at {list(map(int, at))} {b[at]!r}, alone "
            f"{a[at]!r}, largest {scale:.3g}")


def padded(feeds):
    """Whether sequences of a first prompt differ in length: padding is whatever it is."""
    return any(type_ == 6 and np.size(a) and np.min(a) < np.max(a) for type_, a in feeds.values())


# Without a reference: far more than rounding does where values are of one size.
TOLERANCE = {1: 2e-3, 10: 3e-2, 16: 0.1, 11: 2e-3}


class Judge:
    """Counts what came of cases, and keeps what was found."""

    def __init__(self, options, name):
        self.options, self.name = options, name
        self.worker = Worker(options)
        self.counts, self.found = collections.Counter(), {}
        self.claims = collections.Counter()

    def references(self, model, feeds, left):
        """Values by output for ONNX Runtime alone and for exeunt, which has `left` products in
        blocks to it or not; None where the graph is not known here."""
        out = []
        for settings in ((True, False), (left, True)):
            try:
                out.append(Graph(model, *settings).run(feeds))
            except (Unknown, ArithmeticError, AttributeError, IndexError, KeyError, MemoryError,
                    TypeError, ValueError):
                out.append(None)
        return out

    def case(self, label, model, feeds, level="all", threads=1, mutant=False, tolerance=TOLERANCE,
             reference=True, official=None, instead=None, every=True):
        """Runs a case and judges it: of a mutant both may refuse it; `official` counts what came of
        it under a name; `instead` stands for ONNX Runtime alone, which does not have the types;
        `every`: the provider takes also what is as fast without it. Returns whether nothing was
        found."""
        before = sum(c for c, _ in self.found.values())
        case = {"model": model if isinstance(model, bytes) else model.SerializeToString(),
                "feeds": feeds, "level": level, "threads": threads, "all": every,
                "mutant": mutant}
        keep = lambda kind, text: self.keep(kind, text, label, case)
        self.counts["cases"] += 1
        if self.worker.process is None:
            self.worker.start()
        # ONNX Runtime 1.24 divides by the rows, or makes other shapes of none.
        if self.worker.version.startswith("1.24.") and any(op in case["model"] for op in ROWS):
            feeds = case["feeds"] = [f for f in feeds if all(np.size(a) for _, a in f.values())]
        alone, ours = self.worker.tell(case)
        if alone is None or "died" in alone or "hangs" in alone:
            # Not ours, if it is so for ONNX Runtime on its own; what the provider does alone is.
            self.counts["killed by ONNX Runtime alone"] += 1
            if self.options.verbose:
                print(f"{label}: alone {alone}: {sorted({n.op_type for n in model.graph.node})}")
            return True
        strict, cast = not mutant and official is None, official == "bf16"
        if ours is None or "died" in ours or "hangs" in ours:
            again = self.worker.tell(case | {"only": True})[1]
            other = self.worker.tell(case | {"alone": True})[0]
            if other is None or "died" in other or "hangs" in other:  # it survived by luck
                self.counts["killed by ONNX Runtime alone"] += 1
                return True
            sure = again is not None and ("died" in again or "hangs" in again)
            how = (again if sure else ours or {}).get("died", "it hangs")
            keep("dies" if "hangs" not in (ours or {}) else "hangs",
                 how if sure else f"{how} (not when run again)")
            return False
        self.counts["claims"] += sum(c.startswith("claimed ") for c in ours["claims"])
        self.counts["with a claim"] += any(c.startswith("claimed ") for c in ours["claims"])
        for line in ours["claims"]:
            if line.startswith("claimed "):
                self.claims[line.split()[1]] += 1
            if "could not be compiled" in line and "error" not in alone:
                keep("falls back", line)
        if ours["peak"] - alone["peak"] > GREW_MB:
            keep("grows", f"by {ours['peak'] - alone['peak']} MB")
        if "error" in alone:
            self.counts["refused alone"] += 1
            if "error" in ours:
                if missing(alone["error"]) and not missing(ours["error"]) and strict:
                    keep("fails", words(ours["error"]))
                elif not missing(alone["error"]):
                    self.counts["invalid"] += 1
                    if strict and self.options.verbose:
                        print(f"{label}: invalid: {words(alone['error'])}")
                return sum(c for c, _ in self.found.values()) == before
            if mutant and ours["runs"] and all("error" in run for run in ours["runs"]):
                self.counts["refused by both, by one when run"] += 1
                return True
            # Official models are valid, whatever ONNX Runtime says of those it has no types for.
            if not missing(alone["error"]) and not official and "org.exeunt" not in words(
                    alone["error"]) and not self.runs_plainly(case):
                keep("accepts", "alone " + words(alone["error"]))
        elif "error" in ours:
            if mutant and alone["runs"] and all("error" in run for run in alone["runs"]):
                self.counts["refused by both, by one when run"] += 1
                return True
            keep("fails", words(ours["error"]))
            return False
        left = any(re.match(r"left .*(MatMulNBits|DequantizeLinear)", c) for c in ours["claims"])
        if official and ours["runs"]:
            runs = alone.get("runs", [{"error": alone.get("error")}]) + ours["runs"]
            self.counts[official + " run alike" if not any("error" in r for r in runs)
                        else official + " run only with exeunt" if "error" not in ours["runs"][0]
                        else official + " refused when run"] += 1
        if instead and "runs" in instead and "runs" not in alone:
            alone = instead
        for k, run in enumerate(ours["runs"]):
            # What ONNX Runtime has other types of its own kernels may refuse to do.
            if official and "runs" not in alone and "error" in run and (
                    "exeunt: " not in run["error"][1]):
                self.counts[official + " refused by its own kernels"] += 1
                continue
            if cast and "error" in run or any(w in run.get("error", ("", ""))[1] for w in PYTHON):
                continue
            other = alone["runs"][k] if "runs" in alone and not (
                cast and "error" in alone["runs"][k]) else None
            self.run(k, case, model, feeds[k], run, other, keep, mutant, tolerance, reference, left)
        return sum(c for c, _ in self.found.values()) == before

    def runs_plainly(self, case):
        """Whether ONNX Runtime alone takes a model that only its optimisers refuse."""
        alone = self.worker.tell(case | {"alone": True, "level": "disable"})[0]
        return alone is not None and "runs" in alone

    def wavers(self, case, feeds, name, beside):
        """Whether ONNX Runtime alone says something else where fresh memory has other bytes: its
        kernels read beyond, or before, what they have been given."""
        for byte in (60, 195):
            other = Worker(self.options, byte)
            again = other.tell(dict(case, feeds=[feeds], alone=True))[0]
            other.stop()
            if again is None or "runs" not in again or "error" in again["runs"][0] or alike(
                    again["runs"][0][name], beside, 1e-6):
                return True
        return False

    def run(self, k, case, model, feeds, ours, alone, keep, mutant, tolerance, reference, left):
        self.counts["runs"] += 1
        refused = alone is not None and "error" in alone
        if "error" in ours:
            if alone is None and (mutant or missing(ours["error"])):
                return
            if not refused:
                keep("fails", f"run {k}: {words(ours['error'])}")
            else:
                self.counts["runs refused by both"] += 1
            return
        if refused:
            keep("accepts", f"run {k}: alone {words(alone['error'])}")
            return
        known = (None, None)
        if reference and not isinstance(model, bytes):
            known = self.references(model, {n: (f[0], wide(f)) for n, f in feeds.items()}, left)
        self.counts["runs beside double precision"] += known[1] is not None
        raw = model if isinstance(model, bytes) else model.SerializeToString()
        for name, output in ours.items():
            beside = alone[name] if alone is not None else None
            if known[1] is not None:
                wrong, text = outside(known[1][name], wide(output))
                if beside is not None:
                    off = outside(known[0][name], wide(beside))
                    # It computes products of dequantised bytes in ways of its own.
                    if off[0] and not mutant and b"DequantizeLinear" not in raw:
                        self.counts["outputs of ONNX Runtime beyond bounds"] += 1
                        if self.options.verbose:
                            print(f"run {k}: alone, output {name}: {off[1]}")
                    if off[0]:
                        wrong = wrong and alike(beside, output, 2 * tolerance.get(output[0], 0))
                if wrong and not (mutant and beside is not None
                                  and self.wavers(case, feeds, name, beside)):
                    keep("differs", f"run {k}: output {name}: {text}")
            elif beside is not None and not (b"GroupQueryAttention" in raw and padded(feeds)):
                # Rows that became bytes on the one side alone are this far from those that did not.
                blocks = b"DequantizeLinear" in raw or b"MatMulNBits" in raw
                text = alike(beside, output, tolerance.get(output[0], 0) * (10 if blocks else 1))
                if text and not (mutant and self.wavers(case, feeds, name, beside)):
                    keep("differs", f"run {k}: output {name}: {text}")

    def keep(self, kind, text, label, case):
        signature = kind + " " + re.sub(r"'[^']*'|\d+(\.\d+)?(e-?\d+)?|v\d+", "#", text)[:150]
        if kind == "differs":
            signature = "differs " + str(sorted(set(re.findall(rb"MatMulNBits|DequantizeLinear|"
                                                               rb"GroupQueryAttention|ArgMax|TopK",
                                                               case["model"]))))
        count, _ = self.found.get(signature, (0, None))
        self.counts[kind] += 1
        self.found[signature] = count + 1, kind
        if count >= 3:
            return
        folder = pathlib.Path(self.options.keep)
        folder.mkdir(parents=True, exist_ok=True)
        at = folder / f"{self.name}-{label}-{kind.replace(' ', '-')}.case"
        at.write_bytes(pickle.dumps(case))
        at.with_suffix(".onnx").write_bytes(case["model"])
        print(f"FOUND {self.name} {label} (case {self.counts['cases']}): {kind}: {text}\n"
              f"      {at}", flush=True)

    def close(self, least=0.0):
        """The last words; whether all was well."""
        self.worker.stop()
        right = not self.found
        print(f"{self.name} on ONNX Runtime {self.worker.version}: " + ", ".join(
            f"{n} {what}" for what, n in self.counts.items()), flush=True)
        if self.claims:
            print("  claimed: " + ", ".join(f"{n} {op}" for op, n in self.claims.most_common()))
        # Both happen, by ONNX Runtime's own faults; more would be one of the generator's.
        for what in ("invalid", "outputs of ONNX Runtime beyond bounds"):
            if self.name == "graphs" and 30 * self.counts[what] > self.counts["cases"] + 60:
                print(f"FOUND {self.name}: {self.counts[what]} {what}")
                right = False
        if self.counts["with a claim"] <= least * self.counts["cases"]:
            print(f"FOUND {self.name}: only {self.counts['with a claim']} of "
                  f"{self.counts['cases']} models had a node claimed")
            right = False
        for signature, (count, _) in sorted(self.found.items(), key=lambda x: -x[1][0]):
            print(f"  {count} x {signature}")
        return right
