# SPDX-License-Identifier: Apache-2.0
"""Attacks the provider with models that nobody made for it; README.md says how."""
import argparse
import pathlib
import pickle
import random
import sys
import time

import onnx

from judge import Judge
import graphs
from mutants import Mutator, respelt


def random_graphs(options, until):
    judge = Judge(options, "graphs")
    for i in range(options.first, options.first + options.count):
        if time.monotonic() > until:
            break
        seed = options.seed * 1000003 + i
        maker = graphs.Maker(seed)
        model, r = maker.model(), random.Random(seed)
        judge.case(f"{options.seed}.{i}", model, [maker.feeds(k) for k in range(3)],
                   r.choice(graphs.LEVELS), r.choice((1, 1, 2)))
    return judge.close(0.5)


def mutants(options, until):
    judge = Judge(options, "mutants")
    for i in range(options.first, options.first + options.count):
        if time.monotonic() > until:
            break
        seed = options.seed * 1000003 + i // 10  # ten of each graph
        maker, r = graphs.Maker(seed, True, i // 10 % 12 == 0), random.Random(-seed - i)
        model, feeds = maker.model(), [maker.feeds(k) for k in range(2)]
        data, done = Mutator(r.random()).spoilt(model)
        try:
            spoilt = onnx.load_from_string(data)
        except Exception:  # no model for onnx; for ONNX Runtime it might be one
            spoilt = data
        names = {i.name for i in spoilt.graph.input} if spoilt is not data else set(feeds[0])
        feeds = [respelt(model, {n: f for n, f in one.items() if n in names}, r) for one in feeds]
        if options.verbose:
            print(i, done)
        judge.case(f"{options.seed}.{i}", spoilt, feeds, r.choice(graphs.LEVELS),
                   r.choice((1, 1, 2)), mutant=True)
    return judge.close()


def official_tests(options, until):
    import nodes
    judge = Judge(options, "nodes")
    nodes.run(judge, options.share, until)
    return judge.close()


def real_models(options, until):
    import models
    options.patience = max(options.patience, 300)
    judge = Judge(options, "models")
    models.run(judge, options.models, options.encoder, until)
    return judge.close(-1.0)


def replay(options):
    judge, right = Judge(options, "replay"), True
    for file in options.replay:
        case = pickle.loads(pathlib.Path(file).read_bytes())
        try:
            model = onnx.load_from_string(case["model"])
        except Exception:
            model = case["model"]
        judge.case(pathlib.Path(file).stem, model, case["feeds"], case["level"], case["threads"],
                   mutant=case.get("mutant", False), every=case.get("all", True))
    return judge.close() and right


def main():
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("modes", nargs="*", help="graphs, mutants, nodes, models")
    parser.add_argument("--library", required=True, help="libexeunt_ort.so")
    parser.add_argument("--runtime", default="", help="folder with onnxruntime")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, default=0, help="cases (0: all of a mode)")
    parser.add_argument("--seconds", type=float, default=1e9, help="at most, for each mode")
    parser.add_argument("--keep", default="found", help="folder for what is found")
    parser.add_argument("--preload", default="", help="libraries of a sanitizer")
    parser.add_argument("--patience", type=float, default=30, help="seconds until a model hangs")
    parser.add_argument("--share", action="store_true", help="of the node tests those of some ops")
    parser.add_argument("--models", default="", help="folder of packages with models")
    parser.add_argument("--encoder", default="", help="all-MiniLM-L6-v2.onnx")
    parser.add_argument("--verbose", action="store_true", help="name invalid models, too")
    parser.add_argument("--replay", nargs="*", default=[], help="files that were kept")
    options = parser.parse_args()
    known = {"graphs": (random_graphs, 2000), "mutants": (mutants, 20000),
             "nodes": (official_tests, 1), "models": (real_models, 1)}
    right = not options.replay or replay(options)
    for mode in options.modes:
        run, count = known[mode]
        given, options.count = options.count, options.count or count
        right = run(options, time.monotonic() + options.seconds) and right
        options.count = given
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
