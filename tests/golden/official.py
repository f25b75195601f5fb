#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the authors' own code on recorded inputs; README.md says where it is and what it needs.

    official.py METHOD CHECKOUT FOLDER           compares with FOLDER/METHOD.safetensors
    official.py --write METHOD CHECKOUT FOLDER   writes what the code returns into that file

METHOD: stablemax, orthograd, snapkv, gemfilter, h2o (whose port is in a checkout of GemFilter:
--port CHECKOUT). A file holds the inputs of its cases, so that no seed is needed to make it again.
"""
import argparse
import ast
import importlib.util
import json
import pathlib
import sys
import types

import torch
from safetensors.torch import load_file, save_file


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def functions(path, *names):
    """Functions of a module whose other imports are not wanted, from their unchanged text."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body
                 if isinstance(node, ast.FunctionDef) and node.name in names]
    scope = {"torch": torch}
    exec(compile(tree, path, "exec"), scope)
    return types.SimpleNamespace(**{name: scope[name] for name in names})


def stand_in_for_transformers():
    """What the checkouts import from it and these calls need: one function that repeats heads."""
    def repeat_kv(x, groups):
        return x.repeat_interleave(groups, dim=1)

    for name in ("transformers", "transformers.models", "transformers.models.llama",
                 "transformers.models.llama.configuration_llama",
                 "transformers.models.llama.modeling_llama"):
        sys.modules[name] = types.ModuleType(name)
    for name in "LlamaRotaryEmbedding", "LlamaAttention", "LlamaConfig":
        for part in "configuration_llama", "modeling_llama":
            setattr(sys.modules["transformers.models.llama." + part], name, object)
    llama = sys.modules["transformers.models.llama.modeling_llama"]
    llama.repeat_kv = repeat_kv
    llama.apply_rotary_pos_emb = None


def wide(tensors):
    return {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}


def call(run, case, inputs):
    """Tensors that the code makes itself are f64 where the inputs are."""
    is_wide = any(t.dtype == torch.float64 for t in inputs.values())
    torch.set_default_dtype(torch.float64 if is_wide else torch.float32)
    return run(case, inputs)


def with_wide(run, case, inputs, names):
    """The code on the inputs as they are, and of `names` also on the inputs as f64."""
    found = call(run, case, inputs)
    again = call(run, case, wide(inputs))
    found.update({name + "_f64": again[name] for name in names if name in again})
    return found


# ---- methods: the outputs of one case -----------------------------------------------------------


def stablemax(checkout):
    code = functions(checkout / "utils.py", "s", "log_stablemax", "stablemax_cross_entropy",
                     "cross_entropy_float64", "cross_entropy_float32")

    def gradient(loss, logits, labels):
        x = logits.clone().requires_grad_()
        loss(x, labels).backward()
        return x.grad

    def run(case, inputs):
        x, labels = inputs["logits"], inputs["labels"]
        rows = torch.arange(len(labels))
        ce = code.stablemax_cross_entropy
        return {
            "s_native": code.s(x), "log_stablemax_native": code.log_stablemax(x),
            "log_stablemax_f64": code.log_stablemax(x.double()),
            "stablemax_ce_mean_f64": ce(x, labels),
            "stablemax_ce_rows_f64": ce(x, labels, reduction="none").flatten(),
            "stablemax_ce_grad": gradient(ce, x, labels),
            "stablemax_ce_grad_f64": gradient(ce, x.double(), labels),
            "native_grad": gradient(
                lambda z, l: -code.log_stablemax(z)[rows, l].mean(), x, labels),
            "ce_f64_mean": code.cross_entropy_float64(x, labels),
            "ce_f64_grad": gradient(code.cross_entropy_float64, x, labels),
            "ce_f32_mean": code.cross_entropy_float32(x, labels),
            "ce_f32_rows": code.cross_entropy_float32(x, labels, reduction="none"),
            "ce_f32_grad": gradient(code.cross_entropy_float32, x, labels),
        }

    return run


def orthograd(checkout):
    code = module(checkout / "orthograd.py").OrthoGrad

    def projected(weight, grad):
        p = torch.nn.Parameter(weight.clone())
        p.grad = grad.clone()
        code._orthogonalize_gradients([p])
        return p.grad

    def run(case, inputs):
        if case.get("kind") == "step":
            p = torch.nn.Parameter(inputs["weight"].clone())
            args = {key: tuple(v) if isinstance(v, list) else v for key, v in case["args"].items()}
            optimiser = code([p], getattr(torch.optim, case["base"]), **args)
            weights = []
            for grad in inputs["grads"]:
                p.grad = grad.clone()
                optimiser.step()
                weights.append(p.detach().clone())
            return {"expected_weights": torch.stack(weights)}
        found = {}
        for name in [name for name in inputs if name.startswith("grad")]:
            number = name[len("grad"):]
            weight = inputs["weight" + number]
            found["expected_grad" + number] = projected(weight, inputs[name])
            if not number:
                found["expected_grad_f64"] = projected(weight.double(), inputs[name].double())
        return found

    return run


def snapkv(checkout):
    code = module(checkout / "snapkv/monkeypatch/snapkv_utils.py")

    def once(case, inputs):
        query, keys = inputs["query_window"], inputs["keys"]
        heads, window, dim = query.shape
        slots = keys.shape[1]
        groups = heads // keys.shape[0]
        # Only the last queries are read; values that are positions tell what was kept.
        queries = torch.zeros(1, heads, slots, dim, dtype=query.dtype)
        queries[0, :, slots - window:] = query
        position = torch.arange(slots, dtype=torch.float64).expand(1, heads, slots)[..., None]
        seen = {}
        pools = {name: getattr(code.F, name) for name in ("avg_pool1d", "max_pool1d")}
        recorder = types.SimpleNamespace(**{
            name: lambda x, pool=pool, **args: seen.update(scores_sum=x[0], out=pool(x, **args))
            or seen["out"] for name, pool in pools.items()})
        code.F = recorder
        cluster = code.SnapKVCluster(window, case["capacity"], case["kernel"], case["pool"])
        _, kept = cluster.update_kv(code.repeat_kv(keys[None], groups), queries,
                                    position.expand(1, heads, slots, dim).clone(), None, groups)
        found = {"expected_positions": kept[0, :, :, 0].long()}
        if "values" in inputs:
            values = code.repeat_kv(inputs["values"][None], groups)
            kept = cluster.update_kv(
                code.repeat_kv(keys[None], groups), queries, values, None, groups)
            found["expected_keys"], found["expected_values"] = kept[0][0], kept[1][0]
        if case["pruned"]:
            prefix = found["expected_positions"][:, :-window]
            found.update(scores_sum=seen["scores_sum"], scores_pooled=seen["out"][0],
                         topk_order=prefix, kept_indices=prefix.sort().values)
        return found

    return lambda case, inputs: with_wide(
        once, case, inputs, ("scores_sum", "scores_pooled", "kept_indices"))


def gemfilter(checkout):
    stand_in_for_transformers()
    code = module(checkout / "my_baseline/GemFilter/gem_filter_utils.py")

    def context(case, inputs):
        query, keys = inputs["query_last"], inputs["keys"]
        seen = {}
        pool, topk = torch.nn.functional.avg_pool1d, torch.topk
        code.F = types.SimpleNamespace(avg_pool1d=lambda x, **args: seen.update(
            scores_sum=x[0, 0], scores_pooled=pool(x, **args)[0, 0]) or pool(x, **args))
        layer = types.SimpleNamespace(indecies=None, layer_idx=0, select_layer_idx=0,
                                      topk=case["k"],
                                      num_key_value_groups=len(query) // len(keys))
        code.find_context(layer, query[None, :, None], keys[None])
        code.F = torch.nn.functional
        order = layer.indecies.flatten()
        return {**seen, "topk_order": order, "kept_indices": order.sort().values}

    def index(case, inputs):
        query, keys = inputs["query_last"], inputs["keys"]
        pool, seen = torch.nn.functional.avg_pool1d, {}
        code.F = types.SimpleNamespace(avg_pool1d=lambda x, **args: seen.update(
            scores=x[0], scores_pooled=pool(x, **args)[0]) or pool(x, **args))
        values, order = code.standard_dis_index(
            keys[None], query[None, :, None], case["k"], norm=case["norm"],
            pool=case["pool"] == "avg", kernel_size=case["kernel"],
            sum_over_heads=case["head_reduction"] == "sum")
        code.F = torch.nn.functional
        return {**seen, "topk_values": values[0], "topk_order": order[0],
                "kept_indices": order[0].sort(-1).values}

    def run(case, inputs):
        if case["fn"] == "standard_dis_index":
            return index(case, inputs)
        return with_wide(context, case, inputs, ("scores_sum", "scores_pooled", "kept_indices"))

    return run


def h2o(checkout, port):
    stand_in_for_transformers()
    original = module(checkout / "h2o_hf/utils_hh/modify_llama.py")
    ported = module(port / "my_baseline/H2O/utils_h2o.py").H2OKVCache_LayerWise

    def port_case(case, inputs):
        queries, keys = inputs["queries"], inputs["keys"]
        heads, slots, dim = queries.shape
        repeated = keys.repeat_interleave(heads // len(keys), 0)
        # As the port's attention layer has it: causal softmax in f32.
        scores = queries @ repeated.transpose(1, 2) / dim ** 0.5
        scores += torch.full((slots, slots), torch.finfo(scores.dtype).min).triu(1).to(scores.dtype)
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(queries.dtype)[None]
        rows = heads // case["groups"]
        position = torch.arange(slots, dtype=torch.float64).expand(1, rows, slots)
        position = position[..., None].expand(1, rows, slots, dim)
        past = types.SimpleNamespace(key_cache=[position.clone()], value_cache=[position.clone()])
        cache = ported(case["heavy"], case["recent"])
        # Scores are cut with the cache, so they are read from a cache that does not cut.
        whole = ported(case["heavy"], case["recent"])
        whole._update_hh_score(weights, case["groups"])
        cache(torch.zeros(1, heads, slots, dim), queries[None], 0, case["groups"], past, weights)
        return {"attention_column_sums": whole.hh_score,
                "expected_positions": past.key_cache[0][0, :, :, 0].long()}

    def original_case(case, inputs):
        queries, keys = inputs["queries"], inputs["keys"]
        heads, length, dim = queries.shape
        config = types.SimpleNamespace(
            hidden_size=heads * dim, num_attention_heads=heads, max_position_embeddings=length + 1,
            heavy_ratio=case["heavy_ratio"], recent_ratio=case["recent_ratio"])
        original.LlamaRotaryEmbedding = lambda *args, **named: lambda *a, **n: (None, None)
        layer = original.LlamaAttention_heavy_hitter(config).to(queries.dtype)
        steps = case["steps"]
        masks = torch.zeros(steps + 1, heads, length + 1, dtype=torch.uint8)
        scores = torch.zeros(steps + 1, heads, length + 1, dtype=queries.dtype)
        past = None
        for step in range(steps + 1):
            begin, end = (0, case["T"]) if step == 0 else (case["T"] + step - 1, case["T"] + step)
            original.apply_rotary_pos_emb = lambda *args: (
                queries[None, :, begin:end], keys[None, :, begin:end])
            mask = None
            if step == 0:
                mask = torch.full((end, end), torch.finfo(queries.dtype).min).triu(1)
                mask = mask.to(queries.dtype)[None, None]
            with torch.no_grad():
                *_, past = layer(torch.zeros(1, end - begin, heads * dim, dtype=queries.dtype),
                                 attention_mask=mask, past_key_value=past, use_cache=True)
            masks[step, :, :end + 1] = layer.attention_masks_next[0, :, 0].to(torch.uint8)
            scores[step, :, :end] = layer.previous_scores
        return {"expected_mask_next": masks, "expected_scores_after": scores}

    return lambda case, inputs: (
        port_case if case["fn"] == "H2OKVCache_LayerWise" else original_case)(case, inputs)


METHODS = {"stablemax": stablemax, "orthograd": orthograd, "snapkv": snapkv,
           "gemfilter": gemfilter, "h2o": h2o}
INPUTS = ("logits", "labels", "weight", "grad", "grads", "query_window", "query_last", "keys",
          "values", "queries")


def is_input(name):
    return name.rstrip("0123456789") in INPUTS


# Indices among equal scores are in no order that the code defines, and a tensor of our own is none
# of the code's.
def difference(case, name, recorded, found):
    """None where the two are the same; else how far they are apart."""
    if recorded.shape != found.shape or recorded.dtype != found.dtype:
        return f"{found.dtype} {list(found.shape)}, recorded {recorded.dtype} {list(recorded.shape)}"
    a, b = recorded.double().nan_to_num(1e300), found.double().nan_to_num(1e300)
    if torch.equal(a, b):
        return None
    if not recorded.is_floating_point():
        return f"{int((a != b).sum())} of {a.numel()} numbers"
    return float((a - b).abs().max() / a[a.abs() < 1e299].abs().max().clamp(min=1e-300))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--port", type=pathlib.Path)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("checkout", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    extra = (options.port,) if options.method == "h2o" else ()
    if None in extra:
        sys.exit("h2o needs --port, a checkout of GemFilter")
    run = METHODS[options.method](options.checkout, *extra)
    path = options.folder / f"{options.method}.safetensors"
    tensors = load_file(path)
    cases = json.loads(path.with_suffix(".json").read_text())["cases"]
    same, close, worst, problems, kept = 0, 0, 0.0, [], set()
    for id, case in cases.items():
        inputs = {name.split("/")[1]: t for name, t in tensors.items()
                  if name.startswith(id + "/") and is_input(name.split("/")[1])}
        found = call(run, case, inputs)
        for name in [name for name in tensors if name.startswith(id + "/")]:
            short = name.split("/")[1]
            if is_input(short):
                continue
            if short not in found:
                kept.add(short)  # ours: derived from what the code returns
                continue
            gap = difference(case, short, tensors[name], found[short])
            if gap is None:
                same += 1
            elif isinstance(gap, float) and gap < 1e-2 or case.get("ties_at_boundary") or (
                    case.get("noise_amplified")):
                close += 1
                worst = max(worst, gap if isinstance(gap, float) else 0)
            else:
                problems.append(f"{name}: {gap}")
            if options.write:
                tensors[name] = found[short].detach().contiguous()
    print(f"{options.method}: {len(cases)} cases; {same} tensors bit for bit, {close} not "
          f"(largest difference {worst:.1e} of the largest value); not the code's: "
          f"{', '.join(sorted(kept)) or 'none'}")
    print("\n".join(problems[:20]))
    if options.write:
        save_file(tensors, path)
    return 1 if problems and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
