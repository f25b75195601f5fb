# SPDX-License-Identifier: Apache-2.0
"""PromptDistill: a cut of the prompt's tokens inside a decoder, alone and in a whole model."""
import json
import os
import types

import torch

from .checkout import Watch, at_row, call, functions, module, with_wide

EAGER = "eager"  # the other attention needs a name that the code does not import


def promptdistill(source):
    code = module(source.checkout / "models/llama.py")

    def prefill(case, stages, prompt_ends, layers, mask=None):
        """A model of random weights, of which the layers `layers` get recorded queries and keys."""
        query, keys = stages[0]
        prompts, heads, dim = query.shape
        slots = keys.shape[2]
        model = code.SelectiveLlamaModel(code.LlamaConfig(
            vocab_size=8, hidden_size=heads * dim, intermediate_size=8,
            num_hidden_layers=max(layers) + 2, num_attention_heads=heads,
            num_key_value_heads=keys.shape[1], attn_implementation=EAGER)).to(query.dtype)
        model.selection_layers, model.use_pooling = layers, case["pooling"]
        model.n_topks = case["k"] if isinstance(case["k"], list) else [case["k"]]
        model.cache_truncation_end = case.get("cache_truncation_end", 0)
        calls, raw = [], []

        def recorded(q, k, *args):
            calls.append(q)
            if len(calls) - 1 not in layers:
                return q, k
            query, keys = stages[layers.index(len(calls) - 1)]
            # After a cut the prompt's last token is the last row.
            row = prompt_ends if len(calls) == 1 else keys.shape[2] - 1
            return at_row(query, keys.shape[2], row), keys

        for layer in layers:
            model.layers[layer].register_forward_hook(lambda *seen: raw.append(seen[2][1]))
        code.apply_rotary_pos_emb = recorded
        with Watch("topk") as watch, torch.no_grad():
            out = model(inputs_embeds=torch.randn(prompts, slots, heads * dim, dtype=query.dtype),
                        prompt_ends=prompt_ends, attention_mask=mask, use_cache=True)
        # A cut takes the best scores, and then what is kept in the order of the prompt.
        cuts = [(best, kept) for best, kept in zip(watch.topk[::2], watch.topk[1::2])]
        return out, raw, cuts

    def kept(cut):
        length = int((cut.out.values > 0).sum(1).max())
        return cut.out.indices[:, :length], (cut.out.values[:, :length] > 0).long()

    def once(case, inputs):
        out, raw, [(best, order)] = prefill(
            case, [(inputs["query_last"], inputs["keys"])], inputs["prompt_ends"], [0],
            inputs.get("attention_mask"))
        return {"scores_raw": raw[0], "scores_selection": out.selection_logits,
                "topk_order": best.out.indices, "kept_indices": out.truncation_idx,
                "kept_valid": kept(order)[1]}

    def two_stages(case, inputs):
        stages = [(inputs[f"stage{i}_query_last"], inputs[f"stage{i}_keys"]) for i in (1, 2)]
        with Watch("avg_pool1d") as watch:
            out, _, cuts = prefill(case, stages, torch.tensor([case["T"] - 1]), case["layers"])
        found = {"composed_kept": out.truncation_idx,
                 "layer0_key_cache": out.past_key_values.key_cache[0],
                 "kv_lengths": [k.shape[2] for k in out.past_key_values.key_cache]}
        for i, (_, order) in enumerate(cuts):
            found[f"stage{i + 1}_kept"] = kept(order)[0]
            found[f"stage{i + 1}_scores_selection"] = watch.avg_pool1d[i].out
        return found

    def run(case, inputs):
        if case["kind"] == "two stages":
            return two_stages(case, inputs)
        return with_wide(once, case, inputs, ("scores_raw", "scores_selection", "kept_indices"))

    return run


def promptdistill_model(source):
    from transformers.models.llama.modeling_llama import LlamaForCausalLM
    code = module(source.checkout / "models/llama.py")
    answer = functions(source.checkout / "longbench/longbench.py", "get_pred",
                       scope={"torch": torch, "json": json, "tqdm": lambda x: x}).get_pred
    weights = {name.removeprefix("model/"): t for name, t in source.tensors.items()
               if name.startswith("model/") and name.endswith(".weight")}
    ids = source.tensors["model/input_ids"]
    shape = {key: value for key, value in source.cases["model"]["config"].items()
             if key not in ("rope", "activation")}

    def made(kind, dtype):
        torch.set_default_dtype(dtype)
        model = kind(code.LlamaConfig(**shape, attn_implementation=EAGER))
        model.load_state_dict(weights)
        return model.to(dtype).eval()

    def plain(dtype):
        with torch.no_grad():
            return made(LlamaForCausalLM, dtype)(ids).logits

    def run(case, inputs):
        if "config" in case:
            return {"plain_logits_f32": plain(torch.float32),
                    "plain_logits_f64": plain(torch.float64)}
        model = made(code.PromptDistill, torch.float64 if case["dtype"] == "f64" else torch.float32)
        model.model.selection_layers, model.model.n_topks = case["layers"], case["k"]
        outputs, caches, generated = [], [], []

        def note(_, args, out):
            outputs.append(out)
            cache = out.past_key_values
            caches.append(list(zip(cache.key_cache, cache.value_cache)))

        model.register_forward_hook(note)

        # A tokenizer that knows one text. It never ends, so that all steps are made.
        class Prompt(dict):
            input_ids = ids

            def to(self, device):
                return self

        def tokenizer(text, **named):
            return Prompt(input_ids=ids, attention_mask=torch.ones_like(ids))

        tokenizer.eos_token_id = -1
        tokenizer.decode = lambda tokens, **named: generated.extend(tokens) or ""
        args = types.SimpleNamespace(edition="promptdistill",
                                     cache_truncation_end=case["cache_truncation_end"])
        answer(args, None, [{"answers": None, "all_classes": None, "length": 0}],
               ids.shape[1], len(case["generated"]) - 1, "", model, tokenizer, os.devnull)
        first = outputs[0]
        ran = first.truncation_idx is not None
        found = {
            "kept_indices": first.truncation_idx if ran else torch.arange(ids.shape[1])[None],
            "prefill_logits": first.logits[0],
            "decode_logits": torch.stack([out.logits[0, -1] for out in outputs[1:]]),
            "layer0_keys": caches[0][0][0], "last_layer_keys": caches[0][-1][0],
            "last_layer_values": caches[0][-1][1], "selection_ran": ran,
            "generated": torch.tensor(generated),
            "kv_lengths_after_prefill": [k.shape[2] for k, _ in caches[0]],
            "kv_lengths_after_decode": [k.shape[2] for k, _ in caches[-1]]}
        if ran:
            found["scores_selection_last_stage"] = first.selection_logits
        return found

    return run
