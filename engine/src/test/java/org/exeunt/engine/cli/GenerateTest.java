// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.exeunt.cli.HelpPage;
import org.exeunt.engine.TestData;
import org.exeunt.engine.answer.Probe;
import org.exeunt.engine.answer.Sampling;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.TinyGemma;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.Schedule;
import org.exeunt.engine.speculate.Speculation;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class GenerateTest {
  @TempDir static Path folder;
  private static Path model;

  private record Result(int status, String out, String log) {}

  @BeforeAll
  static void write() throws IOException {
    model = TinyModel.write(folder.resolve("tiny.gguf"));
  }

  private static Result generate(String... arguments) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream log = new ByteArrayOutputStream();
    int status = Generate.run(new PrintStream(out, false, StandardCharsets.UTF_8),
        new PrintStream(log, true, StandardCharsets.UTF_8), arguments);
    return new Result(
        status, out.toString(StandardCharsets.UTF_8), log.toString(StandardCharsets.UTF_8));
  }

  private static Result answer(String options) {
    return answer(model, options);
  }

  private static Result answer(Path of, String options) {
    List<String> arguments = new ArrayList<>(
        List.of("--model", of.toString(), "--raw", "--prompt", "abcabc", "--max-tokens", "12"));
    arguments.addAll(options.isEmpty() ? List.of() : Arrays.asList(options.split(" ")));
    return generate(arguments.toArray(String[] ::new));
  }

  private static void assertRefused(String expected, String... arguments) {
    Result result = generate(arguments);
    assertEquals(2, result.status, result.log);
    assertTrue(result.log.contains(expected), result.log);
    assertEquals(1, result.log.lines().count(), result.log);
    assertEquals("", result.out);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"", "--weights f32", "--weights bf16", "--exit fixed:2",
          "--exit threshold:0.1 --kv none", "--exit calm:0.2,4,12 --exit-points 1,1",
          "--exit margin:0.05 --exit-points 1,1 --kv recompute", "--schedule unified:3",
          "--ffn-skip 1,4,0,-2,2", "--temperature 0.7 --top-p 0.9 --seed 3",
          "--temperature 1 --samples 3",
          "--temperature 1 --samples 4 --stop perplexity --top-p 0.9",
          "--temperature 1 --samples 2 --stop certainty --end-bias 2",
          "--temperature 1 --samples 5 --stop borda:2",
          "--temperature 1 --samples 2 --abstain 0.000001", "--temperature 1 --abstain 0.000001",
          "--stop probe:0.9,2 --probe abc --probe-words d|e",
          "--stop trial:1,2,3 --probe abc --temperature 1 --top-p 0.9 --abstain 0.000001",
          "--temperature 1 --branches 5", "--temperature 1 --end-bias -3",
          "--temperature 1 --samples 3 --drop snapkv:2,4", "--drop promptdistill:1,3",
          "--drop promptdistill:0,4,2,2", "--drop promptdistill:1,3:1,0", "--drop gemfilter:2,3",
          "--drop snapkv:2,4", "--drop snapkv:2,4:max,3", "--drop h2o:0.4,0.4", "--drop h2o",
          "--drop fastv:2,0.5", "--drop pyramiddrop:1,0.8,3,0.4",
          "--drop promptdistill:1,3 --exit fixed:2 --kv recompute"})
  void answersWithEveryMethod(String options) throws IOException {
    Path blocks = TinyModel.writeBlocks(folder.resolve("blocks.gguf"));
    for (Path either : List.of(model, blocks)) {
      Result result = answer(either, options);
      assertEquals(0, result.status, result.log);
      assertEquals("", result.log);
      assertTrue(result.out.strip().matches("[a-w]*"), result.out);
      assertEquals(result.out, answer(either, options).out);
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"selfdraft:3", "del", "del-paper:1,2 --draft-length 4", "lookup",
          "lookup:2 --draft-rule fixed:5",
          "selfdraft:2 --draft-rule confidence:0.2 --draft-length 3", "model:tiny.gguf",
          "lookup+selfdraft:3", "lookup:2+model:tiny.gguf --draft-rule fixed:4",
          "selfdraft:3 --draft-shortlist 6", "model:tiny.gguf --draft-shortlist 12"})
  void draftsDoNotChangeTheAnswer(String speculate) {
    String drafts = "--speculate " + speculate.replace("tiny.gguf", model.toString());
    for (String options : List.of("", "--weights bf16", "--temperature 2 --seed 3",
             "--temperature 0.9 --top-p 0.8", "--drop snapkv:2,4")) {
      Result result = answer((options + " " + drafts).strip());
      assertEquals(0, result.status, result.log);
      assertEquals(answer(options).out, result.out, options);
    }
  }

  @Test
  void countsDrafts() {
    Result several = answer("--stats --draft-rule fixed:3 --speculate lookup:1+model:" + model);
    assertTrue(
        several.log.matches("(?s).*\\Rdrafts of lookup: [0-9]+ tokens, [0-9]+ of them right\\R"
            + "drafts of model: ([0-9]+) tokens, \\1 of them right\\R.*"),
        several.log);
    Result result = answer("--stats --speculate model:" + model + " --draft-rule fixed:3");
    assertTrue(result.log.matches("(?s).*drafts: ([0-9]+) tokens, \\1 of them right; "
                   + "[34]\\.[0-9]+ tokens per verification.*"),
        result.log);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"", "--weights f32", "--weights bf16", "--exit fixed:2",
          "--exit threshold:0.1 --kv none", "--exit margin:0.05 --exit-points 1,1 --kv recompute",
          "--schedule unified:3", "--ffn-skip 1,6,0,-2,2", "--temperature 0.7 --seed 3",
          "--temperature 1 --samples 3", "--temperature 1 --branches 4"})
  void answersWithGemma(String options) throws IOException {
    Path gemma = TinyGemma.write(folder.resolve("gemma.gguf"));
    List<String> arguments = new ArrayList<>(
        List.of("--model", gemma.toString(), "--prompt", "abc a b c", "--max-tokens", "12"));
    arguments.addAll(options.isEmpty() ? List.of() : Arrays.asList(options.split(" ")));
    Result result = generate(arguments.toArray(String[] ::new));
    assertEquals(0, result.status, result.log);
    assertEquals("", result.log);
    assertEquals(result.out, generate(arguments.toArray(String[] ::new)).out);
    assertRefused("layers see a window", "--model", gemma.toString(), "--prompt", "a", "--drop",
        "fastv:2,.5");
  }

  /** Letters are tokens, and so is what divides turns. */
  private static Path chatty() throws IOException {
    return TinyModel.write(folder.resolve("chatty.gguf"),
        other("tokenizer.chat_template",
            "{% for m in messages %}{{ '<end>' if m.role == 'user' }}"
                + "{{ m.content + '<end>' }}{% endfor %}"),
        null);
  }

  private static Result say(Path to, String lines, String... arguments) {
    InputStream before = System.in;
    System.setIn(new ByteArrayInputStream(lines.getBytes(StandardCharsets.UTF_8)));
    try {
      List<String> all = new ArrayList<>(List.of("--model", to.toString(), "--chat"));
      all.addAll(List.of(arguments));
      return generate(all.toArray(String[] ::new));
    } finally {
      System.setIn(before);
    }
  }

  /** Each answer is that to the whole conversation so far, of which only the rest goes in. */
  @ParameterizedTest
  @ValueSource(
      strings = {"", "--weights bf16", "--head certified", "--speculate lookup",
          "--speculate selfdraft:3 --draft-rule fixed:3", "--speculate del",
          "--speculate model:tiny.gguf --draft-rule fixed:3"})
  void turnsHaveOneCache(String options) throws IOException {
    Path chatty = chatty();
    List<String> arguments = new ArrayList<>(List.of("--max-tokens", "9", "--stats"));
    arguments.addAll(options.isEmpty()
            ? List.of()
            : List.of(options.replace("tiny.gguf", model.toString()).split(" ")));
    Result chat =
        say(chatty, "abcabc\n\nkq\nhello\n/exit\nnever\n", arguments.toArray(String[] ::new));
    assertEquals(0, chat.status, chat.log);
    List<String> answers = chat.out.lines().toList();
    assertEquals(3, answers.size(), chat.out);
    String weights = options.startsWith("--weights") ? options : "--weights file";
    String text = "";
    int given = 0;
    int left = 0;
    int turn = 0;
    for (String said : List.of("abcabc", "kq", "hello")) {
      given += left + (turn > 0 ? 1 : 0) + said.length() + 2;
      text += "<end>" + said + "<end>";
      String alone = generate("--model", chatty.toString(), "--raw", "--prompt", text,
          "--max-tokens", "9", weights.split(" ")[0], weights.split(" ")[1])
                         .out.strip();
      assertEquals(alone, answers.get(turn++), text);
      text += alone + "<end>";
      left = alone.length() == 9 ? 1 : 0;
    }
    // Where the cache may not be written to, a line says so before.
    assertTrue(
        chat.log.matches("(?s)(.*\\R)?prompt: " + given + " tokens, .*"), given + ": " + chat.log);
  }

  private static Result said(String... arguments) {
    List<String> all = new ArrayList<>(
        List.of("--model", model.toString(), "--max-tokens", "9", "--temperature", "3", "--stats"));
    all.addAll(List.of(arguments));
    return generate(all.toArray(String[] ::new));
  }

  /** Certified heads of a model. */
  static List<Path> screens(String name) throws IOException {
    if (!Files.isDirectory(Models.screens())) {
      return List.of();
    }
    try (Stream<Path> files = Files.list(Models.screens())) {
      return files.filter(file -> file.getFileName().toString().startsWith(name)).toList();
    }
  }

  @AfterAll
  static void removeScreens() throws IOException {
    for (String name : List.of("chatty.gguf", "unmade.gguf")) {
      for (Path file : screens(name)) {
        Files.delete(file);
      }
    }
  }

  @Test
  void packedWeightsSayTheSame() throws IOException {
    Path blocks = TinyModel.writeBlocks(folder.resolve("blocks.gguf"));
    Result inPlace = say(blocks, "", "--prompt", "abc", "--max-tokens", "9");
    Result packed = say(blocks, "", "--prompt", "abc", "--max-tokens", "9", "--weights", "packed");
    assertEquals(0, packed.status, packed.log);
    assertEquals(inPlace.out, packed.out);
    assertEquals(packed.log.contains("packing the weights, once for this model"),
        Files.exists(Models.packed(blocks)));
    assertEquals(inPlace.out,
        say(blocks, "", "--prompt", "abc", "--max-tokens", "9", "--weights", "packed").out);
    Files.deleteIfExists(Models.packed(blocks));
  }

  @Test
  void systemMessagesAreGiven() throws IOException {
    Result system = said("--system", "abc", "--prompt", "d");
    Result text = said("--raw", "--prompt", "system\nabc\nuser\nd\nassistant\n");
    assertEquals(text.out, system.out);
    String tokens = "prompt: "
        + "sstemabcuserdassistant".length() + " tokens, ";
    assertTrue(text.log.startsWith(tokens), text.log);
    assertTrue(system.log.startsWith(tokens), system.log);
    Result chat =
        say(model, "d\n", "--system", "abc", "--max-tokens", "9", "--temperature", "3", "--stats");
    assertEquals(system.out, chat.out);
    assertTrue(chat.log.startsWith(tokens), chat.log);
    assertTrue(said("--prompt", "d").log.startsWith("prompt: 25 tokens, "), "its own");
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.remove("tokenizer.chat_template");
    Path base = TinyModel.write(folder.resolve("base.gguf"), metadata, null);
    Result usual = generate(
        "--model", base.toString(), "--system", "abc", "--prompt", "d", "--max-tokens", "9");
    assertTrue(usual.log.contains("turns are written as ChatML"), usual.log);
    assertEquals(
        generate("--model", base.toString(), "--raw", "--prompt",
            "<|im_start|>system\nabc<|im_end|>\n<|im_start|>user\nd<|im_end|>\n"
                + "<|im_start|>assistant\n",
            "--max-tokens", "9")
            .out,
        usual.out);
  }

  @Test
  void whatCutsAnAnswerOffIsSaid() throws IOException {
    String prompt = "a".repeat(TinyModel.CONTEXT - 4);
    Result full = generate("--raw", "--stats", "--model", model.toString(), "--prompt", prompt);
    assertEquals(0, full.status, full.log);
    String why = "the context is full after 96 tokens";
    assertTrue(full.log.contains("generate: the answer was cut off: " + why), full.log);
    assertTrue(full.log.contains("end of the answer: " + why), full.log);
    Result most = answer("--stats --max-tokens 2");
    assertTrue(most.log.contains("end of the answer: --max-tokens 2"), most.log);
    assertFalse(most.log.contains("cut off"), most.log);
    Result ended = generate("--raw", "--stats", "--model", chatty().toString(), "--prompt",
        "abcabc", "--temperature", "60", "--max-tokens", "80");
    assertTrue(ended.log.contains("end of the answer: the model's"), ended.log);
  }

  /** What does not fit is not said, and the conversation goes on. */
  @Test
  void conversationsHaveAnEnd() throws IOException {
    Result chat = say(chatty(),
        "abc\n"
            + "k".repeat(30) + "\nhi\n",
        "--context", "30", "--max-tokens", "9", "--stats");
    assertEquals(0, chat.status, chat.log);
    assertTrue(
        chat.log.matches("(?s)generate: with this the conversation would have [0-9]+ tokens, "
            + "but there is room for 29 and an answer: it was not said\\R.*"),
        chat.log + chat.out);
    assertEquals(2, chat.out.lines().count(), chat.out);
    Result without = say(chatty(), "abc\nhi\n", "--context", "30", "--max-tokens", "9");
    assertEquals(without.out, chat.out);
    Result cut = say(chatty(), "fg\n", "--context", "8", "--max-tokens", "9");
    assertTrue(cut.log.contains("cut off: the context is full after 8 tokens"), cut.log + cut.out);
  }

  @Test
  void senselessConversationsAreRefused() {
    assertRefused("--chat and --raw cannot be used together", "--chat", "--raw");
    assertRefused(
        "--system and --raw cannot be used together", "--system", "a", "--raw", "--prompt", "a");
    assertRefused("without --chat there is room for one answer", "--prompt", "a", "--context", "9");
    assertRefused("--prompt is '-', but --chat reads", "--chat", "--prompt", "-");
    assertRefused("--context is '97', but the model was made for 96 tokens", "--model",
        model.toString(), "--chat", "--context", "97");
    assertRefused("a draft of 9 tokens does not fit", "--model", model.toString(), "--chat",
        "--context", "9", "--speculate", "lookup", "--draft-length", "9");
    for (String options : List.of("--samples 2 --temperature 1", "--branches 2 --temperature 1",
             "--stop probe:.5", "--abstain .5 --temperature 1", "--end-bias 1 --temperature 1",
             "--drop h2o", "--device cuda:0")) {
      List<String> arguments = new ArrayList<>(List.of("--chat"));
      arguments.addAll(List.of(options.split(" ")));
      assertRefused(
          "--chat cannot be used with " + options.split(" ")[0], arguments.toArray(String[] ::new));
    }
  }

  /** Before a certified head is made, or anything is fitted: none of their files is there after. */
  @Test
  void optionsAreCheckedBeforeAnythingIsMade() throws IOException {
    Path other = folder.resolve("unmade");
    Files.createDirectories(other);
    Map<String, Object> metadata = TinyModel.metadata();
    String[] tokens = ((String[]) metadata.get("tokenizer.ggml.tokens")).clone();
    tokens[7] = "z";
    metadata.put("tokenizer.ggml.tokens", tokens);
    Path foreign = TinyModel.write(folder.resolve("foreign-tokens.gguf"), metadata, null);
    Path text = Files.writeString(folder.resolve("no.safetensors"), "no");
    String file = " " + other.resolve("made.safetensors");
    for (List<String> one :
        List.of(List.of("an exit rule that reads the head", "--exit threshold:0.9"),
            List.of("an exit rule that reads the head", "--exit patience:1 --kv none"),
            List.of("drafts cannot be used together with", "--exit fixed:2 --speculate lookup"),
            List.of("drafts cannot be used", "--ffn-skip 1,2,0,.5 --speculate selfdraft:2"),
            List.of("drafts cannot be used", "--schedule unified:2 --speculate selfdraft:2"),
            List.of("vocabulary has 24", "--speculate selfdraft:2 --draft-shortlist 25"),
            List.of("a draft of 40 tokens does not fit",
                "--speculate selfdraft:2 --draft-length 40 --max-tokens 9 --draft-translators"
                    + file),
            List.of("another vocabulary",
                "--speculate model:" + foreign + " --draft-rule specdec:" + file.strip()),
            List.of("there is no file", "--speculate model:absent.gguf"),
            List.of("cannot be made in",
                "--speculate selfdraft:2 --draft-translators " + text.resolve("file")),
            List.of("no.safetensors",
                "--speculate selfdraft:2 --draft-rule specdec:" + text + " --draft-translators"
                    + file))) {
      List<String> arguments = new ArrayList<>(List.of("--head", "certified"));
      arguments.addAll(List.of(one.get(1).split(" ")));
      Path copy =
          Files.copy(model, folder.resolve("unmade.gguf"), StandardCopyOption.REPLACE_EXISTING);
      assertModelRefused(one.get(0), copy, arguments.toArray(String[] ::new));
      assertEquals(0, other.toFile().list().length, one.get(1));
      assertEquals(List.of(), screens("unmade.gguf"), one.get(1));
    }
  }

  /** A model that was not taught to chat. */
  @Test
  void goesOnWithTextWithoutAChatFormat() throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.remove("tokenizer.chat_template");
    Path base = TinyModel.write(folder.resolve("base.gguf"), metadata, null);
    Result result = generate("--model", base.toString(), "--prompt", "abcabc");
    assertEquals(0, result.status);
    assertEquals(
        generate("--raw", "--model", base.toString(), "--prompt", "abcabc").out, result.out);
    assertTrue(result.log.contains("knows no chat format"), result.log);
  }

  @Test
  void seedsDrawDifferently() {
    assertNotEquals(answer("--temperature 2 --seed 1").out, answer("--temperature 2 --seed 2").out);
  }

  @Test
  void senselessSamplesAreRefused() {
    String[] start = {"--model", model.toString(), "--prompt", "a"};
    List<List<String>> wrong = List.of(List.of("needs a --temperature", "--samples", "2"),
        List.of("needs a --temperature", "--branches", "2"),
        List.of("needs a --temperature", "--end-bias", "1"),
        List.of("from 1 to 64", "--samples", "0"), List.of("from 1 to 64", "--branches", "65"),
        List.of("nothing to choose from", "--stop", "first", "--temperature", "1"),
        List.of("not " + Sampling.FORMS, "--stop", "last", "--samples", "2", "--temperature", "1"),
        List.of("needs the power to be 0 to 100", "--stop", "borda:-1", "--samples", "2",
            "--temperature", "1"),
        List.of("above 0, up to 1", "--abstain", "0", "--temperature", "1"),
        List.of("needs a --temperature", "--abstain", "0.5"),
        List.of(
            "cannot be used together", "--abstain", "0.5", "--branches", "2", "--temperature", "1"),
        List.of("--stop that probes", "--probe", "a"),
        List.of("needs the probability to be 0 to 1", "--stop", "probe:2"),
        List.of("must be above 0", "--stop", "probe:0"),
        List.of("at least the 0.9 of --abstain", "--stop", "probe:0.8", "--abstain", "0.9"),
        List.of("needs EVERY to be 1 to", "--stop", "trial:0.8,0"),
        List.of("looks for none", "--stop", "trial:0.8", "--probe-words", "a"),
        List.of("is for one answer", "--stop", "probe:0.8", "--samples", "2", "--temperature", "1"),
        List.of("draws on the CPU", "--stop", "probe:0.8", "--device", "cuda:0"),
        List.of("drafts for one answer", "--stop", "probe:0.8", "--speculate", "lookup"),
        List.of("an exit rule", "--stop", "probe:0.8", "--exit", "fixed:2"),
        List.of("which is no token", "--stop", "probe:0.8", "--probe", ""),
        List.of("needs all logits", "--stop", "probe:0.8", "--head", "certified"),
        List.of(
            "cannot be used together", "--samples", "2", "--branches", "2", "--temperature", "1"),
        List.of("entropy of all tokens", "--branches", "2", "--temperature", "1", "--top-p", "0.5"),
        List.of("--exit fixed:2", "--samples", "2", "--temperature", "1", "--exit", "fixed:2"),
        List.of("draws on the CPU", "--samples", "2", "--temperature", "1", "--device", "cuda:0"),
        List.of("not a number from -100 to 100", "--end-bias", "NaN"));
    for (List<String> one : wrong) {
      List<String> arguments = new ArrayList<>(List.of(start));
      arguments.addAll(one.subList(1, one.size()));
      assertRefused(one.get(0), arguments.toArray(String[] ::new));
    }
  }

  @Test
  void countsProbes() {
    Result result =
        answer("--stats --temperature 1 --seed 5 --stop probe:1,2 --probe a --probe-words b");
    assertTrue(
        result.log.matches("(?s).*probes: [0-9]+; the model was sure to [0-9.e-]+ at most.*"),
        result.log);
  }

  @Test
  void abstainsWhereItIsNotSure() {
    Result result = answer("--temperature 1 --samples 2 --abstain 1");
    assertEquals(0, result.status, result.log);
    assertTrue(result.log.contains("not sure enough"), result.log);
    assertEquals("", result.out.strip());
  }

  @Test
  void countsWhatItDid() {
    Result result = answer("--stats --exit fixed:2 --kv none");
    assertTrue(result.log.contains("layers per token: 2.0 of 5"), result.log);
  }

  @Test
  void explainsItself() {
    Result result = generate("--help");
    assertEquals(0, result.status);
    assertTrue(result.out.startsWith("usage: generate --prompt"), result.out);
  }

  /** The launcher goes by the help pages, so that they name every option, and no other. */
  @ParameterizedTest
  @CsvSource({"generate, GenerateOptions", "evaluate, Evaluate Forced", "demo, Demo", "tune, Tune"})
  void helpNamesEveryOption(String page, String classes) throws IOException {
    Set<String> named = new TreeSet<>();
    Pattern row = Pattern.compile("(?m)^  (--[a-z-]+)");
    row.matcher(HelpPage.text(page)).results().forEach(found -> named.add(found.group(1)));
    Set<String> taken = new TreeSet<>(Set.of("--help"));
    for (String name : classes.split(" ")) {
      String source =
          Files.readString(Path.of("src/main/java/org/exeunt/engine/cli", name + ".java"));
      Pattern.compile("case \"(--[a-z-]+)\"")
          .matcher(source)
          .results()
          .forEach(found -> taken.add(found.group(1)));
    }
    taken.add("--verify"); // the launcher's, where it is not the program's
    if (page.equals("evaluate") || page.equals("tune")) {
      taken.remove("--verify");
    }
    assertEquals(taken, named);
    for (String option : named) {
      boolean value = HelpPage.text(page).matches("(?s).*\\R  " + option + " \\S.*");
      if (page.equals("generate") && value) {
        assertRefused(option + " needs a value", option);
      }
    }
  }

  @Test
  void helpNamesEveryForm() {
    String help = generate("--help").out.replaceAll("\\s+", " ");
    for (String forms : new String[] {ExitPolicy.FORMS, Schedule.FORMS, FfnSkip.FORM,
             PromptDrop.FORMS, Speculation.FORMS, Speculation.RULES, Sampling.FORMS, Probe.FORMS}) {
      assertTrue(help.contains(" " + forms + " "), forms);
    }
  }

  /** Standard output that breaks at its second write, as a pipe does when its reader has gone. */
  private static final class Broken extends OutputStream {
    private final String reason;
    private int writes;

    Broken(String reason) {
      this.reason = reason;
    }

    @Override
    public void write(int value) throws IOException {
      throw new AssertionError("text comes in arrays");
    }

    @Override
    public void write(byte[] bytes, int offset, int length) throws IOException {
      if (length > 0 && ++writes > 1) {
        throw new IOException(reason);
      }
    }
  }

  /** Where nobody takes the text, no more of it is computed. */
  @ParameterizedTest
  @CsvSource({"Broken pipe, 141, ''",
      "No space left on device, 1, "
          + "'generate: the answer could not be written: No space left on device'"})
  void stopsWhereNobodyReads(String reason, int status, String log) {
    Broken out = new Broken(reason);
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    assertEquals(status,
        Generate.run(out, new PrintStream(said, true, StandardCharsets.UTF_8), "--model",
            model.toString(), "--raw", "--prompt", "abcabc", "--max-tokens", "12"));
    assertEquals(2, out.writes);
    assertEquals(log, said.toString(StandardCharsets.UTF_8).strip());
  }

  @Test
  void senselessArgumentsAreRefused() {
    assertRefused("--prompt is missing");
    assertRefused("--prompt needs a value", "--prompt");
    assertRefused("'hello' is not an option", "hello");
    assertRefused("unknown option '--fast'", "--fast", "1");
    assertRefused("not file, packed, f32 or bf16", "--prompt", "a", "--weights", "f64");
    assertRefused("not certified or full", "--prompt", "a", "--head", "half");
    assertRefused("--inputs is 'int4', not int16 or int8", "--prompt", "a", "--inputs", "int4");
    assertRefused("quantised weights on the CPU, not for those that have become BF16", "--prompt",
        "a", "--inputs", "int8", "--weights", "bf16");
    assertRefused("quantised weights on the CPU, not for cuda:0", "--prompt", "a", "--inputs",
        "int8", "--device", "cuda:0");
    assertRefused("--weights packed is for the CPU", "--prompt", "a", "--weights", "packed",
        "--device", "cuda:0");
    assertRefused("needs all logits", "--prompt", "a", "--head", "certified", "--temperature", "1");
    assertRefused("--max-tokens is '0'", "--prompt", "a", "--max-tokens", "0");
    assertRefused("--temperature is 'hot'", "--prompt", "a", "--temperature", "hot");
    assertRefused("--temperature is 'NaN'", "--prompt", "a", "--temperature", "NaN");
    assertRefused("--top-p is '0'", "--prompt", "a", "--temperature", "1", "--top-p", "0");
    assertRefused("need a --temperature", "--prompt", "a", "--seed", "4");
    assertRefused("--threads is '257'", "--prompt", "a", "--threads", "257");
    assertRefused("not propagate, recompute or none", "--prompt", "a", "--kv", "lost");
    for (String device : new String[] {"gpu", "cuda", "cuda:", "cuda:-1", "cuda:x", "cuda:1000"}) {
      assertRefused(
          "--device is '" + device + "', not cpu, cuda:0", "--prompt", "a", "--device", device);
    }
    assertRefused("--top-p needs all logits on the CPU", "--prompt", "a", "--device", "cuda:0",
        "--temperature", "1", "--top-p", "0.9");
    for (String kv : new String[] {"propagate", "recompute", "none"}) {
      String expected = "--kv is '" + kv + "', but --exit none lets no token leave early";
      assertRefused(expected, "--prompt", "a", "--kv", kv);
      assertRefused(expected, "--kv", kv, "--exit", "none", "--prompt", "a");
      assertRefused(expected, "--prompt", "a", "--kv", kv, "--schedule", "unified:3");
    }
  }

  private static void assertModelRefused(String expected, Path file, String... options) {
    List<String> arguments =
        new ArrayList<>(List.of("--raw", "--prompt", "abc", "--model", file.toString()));
    arguments.addAll(List.of(options));
    assertRefused(expected, arguments.toArray(String[] ::new));
  }

  @Test
  void optionsThatDoNotFitTheModelAreRefused() {
    assertModelRefused("to be 1 to 5", model, "--exit", "fixed:6");
    assertModelRefused("--exit is 'early'", model, "--exit", "early");
    assertModelRefused("to be 0 to 4", model, "--schedule", "fixed:5");
    assertModelRefused("to be 0 to 5", model, "--ffn-skip", "6,6,0,1");
    assertModelRefused(
        "cannot be used together", model, "--exit", "fixed:2", "--schedule", "unified:2");
    assertModelRefused("--drop is 'half'", model, "--drop", "half");
    assertModelRefused("to be 0 to 3", model, "--drop", "promptdistill:4,8");
    assertModelRefused("for each stage", model, "--drop", "promptdistill:1,8,2");
    assertModelRefused("meant for models with a layer 13", model, "--drop", "gemfilter");
    assertModelRefused("capacity to be 9 to", model, "--drop", "snapkv:8,8");
    assertModelRefused("pools by '5'", model, "--drop", "snapkv:4,8:5");
    assertModelRefused("the width to be 1 to 255", model, "--drop", "snapkv:4,8:max,x");
    assertModelRefused("width is 4", model, "--drop", "snapkv:4,8:avg,4");
    assertModelRefused("a width to pool over, and", model, "--drop", "promptdistill:1,8:");
    assertModelRefused("width is 2", model, "--drop", "promptdistill:1,8:2");
    assertModelRefused("the stages to be -1 to 1", model, "--drop", "promptdistill:1,8:5,2");
    assertModelRefused("the tokens to keep to be 1 to", model, "--drop", "gemfilter:1,8:5");
    assertModelRefused("heavy is 0.8", model, "--drop", "h2o:0.8,0.4");
    assertModelRefused("the share to be a finite number", model, "--drop", "fastv:2,much");
    assertModelRefused("does not follow", model, "--drop", "pyramiddrop:2,.2,3,.4");
    assertModelRefused(
        "cannot be used together", model, "--drop", "fastv:2,.5", "--schedule", "unified:2");
  }

  @Test
  void draftsThatDoNotFitAreRefused() throws IOException {
    assertRefused("--draft-length is '0', not an integer from 1 to 63", "--prompt", "a",
        "--draft-length", "0");
    assertModelRefused("the layers to be 1 to 4", model, "--speculate", "selfdraft:5");
    assertModelRefused("a draft of 9 tokens does not fit: there is room for 7, prompt and answer",
        model, "--speculate", "lookup", "--draft-length", "9", "--max-tokens", "4");
    assertModelRefused("drafts cannot be used together with an exit rule", model, "--speculate",
        "lookup", "--exit", "fixed:2");
    assertModelRefused("--speculate none drafts nothing", model, "--draft-length", "4");
    assertModelRefused("--speculate none drafts nothing", model, "--draft-translators", "file");
    assertModelRefused("--speculate is 'lookup+half', not", model, "--speculate", "lookup+half");
    assertModelRefused(
        "there is no file", model, "--speculate", "lookup+selfdraft:2+model:absent.gguf");
    assertModelRefused("gain and fixed alone can say", model, "--speculate",
        "selfdraft:2+model:absent.gguf", "--draft-rule", "confidence:.5");
    assertModelRefused("--speculate none drafts nothing", model, "--draft-shortlist", "4");
    assertRefused("--draft-shortlist is '0', not an integer from 1", "--prompt", "a",
        "--draft-shortlist", "0");
    assertModelRefused("--draft-shortlist is '25', but the vocabulary has 24 tokens", model,
        "--speculate", "selfdraft:2", "--draft-shortlist", "25");
    assertModelRefused("--draft-shortlist is '4', but lookup asks no head for tokens", model,
        "--speculate", "lookup", "--draft-shortlist", "4");
    assertModelRefused("only selfdraft and del draft with", model, "--speculate", "lookup",
        "--draft-translators", "file");
    assertModelRefused("a GPU drafts by selfdraft:LAYERS, lookup[:N] or model:FILE", model,
        "--speculate", "del", "--device", "cuda:0");
    assertModelRefused("on a GPU drafts go by fixed:K or confidence:TAU", model, "--speculate",
        "selfdraft:2", "--draft-rule", "gain", "--device", "cuda:0");
    assertModelRefused("on a GPU the head sees states as they are", model, "--speculate",
        "selfdraft:2", "--draft-translators", "file", "--device", "cuda:0");
    assertModelRefused("drafts cannot be used together with an exit rule", model, "--speculate",
        "selfdraft:2", "--exit", "fixed:2", "--device", "cuda:0");
    assertModelRefused("there is no file", model, "--speculate", "model:absent.gguf");
    Map<String, Object> metadata = TinyModel.metadata();
    String[] tokens = ((String[]) metadata.get("tokenizer.ggml.tokens")).clone();
    tokens[7] = "z";
    metadata.put("tokenizer.ggml.tokens", tokens);
    Path foreign = TinyModel.write(folder.resolve("foreign-words.gguf"), metadata, null);
    assertModelRefused(
        "foreign-words.gguf has another vocabulary, from token 7 on: it cannot draft", model,
        "--speculate", "model:" + foreign);
  }

  @Test
  void whatGraphsLeaveToTheCpuIsRefused() throws IOException {
    for (String options :
        List.of("--exit fixed:2 --kv recompute", "--drop fastv:2,.5", "--device cuda:999")) {
      List<String> all = new ArrayList<>(List.of("--device", "cuda:0"));
      all.addAll(List.of(options.split(" ")));
      assertModelRefused(options.startsWith("--device")
              ? "--device is 'cuda:999', but "
              : "graphs leave to the CPU: ",
          model, all.toArray(String[] ::new));
    }
    assertModelRefused("graphs leave to the CPU: Gemma 3",
        TinyGemma.write(folder.resolve("gemma.gguf")), "--device", "cuda:0");
  }

  /** In a process of its own: this one may have opened the emulated GPU. */
  @Test
  void withoutAGpuOneSentenceSaysWhy() throws IOException, InterruptedException {
    Process process =
        new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-Dexeunt.backend=cpu", "-cp", System.getProperty("java.class.path"),
            Generate.class.getName(), "--model", model.toString(), "--prompt", "abc", "--device",
            "cuda:0")
            .redirectErrorStream(true)
            .start();
    process.getOutputStream().close();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(2, process.waitFor(), said);
    assertEquals("generate: --device is 'cuda:0', but the CUDA backend is kept closed by "
            + "-Dexeunt.backend=cpu" + System.lineSeparator(),
        said);
  }

  /** Greedily on the emulated GPU, and drawn; what is drawn differs from the CPU's draws. */
  @ParameterizedTest
  @ValueSource(strings = {"", "--weights bf16", "--exit threshold:0.2 --exit-points 1,1 --kv none",
                   "--exit fixed:2", "--schedule unified:3", "--ffn-skip 1,4,0,-2,2"})
  void answersOnADeviceAsOnTheCpu(String options) {
    TestData.openEmulatedDevice();
    String device = (options + " --device cuda:0").strip();
    Result result = answer(device);
    assertEquals(0, result.status, result.log);
    assertEquals("", result.log);
    assertEquals(answer(options).out, result.out);
    Result drawn = answer(device + " --temperature 2 --seed 1");
    assertEquals(0, drawn.status, drawn.log);
    assertEquals(drawn.out, answer(device + " --temperature 2 --seed 1").out);
    assertNotEquals(drawn.out, answer(device + " --temperature 2 --seed 2").out);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"selfdraft:3", "selfdraft:4 --draft-rule confidence:0.1",
          "selfdraft:4 --draft-rule fixed:3 --temperature 2 --seed 3", "lookup",
          "model:tiny.gguf --draft-rule fixed:2"})
  void draftsOfADeviceDoNotChangeTheAnswer(String speculate) {
    TestData.openEmulatedDevice();
    String options = speculate.replaceFirst("\\S+( --draft-rule \\S+)? ?", "");
    Result result = answer(
        "--stats --device cuda:0 --speculate " + speculate.replace("tiny.gguf", model.toString()));
    assertEquals(0, result.status, result.log);
    assertEquals(answer(("--device cuda:0 " + options).strip()).out, result.out);
    assertTrue(result.log.contains("tokens per verification"), result.log);
  }

  @Test
  void countsWhatADeviceDid() {
    TestData.openEmulatedDevice();
    Result result = answer("--stats --exit fixed:2 --kv none --device cuda:0");
    assertTrue(result.log.contains("layers per token: 2.0 of 5"), result.log);
    assertTrue(result.log.lines().noneMatch(line -> line.startsWith("weights")), result.log);
  }

  @Test
  void aPromptMustFitTheContext() {
    String long96 = "a".repeat(TinyModel.CONTEXT);
    assertRefused("has 96 tokens; this model takes 1 to 95", "--raw", "--model", model.toString(),
        "--prompt", long96);
    assertRefused("has 0 tokens", "--raw", "--model", model.toString(), "--prompt", "");
    Result full = generate(
        "--raw", "--model", model.toString(), "--prompt", long96.substring(1), "--max-tokens", "9");
    assertEquals(0, full.status, full.log);
    assertTrue(full.out.strip().length() <= 1, "there is room for one token: " + full.out);
  }

  @Test
  void modelsThatAreNoneAreRefused() throws IOException {
    assertModelRefused("there is no file", folder.resolve("absent.gguf"));
    assertModelRefused("is a directory", folder);
    assertModelRefused("is not a regular file", Path.of("/dev/null"));
    Path text = Files.writeString(folder.resolve("text.gguf"), "not a model, but long enough");
    assertModelRefused("is not a GGUF file", text);
    assertModelRefused("has no tensor 'blk.3.ffn_up.weight'",
        TinyModel.write(
            folder.resolve("missing.gguf"), TinyModel.metadata(), "blk.3.ffn_up.weight"));
    for (String more : new String[] {"blk.2.ffn_up.bias", "blk.5.attn_q.weight", "output.bias",
             "blk.0.attn_q_norm.weight"}) {
      List<TinyModel.Weight> weights = new ArrayList<>(TinyModel.weights());
      weights.add(new TinyModel.Weight(more, 1, 8, new float[8]));
      assertModelRefused("has a tensor '" + more + "', which this decoder does not know",
          TinyModel.writeWeights(folder.resolve("more.gguf"), TinyModel.metadata(), weights));
    }
    Map<String, Object> foreign = TinyModel.metadata();
    foreign.put("general.architecture", "mamba");
    assertModelRefused("'general.architecture' is 'mamba', not 'llama' or 'gemma3'",
        TinyModel.write(folder.resolve("foreign.gguf"), foreign, null));
    for (List<String> template : List.of(List.of("line 1: a tag has no end", "{{ x"),
             List.of("line 2: only tools speak", "\n{{ raise_exception('only tools speak') }}"),
             List.of("line 1: the template takes more than",
                 "{% for i in range(99999999) %}"
                     + "{% endfor %}"))) {
      assertRefused(template.get(0), "--prompt", "a", "--model",
          TinyModel
              .write(folder.resolve("chat.gguf"), other("tokenizer.chat_template", template.get(1)),
                  null)
              .toString());
    }
  }

  private static Map<String, Object> other(String key, Object value) {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put(key, value);
    return metadata;
  }

  /** One head of the first layer has no numbers, and soon nothing has. */
  @Test
  void modelsWithoutNumbersAreRefused() throws IOException {
    List<TinyModel.Weight> weights = TinyModel.weights();
    weights.stream()
        .filter(weight -> weight.name().equals("blk.0.attn_k.weight"))
        .findFirst()
        .orElseThrow()
        .values()[0] = Float.NaN;
    Path broken =
        TinyModel.writeWeights(folder.resolve("broken.gguf"), TinyModel.metadata(), weights);
    for (String drop : new String[] {"none", "promptdistill:1,1", "gemfilter:2,1", "snapkv:1,2",
             "h2o:.4,.4", "fastv:2,.5", "pyramiddrop:1,.8"}) {
      assertModelRefused("after 3 tokens its logits are not numbers", broken, "--drop", drop);
    }
    assertModelRefused("its logits are not numbers", broken, "--temperature", "1");
  }

  /** However much of the file is there, the answer is a sentence. */
  @Test
  void truncatedFilesAreRefused() throws IOException {
    byte[] whole = Files.readAllBytes(model);
    for (int length : new int[] {0, 3, 20, 700, whole.length / 2, whole.length - 1}) {
      Path part = Files.write(folder.resolve("part.gguf"), Arrays.copyOf(whole, length));
      assertModelRefused("part.gguf", part);
    }
  }
}
