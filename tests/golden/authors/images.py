# SPDX-License-Identifier: Apache-2.0
"""HiRED, FastV and PyramidDrop: which tokens of an image are kept."""
import importlib
import math
import types

import torch

from .checkout import Watch, at_row, functions, module, own_transformers, with_wide

PATCH = 14  # pixels; only the ratio of sides matters to the code


def hired(source):
    own_transformers(source.checkout / "transformers/src")
    models = "transformers.models."
    code = importlib.import_module(models + "llava_next.modeling_llava_next")
    small = importlib.import_module(models + "llava.modeling_llava")

    class Model(code.LlavaNextForConditionalGeneration):
        """The model without its weights: what it looks up in the configuration, and notes."""

        def __init__(self, case, images):
            torch.nn.Module.__init__(self)
            size = PATCH * case["side"]
            self.seen = {}
            self.config = types.SimpleNamespace(
                image_grid_pinpoints=[[rows * size, columns * size] for rows, columns in images],
                vision_config=types.SimpleNamespace(image_size=size, patch_size=PATCH),
                hired_config={"token_budget_rate": case["rate"], "alpha": case["alpha"]},
                vision_feature_layer=-2, vision_feature_select_strategy="default",
                image_token_index=9, ignore_index=-100, output_attentions=False,
                output_hidden_states=False, use_return_dict=False)
            self.pad_token_id, self._padding_side = -1, "left"

        def HiRED_sub_img_budgets(self, marks, partitions, budget, *rest):
            budgets = super().HiRED_sub_img_budgets(marks, partitions, budget, *rest)
            self.seen.update(marks=marks.to(torch.uint8), sub_budgets=budgets.long(),
                             n_marks=int(marks.sum()), budget_sub=budget)
            return budgets

        def pack_HiRED_image_features(self, *args, **named):
            packed = super().pack_HiRED_image_features(*args, **named)
            self.seen["packed"] = packed[0]
            return packed

    def selection(case, inputs):
        early, late = inputs["cls_block0"], inputs["cls_block22"]
        side, patches = case["side"], late.shape[-1]
        # Every image lies in a grid of its own; one partition alone has none.
        if isinstance(case.get("partitions"), list):
            images = [(2, 2), (1, 2)]
            partitions = case["partitions"]
        else:
            images = [case.get("grid") or (case.get("grid_rows", 1), case.get("grid_cols", 1))]
            partitions = [len(late)]
        sizes = [(case.get("image_height", rows * side * PATCH),
                  case.get("image_width", columns * side * PATCH)) for rows, columns in images]
        model = Model(case, images)
        with Watch("sum") as watch:
            # Of the attention the row of CLS is read, and of it all but the column of CLS.
            masks = model.HiRED_token_selection(
                early[:, :, None], late[:, :, None], partitions, 0, patches, case["rate"],
                case["alpha"], sizes)
        found = {"score_block22": watch.sum[0].out, "score_block0_full": watch.sum[1].out[0]}
        for i, mask in enumerate(masks):
            found[f"expected_mask_image{i}"] = mask.to(torch.uint8)
        if len(masks) == 1:
            found.update(model.seen, expected_mask=found["expected_mask_image0"],
                         kept_total=int(mask.sum()), kept_per_partition=mask.sum(1).tolist())
            # Features that say of which token they are.
            names = torch.stack(torch.meshgrid(
                torch.arange(len(late)), torch.arange(patches), indexing="ij"), -1)
            packed, _ = model.pack_HiRED_image_features([names], sizes, image_features_masks=masks)
            found.update(packed_partition=packed[:, 0], packed_token=packed[:, 1],
                         packed_len=len(packed))
        return found

    def llava_1_5(case, inputs):
        late = inputs["cls_block22"]
        model = object.__new__(small.LlavaForConditionalGeneration)
        with Watch("sum") as watch:
            mask = model.HiRED_token_selection(late[:, :, None], late.shape[-1], case["rate"])
        return {"score_block22": watch.sum[0].out, "expected_mask": mask.to(torch.uint8),
                "kept_total": int(mask.sum())}

    def tower(blocks):
        """What the hooks look for: projections of some blocks, that pass on what comes in."""
        layers = {block: types.SimpleNamespace(self_attn=types.SimpleNamespace(
            q_proj=torch.nn.Identity(), k_proj=torch.nn.Identity())) for block in blocks}
        return types.SimpleNamespace(vision_model=types.SimpleNamespace(
            encoder=types.SimpleNamespace(layers=layers)))

    def project(tower, block, query, keys):
        attention = tower.vision_model.encoder.layers[block].self_attn
        queries = torch.zeros_like(keys)
        queries[:, 0] = query
        attention.q_proj(queries)
        attention.k_proj(keys)

    def attention(case, inputs):
        def once(case, inputs):
            vision = tower([0])
            hook = code.ViT_Attn_Hook(types.SimpleNamespace(vision_tower=vision), 0, case["heads"])
            project(vision, 0, inputs["q_cls"], inputs["k_proj"])
            row = hook.get_attn()[:, :, 0]
            # The sum is the first step of HiRED_token_selection.
            return {"cls_attention": row, "cls_score": row[:, :, 1:].sum(dim=1)}
        return with_wide(once, case, inputs, ("cls_attention",))

    def forward(case, inputs):
        model = Model(case, [(case["grid_rows"], case["grid_cols"])])
        partitions, slots, _ = inputs["k_block0"].shape
        vision = tower([0, 22])

        def see(pixels, output_hidden_states):
            for block in 0, 22:
                project(vision, block, inputs[f"q_cls_block{block}"], inputs[f"k_block{block}"])
            return types.SimpleNamespace(hidden_states=[torch.zeros(partitions, slots, 1)] * 2)

        def speak(inputs_embeds, **named):
            model.seen["llm_tokens"] = inputs_embeds.shape[1]
            return (torch.zeros(1),)

        see.vision_model = vision.vision_model
        width = inputs["projected_features"].shape[-1]
        speak.get_input_embeddings = lambda: torch.nn.Embedding(10, width)
        model.vision_tower, model.language_model = see, speak
        model.multi_modal_projector = lambda features: inputs["projected_features"]
        ids = torch.tensor([[1, model.config.image_token_index, 2, 3]])
        with Watch("sum") as watch, torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids),
                  pixel_values=torch.zeros(partitions, 1, 1, 1),
                  image_sizes=torch.tensor([[case["image_height"], case["image_width"]]]))
        mask = model.selected_tokens_mask[0]
        sums = [c.out for c in watch.sum if c.named == {"dim": 1} and c.out.is_floating_point()]
        return {"cls_score_block22": sums[0], "cls_score_block0_full": sums[1][0],
                "expected_mask": mask.to(torch.uint8), "packed_features": model.seen["packed"],
                "packed_len": len(model.seen["packed"]), "kept_total": int(mask.sum()),
                "llm_tokens": model.seen["llm_tokens"]}

    kinds = {"HiRED_token_selection": selection, "llava-1.5 HiRED_token_selection": llava_1_5,
             "ViT_Attn_Hook.get_attn": attention,
             "LlavaNextForConditionalGeneration.forward": forward}

    def run(case, inputs):
        # The model divides integers, in f32 whatever its weights are.
        torch.set_default_dtype(torch.float32)
        return kinds[case["fn"]](case, inputs)

    return run


def fastv(source):
    own_transformers(source.checkout / "src/FastV/llava-hf/transformers/src")
    code = importlib.import_module("transformers.models.llama.modeling_llama")
    rotate = code.apply_rotary_pos_emb

    def run(case, inputs):
        query, keys = inputs["query_last"], inputs["keys"]
        heads, dim = query.shape
        slots, layer = keys.shape[1], case["layer"]
        config = code.LlamaConfig(
            vocab_size=8, hidden_size=heads * dim, intermediate_size=8, num_hidden_layers=layer + 1,
            num_attention_heads=heads, num_key_value_heads=len(keys), max_position_embeddings=slots,
            attn_implementation="eager")
        model = code.LlamaModel(config).to(query.dtype)
        calls = []

        # The layer before the cut gets the recorded queries and keys.
        def recorded(q, k, *args):
            calls.append(q)
            if len(calls) != layer:
                return rotate(q, k, *args)
            return at_row(query[None], slots, slots - 1), keys[None]

        seen = {}
        model.layers[layer].register_forward_pre_hook(
            lambda _, args, named: seen.update(kept=named["position_ids"][0]), with_kwargs=True)
        code.apply_rotary_pos_emb = recorded
        with Watch("mean") as watch, torch.no_grad():
            model.fastv_forward(
                inputs_embeds=torch.randn(1, slots, heads * dim, dtype=query.dtype),
                use_cache=case["use_cache"],
                fastv_config={"fastv_k": layer, "fastv_r": case["r"],
                              "image_token_start_index": case["image_start"],
                              "image_token_length": case["image_length"]})
        means = [c.out for c in watch.mean if c.named == {"dim": 1}]
        return {"scores": means[0][0, -1], "kept_indices": seen["kept"],
                "keep": len(seen["kept"]) - slots + case["image_length"]}

    return run


def pyramiddrop(source):
    # Imported late, so that a fork of another method can take the name.
    from transformers.modeling_attn_mask_utils import _prepare_4d_causal_attention_mask
    model = source.checkout / "llava/model"
    scope = {"torch": torch, "nn": torch.nn, "math": math,
             "IGNORE_INDEX": module(source.checkout / "llava/constants.py").IGNORE_INDEX,
             "_prepare_4d_causal_attention_mask": _prepare_4d_causal_attention_mask}
    code = functions(model / "modeling_llama_pdrop.py", "pdrop_rank_drop", scope=scope)

    def run(case, inputs):
        rows, keys = inputs["query_row"], inputs["keys"]
        prompts, heads, slots, dim = keys.shape
        queries = at_row(rows, slots, torch.tensor(case["query_row"]))
        scope["apply_rotary_pos_emb"] = lambda *args: (queries, keys)
        flat = torch.zeros(prompts, slots, heads * dim, dtype=keys.dtype)
        attention = types.SimpleNamespace(
            num_heads=heads, num_key_value_heads=heads, head_dim=dim,
            q_proj=lambda x: flat, k_proj=lambda x: flat, v_proj=lambda x: flat,
            rotary_emb=lambda x, seq_len: (None, None))
        model = types.SimpleNamespace(
            config=None, training=False, image_tokens=case["image_tokens_original"],
            image_token_ratio_list=case["ratios"], image_token_posi=case["image_start"],
            prompt_len=case["prompt_len_without_image"],
            layers=[types.SimpleNamespace(self_attn=attention, input_layernorm=lambda x: x)])
        position = torch.arange(slots).expand(prompts, slots)
        valid = torch.tensor(case["valid"] or [slots] * prompts)
        with Watch("topk") as watch:
            positions, mask, features, _ = code.pdrop_rank_drop(
                model, case["stage"], 0, position[..., None].to(keys.dtype), position,
                (position < valid[:, None]).long(), None)
        found = {"kept_indices": features[..., 0].long(), "kept_valid": mask,
                 "new_position_ids": positions}
        with_image = [b for b in range(prompts) if case["image_start"][b] >= 0]
        for b, cut in zip(with_image, watch.topk, strict=True):
            found[f"image_scores{b}"] = cut.args[0]
        return found

    return run
