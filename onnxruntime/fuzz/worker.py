# SPDX-License-Identifier: Apache-2.0
"""Runs models that it is told, with ONNX Runtime alone and with exeunt's provider; whoever started
it sees when it dies. Cases come as pickles on stdin, answers go to stdout: first that of ONNX
Runtime alone, then the provider's."""
import ctypes
import os
import pickle
import resource
import struct
import sys
import time

import numpy as np
import onnxruntime as ort

BFLOAT16 = 16
TYPES = {"tensor(float)": (1, np.float32), "tensor(float16)": (10, np.float16),
         "tensor(bfloat16)": (BFLOAT16, np.uint16), "tensor(double)": (11, np.float64),
         "tensor(int64)": (7, np.int64), "tensor(int32)": (6, np.int32),
         "tensor(bool)": (9, np.bool_), "tensor(uint8)": (2, np.uint8),
         "tensor(int8)": (3, np.int8)}
LEVELS = {"disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
          "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
          "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
          "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}


def to_ort(feed):
    type_, array = feed
    if type_ is None:
        return array
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    if type_ == BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def from_ort(value):
    type_, dtype = TYPES.get(value.data_type(), (None, None))
    if type_ is None:
        return None, value.numpy()
    shape = value.shape()
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return type_, np.frombuffer(data, dtype).reshape(shape)


def outputs_of(session, feeds):
    names = [o.name for o in session.get_outputs()]
    if any(type_ is None for type_, _ in feeds.values()) or any(
            not o.type.startswith("tensor") for o in session.get_outputs()):
        got = session.run(None, {name: array for name, (_, array) in feeds.items()})
        return {name: (None, value) for name, value in zip(names, got)}
    got = session.run_with_ort_values(None, {n: to_ort(f) for n, f in feeds.items()})
    return {n: from_ort(v) for n, v in zip(names, got)}


def session_of(case, devices, report):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = case.get("threads", 1)
    options.graph_optimization_level = LEVELS[case.get("level", "all")]
    if devices:
        own = {"report": report, "threads": str(case.get("threads", 1))}
        if case.get("all", True):  # also what is as fast without, as small products are
            own["all"] = "1"
        options.add_provider_for_devices(devices, own)
    return ort.InferenceSession(case["model"], options)


def answer(case, devices, report):
    """{error: (type, text)} at creation, or {runs: [outputs or such an error]}."""
    started, out = time.process_time(), {"claims": []}
    try:
        session = session_of(case, devices, report)
        out["runs"] = []
        for feeds in case["feeds"]:
            try:
                out["runs"].append(outputs_of(session, feeds))
            except Exception as e:
                out["runs"].append({"error": (type(e).__name__, str(e))})
    except Exception as e:
        out["error"] = (type(e).__name__, str(e))
    if devices and os.path.exists(report):
        with open(report, encoding="utf-8", errors="replace") as file:
            out["claims"] = file.read().splitlines()
        os.remove(report)
    out["seconds"] = time.process_time() - started
    out["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return out


def main(library, report, limit):
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer

    def send(what):
        data = pickle.dumps(what)
        answers.write(struct.pack("<q", len(data)) + data)
        answers.flush()

    ort.register_execution_provider_library("exeunt", library)
    devices = [d for d in ort.get_ep_devices() if d.ep_name == "ExeuntExecutionProvider"]
    if limit:
        used = int(open("/proc/self/statm", encoding="ascii").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (limit << 20),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    send(ort.__version__)
    while head := sys.stdin.buffer.read(8):
        case = pickle.loads(sys.stdin.buffer.read(struct.unpack("<q", head)[0]))
        if not case.get("only"):
            send(answer(case, [], report))
        if not case.get("alone"):
            send(answer(case, devices, report))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
