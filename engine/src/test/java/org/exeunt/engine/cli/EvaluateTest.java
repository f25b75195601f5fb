// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import javax.xml.parsers.DocumentBuilderFactory;
import org.exeunt.engine.evaluate.Interruption;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.io.StrictJson;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.xml.sax.InputSource;

class EvaluateTest {
  private static final String PROMPTS = "--- loops\nabcabcabc\n---loops\nab\nab\n--- others\nkq\n";

  @TempDir static Path folder;
  private static Path model;
  private static Path prompts;

  @BeforeAll
  static void write() throws IOException {
    model = TinyModel.write(folder.resolve("tiny.gguf"));
    prompts = Files.writeString(folder.resolve("prompts.txt"), PROMPTS);
  }

  @AfterAll
  static void removeScreens() throws IOException {
    for (Path file : GenerateTest.screens("tiny.gguf")) {
      Files.delete(file);
    }
  }

  private static Said evaluate(String... arguments) {
    return evaluate(new Interruption(), arguments);
  }

  private static Said evaluate(Interruption interruption, String... arguments) {
    return Said.by(() -> Evaluate.run(interruption, arguments));
  }

  private static List<?> methods(Path report, String... more) throws IOException {
    List<String> arguments = new ArrayList<>(List.of("--model", model.toString(), "--prompts",
        prompts.toString(), "--raw", "--max-tokens", "20", "--out", report.toString()));
    arguments.addAll(List.of(more));
    Said result = evaluate(arguments.toArray(String[] ::new));
    assertEquals(0, result.status(), result.log());
    assertTrue(result.out().endsWith("written: " + report + System.lineSeparator()), result.out());
    Map<?, ?> json = (Map<?, ?>) StrictJson.parse(Files.readString(report.resolve("report.json")));
    assertEquals(3L, json.get("prompts"));
    return (List<?>) json.get("methods");
  }

  private static double number(Object method, String name) {
    return ((Number) ((Map<?, ?>) method).get(name)).doubleValue();
  }

  @Test
  void everyMethodIsMeasuredForAllPromptsAndForEachGroup() throws Exception {
    Path report = folder.resolve("usual");
    List<?> methods = methods(report, "--full");
    assertTrue(methods.size() > 3 * 10, methods.size() + " rows");
    assertEquals(0, methods.size() % 3);
    boolean drafts = false;
    boolean changes = false;
    boolean certified = false;
    int silent = 0;
    for (Object method : methods) {
      String options = (String) ((Map<?, ?>) method).get("method");
      if (number(method, "tokens") == 0) {
        silent++; // its answers end at once
        continue;
      }
      assertTrue(number(method, "tokens_per_second") > 0, options);
      assertTrue(number(method, "speed") > 0, options);
      assertTrue(number(method, "bytes_per_token") > 0, options);
      assertTrue(number(method, "perplexity") >= 1, options);
      double agreement = number(method, "agreement");
      assertEquals(number(method, "speed"),
          number(method, "tokens_per_second") / number(method, "plain_tokens_per_second"),
          1e-4 * number(method, "speed"));
      certified |= options.equals("--head certified");
      if (options.isEmpty() || options.matches(".*--(speculate|head).*")) {
        assertEquals(1, agreement, options);
      }
      drafts |= options.contains("--speculate") && number(method, "tokens_per_pass") > 1.1;
      changes |= agreement < 0.9;
      assertTrue(agreement >= 0 && agreement <= 1, options);
    }
    assertTrue(drafts && changes && certified && silent < 4, methods.toString());
    String page = Files.readString(report.resolve("report.html"));
    Map<?, ?> run = (Map<?, ?>) ((Map<?, ?>) StrictJson.parse(
        Files.readString(report.resolve("report.json")))).get("run");
    assertEquals("3", run.get("turns"));
    assertEquals("file", run.get("weights"));
    assertEquals("20", run.get("most tokens"));
    for (String part : List.of("All prompts", "Prompts: loops", "Prompts: others", "<svg", "plain",
             "--speculate lookup")) {
      assertTrue(page.contains(part), part);
    }
    String plot = page.substring(page.indexOf("<svg"), page.indexOf("</svg>") + 6);
    int points =
        DocumentBuilderFactory.newInstance()
            .newDocumentBuilder()
            .parse(new InputSource(new StringReader(plot)))
            .getElementsByTagName("title")
            .getLength();
    // Each point and its number, and the line of the plain decoder's speed.
    assertEquals(2 * methods.size() / 3 + 1, points);
    assertTrue(Files.readString(report.resolve("report.md")).contains("| plain "));
    assertTrue(Files.exists(report.resolve("methods-loops.csv")));
  }

  /** A token of a method is one of a pass, unless several are drafted. */
  @Test
  void chosenMethodsAreAllThereIs() throws IOException {
    List<?> methods = methods(folder.resolve("chosen"), "--method", "--exit fixed:2 --kv none",
        "--method", " --speculate  model:" + model + " --draft-rule fixed:4");
    assertEquals(9, methods.size());
    assertEquals("--exit fixed:2 --kv none", ((Map<?, ?>) methods.get(3)).get("method"));
    assertEquals(1, number(methods.get(0), "tokens_per_pass"));
    assertEquals(1, number(methods.get(3), "tokens_per_pass"));
    assertEquals(1, number(methods.get(6), "acceptance"));
    assertTrue(number(methods.get(6), "tokens_per_pass") > 3.5);
    assertTrue(
        number(methods.get(3), "bytes_per_token") < number(methods.get(0), "bytes_per_token"));
  }

  /** A file whose name has blanks, as the launcher hands it on. */
  @Test
  void wordsInQuotesStayTogether() throws IOException {
    assertEquals(List.of("--speculate", "model:a b", "c", "", "d'e"),
        Evaluate.words(" --speculate 'model:a b' c \"\" \"d'e\"\t"));
    Path blank = Files.createDirectories(folder.resolve("a b"));
    Path copy = Files.copy(model, blank.resolve("c.gguf"));
    List<?> methods = methods(folder.resolve("quoted"), "--turns", "1", "--method",
        "--speculate 'model:" + copy + "' --draft-rule fixed:4");
    assertEquals(1, number(methods.get(3), "acceptance"));
    assertEquals(null, ((Map<?, ?>) methods.get(3)).get("speed_low"));
    assertEquals("-", ((Map<?, ?>) methods.get(3)).get("verdict"));
  }

  /** With fewer methods than all, and of each group the first prompts alone. */
  @Test
  void fewerAreTriedUnlessAllAreWanted() throws IOException {
    Path report = folder.resolve("few");
    Said result = evaluate("--model", model.toString(), "--prompts", prompts.toString(), "--raw",
        "--max-tokens", "3", "--out", report.toString(), "--limit", "1");
    assertEquals(0, result.status(), result.log());
    Map<?, ?> json = (Map<?, ?>) StrictJson.parse(Files.readString(report.resolve("report.json")));
    assertEquals(2L, json.get("prompts"));
    assertEquals(List.of(), json.get("problems"));
    int methods = ((List<?>) json.get("methods")).size() / 3;
    assertTrue(methods > 5 && methods < 11, methods + " methods");
    assertTrue(result.log().startsWith("1 of " + (methods + 1) + ": plain, to compare with"),
        result.log());
    assertEquals(methods + 1, result.log().lines().count(), result.log());
    assertTrue(result.log().contains(" left: --drop fastv"), result.log());
  }

  /** Every draft by every rule, and where they differ from the plain decoder, which is nowhere. */
  @Test
  void draftsAreComparedTokenByToken() throws IOException {
    Path report = folder.resolve("equality");
    // More of them than are answered side by side.
    Path six = Files.writeString(
        folder.resolve("six.txt"), "---\nabcabc\n---\nab\n---\nkqkqk\n---\na\n---\nfgfg\n---\nrst");
    Said result = evaluate("--equality", "--model", model.toString(), "--prompts", six.toString(),
        "--raw", "--max-tokens", "7", "--out", report.toString());
    assertEquals(0, result.status(), result.log());
    List<String> rows = Files.readAllLines(report.resolve("equality.csv"));
    assertEquals("method,weights,at a time,answers,tokens,drafted,right,same", rows.remove(0));
    for (String storage : List.of("file", "bf16", "f32")) {
      for (String batch : List.of("1", "4")) {
        for (String method : List.of("plain", "--speculate lookup", "--speculate del-paper",
                 "--speculate selfdraft:4 --draft-rule confidence:0.5", "specdec:",
                 "--draft-translators", "--draft-shortlist 4", "--speculate lookup+selfdraft:4")) {
          assertTrue(
              rows.stream().anyMatch(row
                  -> row.contains(method) && row.contains("," + storage + "," + batch + ",6,")
                      && row.endsWith(",all")),
              storage + ", " + batch + ", " + method + ": " + rows);
        }
      }
    }
    long drafted = rows.stream().filter(row -> !row.matches(".*,0,0,all")).count();
    assertTrue(drafted > rows.size() / 2, drafted + " of " + rows.size());
    assertTrue(result.out().contains("* bf16, 4 at a time: "), result.out());
    String again = "--speculate selfdraft:4 --draft-rule fixed:4";
    for (String storage : List.of("file", "f32")) {
      result = evaluate("--equality", "--model", model.toString(), "--prompts", six.toString(),
          "--raw", "--max-tokens", "4", "--out", report.toString(), "--weights", storage,
          "--method", again);
      assertEquals(0, result.status(), result.log());
      rows = Files.readAllLines(report.resolve("equality.csv"));
      assertEquals(1 + 2 * 2, rows.size(), "of one storage alone");
      assertTrue(rows.get(4).startsWith(again + "," + storage + ",4,6,"), rows.get(4));
    }
  }

  /** As by Ctrl-C: the process writes what it has before it ends. */
  @Test
  void anEndFromOutsideLeavesAReport() throws Exception {
    Path report = folder.resolve("ended");
    Path many =
        Files.writeString(folder.resolve("many.txt"), "---\nabcabcabc\n---\nkqkq\n".repeat(5000));
    Process process =
        new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp", System.getProperty("java.class.path"), Evaluate.class.getName(), "--model",
            model.toString(), "--prompts", many.toString(), "--raw", "--out", report.toString())
            .redirectOutput(folder.resolve("ended.out").toFile())
            .start();
    try (BufferedReader log = process.errorReader()) {
      String line = log.readLine();
      assertEquals("1 of 11: plain, to compare with", line);
      process.toHandle().destroy(); // the process itself would close its streams
      String rest = log.lines().collect(Collectors.joining("\n"));
      assertTrue(rest.contains("stopping, to write what has been found"), rest);
      assertTrue(process.waitFor(60, TimeUnit.SECONDS), "it hangs");
      assertEquals(128 + 15, process.exitValue(), rest);
    } finally {
      process.destroyForcibly();
    }
    Map<?, ?> json = (Map<?, ?>) StrictJson.parse(Files.readString(report.resolve("report.json")));
    assertEquals(List.of("INTERRUPTED: 10 of 10 methods were not tried"), json.get("problems"));
    for (String name : List.of("report.md", "report.html")) {
      assertTrue(Files.readString(report.resolve(name)).contains("INTERRUPTED: 10 of 10"), name);
    }
  }

  @Test
  void aRunThatIsNotWholeHasAStatusOfItsOwn() throws IOException {
    Interruption interruption = new Interruption();
    interruption.interrupt();
    Path report = folder.resolve("not-whole");
    Said result = evaluate(interruption, "--model", model.toString(), "--raw", "--prompts",
        prompts.toString(), "--out", report.toString(), "--method", "--exit fixed:2");
    assertEquals(1, result.status(), result.log());
    String problem = "INTERRUPTED: 2 of 2 methods were not tried";
    assertTrue(
        result.log().endsWith("evaluate: " + problem + System.lineSeparator()), result.log());
    assertTrue(Files.readString(report.resolve("report.md")).contains("**" + problem + ".**"));
  }

  private static void assertRefused(String expected, String... arguments) {
    Said result = evaluate(arguments);
    assertEquals(2, result.status(), result.log());
    assertEquals(1, result.log().lines().count(), result.log());
    assertTrue(result.log().startsWith("evaluate: "), result.log());
    assertTrue(result.log().contains(expected), result.log());
  }

  @Test
  void whatMakesNoSenseIsRefused() throws IOException {
    String file = model.toString();
    String out = folder.resolve("refused").toString();
    assertRefused("unknown option '--fast'", "--fast", "1");
    assertRefused("--max-tokens is '0'", "--max-tokens", "0");
    assertRefused("--limit is '0'", "--limit", "0");
    assertRefused("there is no file", "--model", folder.resolve("absent.gguf").toString());
    assertRefused("there is no file", "--model", file, "--out", out, "--prompts",
        folder.resolve("absent.txt").toString());
    assertRefused("there is no prompt in", "--model", file, "--out", out, "--prompts",
        Files.writeString(folder.resolve("empty.txt"), "---\n \n--- a\n").toString());
    assertRefused("is not text in UTF-8", "--model", file, "--out", out, "--prompts",
        Files.write(folder.resolve("binary.txt"), new byte[] {'a', (byte) 0xff}).toString());
    assertRefused("--method '--exit': --exit needs a value", "--model", file, "--method", "--exit");
    assertRefused("--method is '--temperature 1', but takes --exit", "--model", file, "--method",
        "--temperature 1");
    assertRefused("--exit is 'early'", "--model", file, "--method", "--exit early");
    assertRefused(
        "--method '--head certified --exit threshold:0.9': a certified head cannot be used",
        "--model", file, "--method", "--head certified --exit threshold:0.9");
    assertRefused("--method '--head certified --temperature 1'", "--model", file, "--method",
        "--head certified --temperature 1");
    assertRefused(
        "--method '--exit 'a': a quote has no end", "--model", file, "--method", "--exit 'a");
    assertRefused("--turns is '0'", "--turns", "0");
    assertRefused("drafts cannot be used together with an exit rule", "--raw", "--model", file,
        "--out", out, "--prompts", prompts.toString(), "--max-tokens", "9", "--method",
        "--exit fixed:2 --speculate lookup");
    assertRefused("--equality compares what changes no answer, but --method is '--exit fixed:2'",
        "--raw", "--model", file, "--out", out, "--prompts", prompts.toString(), "--max-tokens",
        "9", "--equality", "--method", "--exit fixed:2");
    // Before anything has run.
    assertRefused("there is no file", "--raw", "--model", file, "--out", out, "--prompts",
        prompts.toString(), "--max-tokens", "9", "--method",
        "--speculate model:" + folder.resolve("absent.gguf"));
    assertRefused("--method '--inputs int8': inputs of 8 bits are for quantised weights", "--raw",
        "--model", file, "--out", out, "--prompts", prompts.toString(), "--max-tokens", "9",
        "--method", "--inputs int8");
    assertRefused("exceed the model's context of 96", "--raw", "--model", file, "--out", out,
        "--prompts", prompts.toString(), "--max-tokens", "96");
  }

  @Test
  void whatMakesNoSenseOfAShapeIsRefused() {
    assertRefused("not llama-3.2-1b or llama-2-7b", "--shape", "llama");
    assertRefused("--shape needs a value", "--shape");
    assertRefused("--accepted goes only with --shape", "--accepted", "0.5");
    for (String share : List.of("0", "1.5", "nan", "-1", "x")) {
      assertRefused("not a share", "--shape", "llama-2-7b", "--accepted", share);
    }
    assertRefused("--draft-shortlist is '128257', but llama-3.2-1b has 128256 tokens", "--shape",
        "llama-3.2-1b", "--draft-shortlist", "128257");
    assertRefused("'--model' does not go with", "--shape", "llama-2-7b", "--model", "a");
    assertRefused("--max-tokens is '0'", "--shape", "llama-2-7b", "--max-tokens", "0");
  }

  @Test
  void explainsItself() {
    Said result = evaluate("--help");
    assertEquals(0, result.status());
    assertTrue(result.out().startsWith("usage: evaluate"), result.out());
  }
}
