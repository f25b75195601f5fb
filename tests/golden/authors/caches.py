# SPDX-License-Identifier: Apache-2.0
"""SnapKV, GemFilter and H2O: which tokens of a prompt stay in the cache."""
import sys
import types

import torch

from .checkout import module, with_wide


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


def snapkv(source):
    code = module(source.checkout / "snapkv/monkeypatch/snapkv_utils.py")

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


def gemfilter(source):
    stand_in_for_transformers()
    code = module(source.checkout / "my_baseline/GemFilter/gem_filter_utils.py")

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


def h2o(source):
    stand_in_for_transformers()
    original = module(source.checkout / "h2o_hf/utils_hh/modify_llama.py")
    ported = module(source.port / "my_baseline/H2O/utils_h2o.py").H2OKVCache_LayerWise

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
