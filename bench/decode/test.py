# SPDX-License-Identifier: Apache-2.0
"""Command line, turns and table of `bench --decode`, with stand-ins for both engines."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import table

# Stands in for Java, for `exeunt generate` and, as peer.py's interpreter, for llama.cpp. Writes
# down what it was asked.
ENGINE = """#!{python}
import json, pathlib, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    print(*words, file=log)
def value(name):
    return words[words.index(name) + 1]
if words[0] == "generate" or "generate" in words or "idle" in words:
    print("answer")
elif "tokens" in words:
    print(json.dumps({{"tokens": list(range(10))}}))
elif "convert" in words:
    if value("--to") == "Q4_0":
        sys.exit("cannot convert")
    print("{{}}")
elif "screen" in words:
    print("{{}}")
elif "judge" in words:
    print(json.dumps({{"steps": [1] * 10}}))
elif "agreement" in words:
    peer = "--weights" not in words
    print(json.dumps({{"steps": [1] * 10, "prompt": [1] * 9 + [2 if peer else 1]}}))
elif "speed" in words:
    fast = 1 if "--weights" in words else 4
    print(json.dumps({{"short": 100 / fast, "long": 80, "prompt": 300, "bytes": 93e6, "isa": "any",
                      "version": "0.1"}}))
else:
    sys.exit("what?")
"""


def driver():
    loader = importlib.machinery.SourceFileLoader("run", str(HERE / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
    loader.exec_module(module)
    return module


class Arguments(unittest.TestCase):
    def refused(self, *words):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(driver().main(["--parse", "--decode", *words]), 2)
        self.assertEqual(said.getvalue().count("\n"), 1, said.getvalue())
        return said.getvalue()

    def test_refused(self):
        self.assertIn("'0' is no number", self.refused("--repeats", "0"))
        self.assertIn("'two' is no number", self.refused("--threads", "1,two"))
        self.assertIn("'half' is not certified or full", self.refused("--head", "half"))
        self.assertIn("'int4' is not int8 or int16", self.refused("--inputs", "int4"))
        self.assertIn("--quick", self.refused("--quick"))
        self.assertIn("--out: expected", self.refused("--out"))
        self.assertIn("no file /nowhere.gguf", self.refused("--model", "/nowhere.gguf"))
        self.assertIn("no file /nowhere.txt", self.refused("--text", "/nowhere.txt"))

    def test_taken(self):
        for words in ["--threads", "1,4"], ["--head", "certified,full"], ["--model", "gemma3"]:
            self.assertEqual(driver().main(["--parse", "--decode", *words]), 0)


class Runs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        self.engine = self.path / "engine"
        self.log = self.path / "asked"
        self.engine.write_text(ENGINE.format(python=sys.executable, log=str(self.log)))
        self.engine.chmod(0o755)
        for name in "model", "text":
            (self.path / name).write_text("ab " * 40)

    def run_driver(self, *more):
        run = driver()
        run.ROOT = self.path
        (self.path / "build").mkdir(exist_ok=True)
        with contextlib.redirect_stderr(io.StringIO()) as said, \
                contextlib.redirect_stdout(io.StringIO()) as out:
            status = run.main(["--decode", "--found", str(self.path / "model"), "--text",
                               str(self.path / "text"), "--generate", str(self.engine), "--python",
                               str(self.engine), "--out", str(self.path / "out"),
                               "--threads", "1,2", "--repeats", "3", "--peer", str(self.path),
                               *more, "--", str(self.engine)])
        return status, said.getvalue(), out.getvalue()

    def test_beside_the_peer(self):
        (self.path / "llama_cpp").mkdir()
        status, said, page = self.run_driver()
        self.assertEqual(status, 0, said)
        self.assertIn("llama.cpp Q4_0 is left out: cannot convert.", page)
        # After a short prompt exeunt is four times as fast as the best, after a long one not.
        self.assertRegex(page, r"after 16 tokens, tokens/s +\| 100.0 \(100.0 to 100.0\) \|"
                               r"( +25.0 \(25.0 to 25.0\) \|){2} +- \| +4.00x \|")
        self.assertRegex(page, r"after 512 .* 1.00x \|")
        self.assertRegex(page, r"as one prompt +\| +100.00 % \|( +90.00 % \|){2} +- \|")
        self.assertRegex(page, r"weights per token, MB +\|( +93 \|){3} +- \|")
        self.assertRegex(page, r"Of llama.cpp's first byte and memory \d+ ms and \d+ MB are Python")
        speeds = [line for line in self.log.read_text().splitlines() if " speed " in line]
        self.assertEqual(len(speeds), 3 * 2 * 3)  # contenders that can, threads, repeats
        ours = ["--weights" in line for line in speeds]
        self.assertEqual(ours, 2 * [True, False, False] + 2 * [False, False, True]
                         + 2 * [False, True, False])
        raw = json.loads(next((self.path / "out").glob("*-any-decode.json")).read_text())
        self.assertEqual(raw["samples"]["llama.cpp bf16, 2"]["long"], [80, 80, 80])

    def test_without_it(self):
        status, said, page = self.run_driver()
        self.assertEqual(status, 0, said)
        self.assertIn("llama.cpp is not here, so its columns are empty", page)
        self.assertRegex(page, r"after 16 [^|]*\| 100.0 \(.*\) \|( +- \|){4}")
        self.assertNotIn("peer.py", self.log.read_text())

    def test_heads(self):
        status, said, page = self.run_driver("--head", "certified,full")
        self.assertEqual(status, 0, said)
        self.assertRegex(page, r"\| exeunt file, certified \| +exeunt file \|")
        asked = self.log.read_text().splitlines()
        self.assertEqual(sum(" screen " in line for line in asked), 1)
        for task in "agreement", "speed", "generate":
            of_task = [line for line in asked if task in line.split()]
            heads = ["certified" in line.split() for line in of_task]
            self.assertEqual(sum(heads) * 2, len(heads))

    def test_inputs(self):
        status, said, page = self.run_driver("--inputs", "int16,int8")
        self.assertEqual(status, 0, said)
        self.assertRegex(page, r"\| exeunt file \| +exeunt file, int8 \|")
        speeds = [line.split() for line in self.log.read_text().splitlines() if " speed " in line]
        rounded = [words[words.index("--inputs") + 1] == "int8" for words in speeds]
        self.assertEqual(sum(rounded) * 2, len(rounded))

    def test_exeunt_must(self):
        self.engine.write_text(self.engine.read_text().replace('elif "judge"', 'elif "no judge"'))
        status, said, _ = self.run_driver()
        self.assertEqual(status, 1)
        self.assertTrue(said.endswith("bench --decode: what?\n"), said)


class Table(unittest.TestCase):
    def test_cells(self):
        self.assertEqual(table.cell([], 1), "-")
        self.assertEqual(table.cell([2.04], 1), "2.0")
        self.assertEqual(table.cell([9, 1, 2], 0), "2 (1 to 9)")

    def test_columns(self):
        self.assertEqual(table.markdown(["", "b"], [["one", "10"], ["x", "2"]]),
                         "|     |  b |\n|-----|---:|\n| one | 10 |\n| x   |  2 |")

    def test_rivals_must_agree(self):
        def against(steps, key, more, good=100):
            run = {"contenders": ["own", "good", "fast"], "peers": ["good", "fast"],
                   "samples": {("own", 1): {"key": [6]}, ("good", 1): {"key": [3]},
                               ("fast", 1): {"key": [12]}},
                   "agreement": {"good": {"steps": [1] * good + [0] * (100 - good)},
                                 "fast": {"steps": [1] * steps + [0] * (100 - steps)}},
                   "judge": [1] * 100}
            return table.against(run, 1, key, more)

        self.assertEqual(against(95, "key", True), "2.00x")
        self.assertEqual(against(95, "key", True, good=9), "2.00x")  # the file as it is
        self.assertEqual(against(96, "key", True), "0.50x")
        self.assertEqual(against(96, "key", False), "2.00x")
        self.assertEqual(against(96, "other", True), "-")


if __name__ == "__main__":
    unittest.main()
