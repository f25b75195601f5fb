#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times what PyTorch makes of every case that exeunt_gpu_check timed, on the same GPU.

usage: peers.py [--seconds N] RESULTS.jsonl   (appends what each peer takes, one by one)
       peers.py --rehearse RESULTS.jsonl      (needs neither PyTorch nor a GPU, times nothing: runs
                                               the compositions of all cases on stand-ins)

A composition (compositions.py) is the shortest sequence of stock PyTorch calls that yields what the
op yields. Where a user would do better there are others beside it (variants.py). All are captured in
CUDA graphs over rotating buffers and timed as the op is, so that launch overhead counts for neither.
"""
import argparse
import json
import time

import compositions
import variants
from compositions import COMPOSITIONS, torch
from variants import peers_of

# As exeunt_gpu_check does it (tests/gpu/bench.h).
WARM_SECONDS, SAMPLE_SECONDS, GRAPH_SECONDS = 0.3, 0.2, 1e-3
LEAST_SAMPLES = 5
MOST_SETS = 64
MOST_CALLS = 2048


def replayed(graph, calls):
    """Microseconds of a call: the median of replays after a warm-up."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begun = time.monotonic()
    while time.monotonic() - begun < WARM_SECONDS:
        graph.replay()
        torch.cuda.synchronize()
    samples = []
    begun = time.monotonic()
    while time.monotonic() - begun < SAMPLE_SECONDS or len(samples) < LEAST_SAMPLES:
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        samples.append(start.elapsed_time(stop) * 1e3 / calls)
    samples.sort()
    return samples[len(samples) // 2]


def captured(runs, repeats):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            for run in runs:
                run()
    return graph


def time_composition(make, shape, sets):
    runs = [make(shape)]
    if runs[0] is None:
        return None
    runs += [make(shape) for _ in range(sets - 1)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            for run in runs:
                run()
    torch.cuda.synchronize()
    graph = captured(runs, 1)
    graph.replay()
    torch.cuda.synchronize()
    begun = time.monotonic()
    graph.replay()
    torch.cuda.synchronize()
    once = max(time.monotonic() - begun, 1e-6)
    repeats = max(1, min(int(GRAPH_SECONDS / once) + 1, MOST_CALLS // sets))
    if repeats > 1:
        graph = captured(runs, repeats)
    return replayed(graph, sets * repeats)


def cublas_ceiling():
    """Operations a second of a large product of bf16, which the tensor cores do at best."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    with torch.cuda.stream(torch.cuda.Stream()):
        a @ b
    torch.cuda.synchronize()
    return 2 * size ** 3 / (replayed(captured([lambda: a @ b], 1), 1) * 1e-6)


class StandIn:
    """For PyTorch and for tensors: whatever is asked of it, the answer is one of its kind."""

    def answer(self, *_, **__):
        return self

    __getattr__ = __call__ = __getitem__ = __setitem__ = __neg__ = answer
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = answer
    __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __matmul__ = __rpow__ = answer
    __ge__ = __le__ = __and__ = __invert__ = __eq__ = __enter__ = answer

    def __exit__(self, *_):
        return None


def rehearse(timings):
    """Every line of the compositions that the cases reach, every key that they ask a case for."""
    for module in (compositions, variants):
        module.torch = module.F = module.SDPBackend = module.sdpa_kernel = StandIn()
    for timing in timings:
        if timing["op"] not in COMPOSITIONS:
            print(f'{timing["op"]:16} has no PyTorch composition')
            continue
        for name, make in peers_of(timing["op"]):
            try:
                run = make(timing["shape"])
            except compositions.NoComposition as reason:
                print(f'{timing["op"]:16} {reason}')
                continue
            if run is not None:
                run()
            print(f'{timing["op"]:16} {timing["case"]:34} {name} rehearsed')


def timings_of(path):
    """Those that a run has written so far; of two of one case the last. Model shapes first."""
    timings = {}
    with open(path) as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["kind"] == "timing" and "error" not in record:
                timings[record["op"], record["case"]] = record
    return sorted(timings.values(), key=lambda t: not t["model"])


def in_turn(timings):
    """The first case of each op, then the second of each: who runs out of time has seen all ops."""
    seen, order = {}, []
    for timing in timings:
        key = timing["model"], timing["op"]
        seen[key] = seen.get(key, -1) + 1
        order.append((not timing["model"], seen[key], timing))
    return [timing for *_, timing in sorted(order, key=lambda entry: entry[:2])]


class Results:
    def __init__(self, path):
        self.file = open(path, "a")

    def note(self, kind, **fields):
        self.file.write(json.dumps({"kind": kind, **fields}) + "\n")
        self.file.flush()


def time_case(timing, results):
    sets = max(1, min(timing["rotation"], MOST_SETS))
    for name, make in peers_of(timing["op"]):
        record = {"op": timing["op"], "case": timing["case"], "peer": name}
        try:
            record["us"] = time_composition(make, timing["shape"], sets)
            if record["us"] is None:
                continue
        except Exception as error:  # a back end says in its own way that it does not take a case
            record["error"] = (str(error).splitlines() or [type(error).__name__])[0]
            torch.cuda.synchronize()
        results.note("peer", **record)
        print(f'{timing["op"]:16} {timing["case"]:34} {name:28} '
              f'{record.get("us", record.get("error"))}', flush=True)
        torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("results")
    options = parser.parse_args()
    begun = time.monotonic()
    timings = in_turn(timings_of(options.results))
    results = Results(options.results)
    if options.rehearse:
        rehearse(timings)
        results.note("left_out", stage="PyTorch", why="rehearsed only: there is no GPU")
        return
    if torch is None or not torch.cuda.is_available():
        why = "this python3 has no torch" if torch is None else "torch sees no CUDA device"
        print("PyTorch left out: " + why)
        results.note("left_out", stage="PyTorch", why=why)
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    torch._dynamo.config.cache_size_limit = 1024
    results.note("peer_version", name="PyTorch " + torch.__version__)
    results.note("peer_ceiling", name="torch.mm of bf16", per_second=cublas_ceiling())
    done = 0
    timings = [t for t in timings if t["op"] in COMPOSITIONS]
    for timing in timings:
        if time.monotonic() - begun > options.seconds:
            results.note("stage", stage="PyTorch", done=done, of=len(timings),
                         seconds=time.monotonic() - begun)
            return
        time_case(timing, results)
        done += 1
    results.note("stage", stage="PyTorch", done=done, of=len(timings),
                 seconds=time.monotonic() - begun)


if __name__ == "__main__":
    main()
