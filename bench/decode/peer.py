# SPDX-License-Identifier: Apache-2.0
"""llama.cpp in a process of its own for `bench --decode`: the tasks of DecodeFigures.java.

usage: peer.py PACKAGES idle
       peer.py PACKAGES convert --model FILE --to TYPE --out FILE
       peer.py PACKAGES speed --model FILE --threads N --ids FILE --prompt P --short S --steps K
       peer.py PACKAGES agreement --model FILE --threads N --ids FILE
       peer.py PACKAGES generate --model FILE --threads N --ids FILE --steps K

PACKAGES is the folder that the package llama-cpp-python lies in. Of that its libraries and their
signatures are used, so nothing else is imported or paid for. Answers with a line of JSON; `idle`
and `generate` write what they have to say as they have it.
"""

import array
import ctypes
import json
import pathlib
import re
import sys
import time
import types

WARM_UP = 8  # steps before those that are timed
BATCH = 512
TYPES = {"bf16": "LLAMA_FTYPE_MOSTLY_BF16", "Q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0"}


def library(packages):
    """The low-level binding, without the package's __init__, which imports all else."""
    sys.path.insert(0, packages)
    package = types.ModuleType("llama_cpp")
    package.__path__ = [str(pathlib.Path(packages, "llama_cpp"))]
    sys.modules["llama_cpp"] = package
    import llama_cpp.llama_cpp as binding
    return binding


class Engine:
    """A model and a context of one sequence; all but sizes and threads as llama.cpp has it."""

    def __init__(self, llama, model, threads, tokens):
        self.llama = llama
        self.model = llama.llama_model_load_from_file(
            model.encode(), llama.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot load {model}")
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.tokens = llama.llama_vocab_n_tokens(self.vocab)
        params = llama.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = min(BATCH, tokens)
        params.n_threads = params.n_threads_batch = threads
        self.context = llama.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"llama.cpp cannot run {model}")
        self.batch = llama.llama_batch_init(BATCH, 0, 1)
        self.position = 0

    def clear(self):
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        self.position = 0

    def enter(self, ids, every=False):
        """Appends up to BATCH tokens; logits of the last one, or of every one."""
        batch = self.batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i] = token
            batch.pos[i] = self.position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = every or i + 1 == len(ids)
        if self.llama.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        self.position += len(ids)

    def prompt(self, ids):
        for begin in range(0, len(ids), BATCH):
            self.enter(ids[begin:begin + BATCH])
        self.llama.llama_synchronize(self.context)

    def step(self, token):
        self.enter([token])
        self.llama.llama_synchronize(self.context)

    def argmax(self, row=-1):
        logits = self.llama.llama_get_logits_ith(self.context, row)
        logits = array.array("f", ctypes.string_at(logits, 4 * self.tokens))
        return logits.index(max(logits))


def version(llama):
    """Of the package, and for what the libraries were compiled."""
    package = pathlib.Path(llama.__file__).parent.parent.glob("llama_cpp_python-*.dist-info")
    features = re.findall(r"(\w+) = 1", llama.llama_print_system_info().decode())
    return " ".join([*(folder.stem for folder in package), *features])


def speed(llama, options):
    ids, prompt, few, steps = options["ids"], options["prompt"], options["short"], options["steps"]
    engine = Engine(llama, options["model"], options["threads"],
                    max(prompt, few) + WARM_UP + steps)

    def per_second(prompt):
        """Tokens per second: of a prompt, and of `steps` after it."""
        engine.clear()
        begin = time.perf_counter()
        engine.prompt(ids[:prompt])
        prompted = prompt / (time.perf_counter() - begin)
        for t in range(prompt, prompt + WARM_UP + steps):
            if t == prompt + WARM_UP:
                begin = time.perf_counter()
            engine.step(ids[t])
        return prompted, steps / (time.perf_counter() - begin)

    per_second(prompt)
    after_few, after_prompt = per_second(few), per_second(prompt)
    return {"short": after_few[1], "long": after_prompt[1], "prompt": after_prompt[0],
            "bytes": llama.llama_model_size(engine.model), "version": version(llama)}


def agreement(llama, options):
    ids = options["ids"]
    engine = Engine(llama, options["model"], options["threads"], len(ids))
    steps, prompt = [], []
    for token in ids:
        engine.step(token)
        steps.append(engine.argmax())
    engine.clear()
    for begin in range(0, len(ids), BATCH):
        some = ids[begin:begin + BATCH]
        engine.enter(some, every=True)
        prompt += [engine.argmax(row) for row in range(len(some))]
    return {"steps": steps, "prompt": prompt}


def generate(llama, options):
    ids, steps = options["ids"], options["steps"]
    engine = Engine(llama, options["model"], options["threads"], len(ids) + steps)
    engine.prompt(ids)
    piece = ctypes.create_string_buffer(256)
    for i in range(steps):
        token = engine.argmax()
        length = llama.llama_token_to_piece(engine.vocab, token, piece, len(piece), 0, True)
        sys.stdout.buffer.write(piece.raw[:max(0, length)])
        sys.stdout.buffer.flush()
        if i + 1 < steps:
            engine.step(token)


def convert(llama, options):
    params = llama.llama_model_quantize_default_params()
    params.ftype = getattr(llama, TYPES[options["to"]])
    params.allow_requantize = True
    if llama.llama_model_quantize(options["model"].encode(), options["out"].encode(),
                                  ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp cannot convert {options['model']} to {options['to']}")
    return {}


TASKS = {"idle": None, "speed": speed, "agreement": agreement, "generate": generate,
         "convert": convert}


def main(packages, task, *arguments):
    options = dict(zip((name[2:] for name in arguments[::2]), arguments[1::2]))
    for name in {"threads", "prompt", "short", "steps"} & options.keys():
        options[name] = int(options[name])
    if "ids" in options:
        options["ids"] = [int(id) for id in pathlib.Path(options["ids"]).read_text().split()]
    llama = library(packages)
    if task == "idle":
        print(".")
        return
    silence = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(silence, None)
    llama.llama_backend_init()
    answer = TASKS[task](llama, options)
    if answer is not None:
        print(json.dumps(answer))


if __name__ == "__main__":
    if len(sys.argv) < 3 or len(sys.argv) % 2 == 0 or sys.argv[2] not in TASKS:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
