#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times a BERT by ONNX Runtime alone, with exeunt's provider and with OpenVINO's, in turns.

usage: openvino.py LIBEXEUNT_ORT MODEL.onnx THREADS [SECONDS]

Needs the packages onnxruntime-openvino (in place of onnxruntime) and numpy. OpenVINO's provider
takes all cores that it may run on: for one thread, run this with `taskset -c 0`.
"""
import os
import sys
import time

import numpy
import onnxruntime

SHAPES = ((1, 4), (1, 9), (1, 37), (8, 19), (32, 19))


def session(model, threads, provider):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if provider == "exeunt":
        devices = [d for d in onnxruntime.get_ep_devices() if "Exeunt" in d.ep_name]
        options.add_provider_for_devices(devices, {"threads": str(threads)})
        return onnxruntime.InferenceSession(model, options)
    providers = ["CPUExecutionProvider"]
    if provider == "OpenVINO":
        providers.insert(0, ("OpenVINOExecutionProvider", {"device_type": "CPU"}))
    made = onnxruntime.InferenceSession(model, options, providers=providers)
    if made.get_providers()[0] != (providers[0] if len(providers) == 1 else providers[0][0]):
        sys.exit(f"this onnxruntime has {onnxruntime.get_available_providers()}, "
                 f"expected onnxruntime-openvino")
    return made


def main(library, model, threads, seconds=3.0):
    onnxruntime.set_default_logger_severity(3)
    onnxruntime.register_execution_provider_library("exeunt", os.path.abspath(library))
    names = ("alone", "exeunt", "OpenVINO")
    sessions = [session(model, int(threads), name) for name in names]
    print("batch x tokens   ms alone   with exeunt   with OpenVINO (alone divided by these)")
    for batch, tokens in SHAPES:
        inputs = {
            "input_ids": numpy.random.randint(1000, 20000, (batch, tokens)),
            "attention_mask": numpy.ones((batch, tokens), numpy.int64),
            "token_type_ids": numpy.zeros((batch, tokens), numpy.int64),
        }
        times = [[] for _ in sessions]
        end = time.perf_counter() + float(seconds)
        while time.perf_counter() < end or not times[0]:
            for run, own in zip(sessions, times):
                time.sleep(0.06)  # until the threads of the one before have ceased to spin
                timed = time.perf_counter() + 0.05
                count = 0
                while count < 5 or time.perf_counter() < timed:
                    start = time.perf_counter()
                    run.run(None, inputs)
                    if count >= 2:
                        own.append((time.perf_counter() - start) * 1e3)
                    count += 1
        ms = [float(numpy.median(own)) for own in times]
        print(f"{batch:5} x {tokens:<6} {ms[0]:10.2f} {ms[0] / ms[1]:12.2f} {ms[0] / ms[2]:12.2f}",
              flush=True)


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 5:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
