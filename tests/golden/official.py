#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the authors' own code on recorded inputs; README.md says where it is and what it needs.

    official.py METHOD CHECKOUT FOLDER           compares with FOLDER/METHOD.safetensors and .json
    official.py --write METHOD CHECKOUT FOLDER   writes what the code returns into those files

METHOD is one of README.md's table (h2o has a port in a checkout of GemFilter: --port CHECKOUT). A
file holds the inputs of its cases, so that no seed is needed to make it again.
"""
import argparse
import json
import os
import pathlib
import sys
import types

import torch
from safetensors.torch import load_file, save_file

from authors import caches, distill, images, losses
from authors.checkout import call

METHODS = {"stablemax": losses.stablemax, "orthograd": losses.orthograd, "snapkv": caches.snapkv,
           "gemfilter": caches.gemfilter, "h2o": caches.h2o, "hired": images.hired,
           "fastv": images.fastv, "pyramiddrop": images.pyramiddrop,
           "promptdistill": distill.promptdistill,
           "promptdistill_model": distill.promptdistill_model}
# Names of tensors that go in, without the digits at their end.
INPUTS = ("logits", "labels", "weight", "grad", "grads", "query_window", "query_last", "query_row",
          "keys", "values", "queries", "prompt_ends", "attention_mask", "stage1_query_last",
          "stage1_keys", "stage2_query_last", "stage2_keys", "cls_block", "q_cls", "k_proj",
          "q_cls_block", "k_block", "projected_features", "input_ids")
# Intel's library adds in another order on another processor. The files were made where it takes the
# one that it calls compatible in its vector functions (logarithms, sums of products): these two
# methods are the same bit for bit on any processor with it. Products of matrices are not, so that
# the others are closer without it.
COMPATIBLE = ("stablemax", "orthograd")


def is_input(name):
    return name.rstrip("0123456789") in INPUTS or name.endswith(".weight")


def difference(recorded, found):
    """None where the two are the same; else how far they are apart."""
    if recorded.shape != found.shape or recorded.dtype != found.dtype:
        return (f"{found.dtype} {list(found.shape)}, "
                f"recorded {recorded.dtype} {list(recorded.shape)}")
    a, b = recorded.double().nan_to_num(1e300), found.double().nan_to_num(1e300)
    if torch.equal(a, b):
        return None
    if not recorded.is_floating_point():
        return f"{int((a != b).sum())} of {a.numel()} numbers"
    return float((a - b).abs().max() / a[a.abs() < 1e299].abs().max().clamp(min=1e-300))


def may_differ(case, recorded, gap):
    """Rounding, and what PyTorch does not define: the order of indices among equal scores."""
    if case.get("ties_at_boundary") or case.get("noise_amplified"):
        return True
    return isinstance(gap, float) and gap < (1e-2 if recorded.element_size() == 2 else 1e-4)


def outcome(run, case, inputs):
    """What the code returns for a case; where it should raise, the error as the file words it."""
    try:
        return call(run, case, inputs)
    except RuntimeError as error:
        if "error" not in case:
            raise
        return {"error": f"{type(error).__name__}: {error}"}


def written(recording):
    """The JSON with a line for each case."""
    def lines(indent, items):
        return ",\n".join(f"{indent}{json.dumps(key)}: {value}" for key, value in items)
    cases = lines("  ", [(key, json.dumps(case)) for key, case in recording["cases"].items()])
    return "{\n" + lines(" ", [(key, f"{{\n{cases}\n }}" if key == "cases" else json.dumps(value))
                              for key, value in recording.items()]) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--port", type=pathlib.Path)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("checkout", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    if options.method == "h2o" and options.port is None:
        sys.exit("h2o needs --port, a checkout of GemFilter")
    if options.method in COMPATIBLE:
        os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
    torch.manual_seed(0)
    path = options.folder / f"{options.method}.safetensors"
    tensors = load_file(path)
    recording = json.loads(path.with_suffix(".json").read_text())
    cases = recording["cases"]
    run = METHODS[options.method](types.SimpleNamespace(
        checkout=options.checkout, port=options.port, tensors=tensors, cases=cases))
    same, close, worst, problems, ours = 0, [], 0.0, [], set()
    for id, case in cases.items():
        own = {name.split("/", 1)[1]: t for name, t in tensors.items()
               if name.startswith(id + "/")}
        inputs = {name: t for name, t in own.items() if is_input(name)}
        found = outcome(run, case, inputs)
        ours |= own.keys() - inputs.keys() - found.keys()  # derived from what the code returns
        for name in dict.fromkeys([*found, *(["error"] if "error" in case else [])]):
            value = found.get(name)
            if name in own:
                gap = difference(own[name], value)
                if gap is None:
                    same += 1
                elif may_differ(case, own[name], gap):
                    close.append(f"{id}/{name}: {gap}")
                    worst = max(worst, gap if isinstance(gap, float) else 0)
                else:
                    problems.append(f"{id}/{name}: {gap}")
                if options.write:
                    tensors[f"{id}/{name}"] = value.detach().contiguous()
            if name in case or name == "error":
                plain = value.tolist() if isinstance(value, torch.Tensor) else value
                if plain != case.get(name):
                    problems.append(f"{id}, {name}: {plain}, recorded {case.get(name)}")
                if options.write:
                    case[name] = plain
    print(f"{options.method}: {len(cases)} cases; {same} tensors bit for bit, {len(close)} not "
          f"(largest difference {worst:.1e} of the largest value), {len(problems)} wrong; "
          f"not the code's: {', '.join(sorted(ours)) or 'none'}")
    print("\n".join(close + problems))
    if options.write and close + problems:  # else the files stay as they are
        recording["torch"] = torch.__version__.split("+")[0]
        save_file(tensors, path, {key: recording[key]
                                  for key in ("method", "source", "commit", "torch")})
        path.with_suffix(".json").write_text(written(recording))
    return 1 if problems and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
