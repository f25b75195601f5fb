# SPDX-License-Identifier: Apache-2.0
"""Takes code from a checkout, unchanged, and watches what it hands to PyTorch."""
import ast
import importlib.util
import sys
import types

import torch
from torch.overrides import TorchFunctionMode


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def functions(path, *names, scope=None):
    """Functions, or methods, of a module whose imports are not wanted, from their unchanged text.

    `scope` has the names that they use, and is where they are: to replace one there replaces it for
    them.
    """
    scope = {"torch": torch} if scope is None else scope
    found = [node for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.FunctionDef) and node.name in names]
    if sorted(node.name for node in found) != sorted(names):
        sys.exit(f"{path} has not once each of {', '.join(names)}")
    exec(compile(ast.Module(found, []), path, "exec"), scope)
    return types.SimpleNamespace(**{name: scope[name] for name in names})


def own_transformers(source):
    """Makes `import transformers` take a fork; the versions of others that it asks for do not
    matter to what is called here."""
    if not (source / "transformers").is_dir():
        sys.exit(f"{source} has no transformers")
    check = types.ModuleType("transformers.dependency_versions_check")
    check.dep_version_check = lambda *args, **named: None
    sys.modules[check.__name__] = check
    sys.path.insert(0, str(source))


class Watch(TorchFunctionMode):
    """Notes calls of PyTorch's functions of some names: watch.sum[0].out, .args, .named."""

    def __init__(self, *names):
        super().__init__()
        self.names = names
        for name in names:
            setattr(self, name, [])

    def __torch_function__(self, func, kinds, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in self.names:
            getattr(self, name).append(
                types.SimpleNamespace(args=args, named=kwargs or {}, out=out))
        return out


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


def at_row(rows, length, row):
    """[B, heads, length, dim] of zeros but for row[b] of prompt b, which is rows[b]."""
    made = torch.zeros(*rows.shape[:2], length, rows.shape[2], dtype=rows.dtype)
    made[torch.arange(len(rows)), :, row] = rows
    return made
