# SPDX-License-Identifier: Apache-2.0
"""StableMax and OrthoGrad: a loss and an optimiser."""
import torch

from .checkout import functions, module


def stablemax(source):
    code = functions(source.checkout / "utils.py", "s", "log_stablemax", "stablemax_cross_entropy",
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


def orthograd(source):
    code = module(source.checkout / "orthograd.py").OrthoGrad

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
