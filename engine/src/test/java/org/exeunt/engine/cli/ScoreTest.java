// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.exeunt.engine.decode.LogProbs;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.score.Scorer;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ScoreTest {
  private static final String TEXT = "abacabadabacabaeabacabadabacaba";

  @TempDir static Path folder;
  private static Path model;

  @BeforeAll
  static void write() throws IOException {
    model = TinyModel.write(folder.resolve("tiny.gguf"));
  }

  /** The value of a line, by what it begins with. */
  private static double value(String name, Said said) {
    String line =
        said.out().lines().filter(l -> l.startsWith(name + " ")).findFirst().orElseThrow();
    return Double.parseDouble(line.substring(name.length()).strip().split("[ ,]")[0]);
  }

  private static Said score(String... arguments) {
    return Said.by(() -> Score.run(arguments));
  }

  private static Said of(String option, String said, String... more) throws IOException {
    Path file = Files.writeString(folder.resolve("said.txt"), said);
    List<String> all =
        new ArrayList<>(List.of("--model", model.toString(), option, file.toString()));
    all.addAll(List.of(more));
    return score(all.toArray(String[] ::new));
  }

  @Test
  void textIsListedAndSummedUp() throws IOException {
    Said result = of("--text", TEXT, "--list");
    assertEquals(0, result.status(), result.log());
    int tokens = TEXT.length() - 1; // a letter each, of which nothing comes before the first
    assertEquals(tokens, value("tokens", result));
    double sum = value("log-probability", result);
    assertEquals(Math.exp(-sum / tokens), value("perplexity", result), 1e-3);
    assertEquals(-sum / Math.log(2) / tokens, value("bits per byte", result), 1e-3);
    List<String> lines = result.out().lines().limit(tokens).toList();
    double listed = 0;
    for (int t = 0; t < tokens; t++) {
      listed += Double.parseDouble(lines.get(t).strip().split(" ")[0]);
      assertTrue(lines.get(t).endsWith("\"" + TEXT.charAt(t + 1) + "\""), lines.get(t));
    }
    assertEquals(sum, listed, 1e-3);
    assertTrue(value("log-probability", of("--text", TEXT, "--context", "4")) != sum);
  }

  /** By sums and by lengths as they are computed here. */
  @Test
  void choicesAreJudged() throws IOException {
    Map<String, List<String>> asked = new TreeMap<>(Map.of("abc", List.of("abab", "c", "dddddd"),
        "kq ", List.of("k", "qqq"), "w", List.of("a", "b", "c", "d", "e", "f")));
    StringBuilder file = new StringBuilder();
    int right = 0;
    int rightByLength = 0;
    try (GgufFile opened = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(opened, null);
        Scorer scorer = Scorer.ofTexts(weights, TinyModel.CONTEXT)) {
      Tokenizer tokenizer = new Tokenizer(opened);
      for (Map.Entry<String, List<String>> question : asked.entrySet()) {
        List<String> choices = question.getValue();
        int before = tokenizer.encodePrompt(question.getKey().strip()).length;
        int best = 0;
        int bestByLength = 0;
        double[] sums = new double[choices.size()];
        for (int i = 0; i < sums.length; i++) {
          int[] ids = tokenizer.encodePrompt(question.getKey() + " " + choices.get(i));
          LogProbs found = scorer.text(ids);
          sums[i] = found.range(before - 1, ids.length - 1).sum();
          best = sums[i] > sums[best] ? i : best;
          bestByLength = sums[i] / choices.get(i).length()
                  > sums[bestByLength] / choices.get(bestByLength).length()
              ? i
              : bestByLength;
        }
        right++;
        rightByLength += best == bestByLength ? 1 : 0;
        file.append("{\"answer\": ").append(best).append(", \"context\": \"");
        file.append(question.getKey()).append("\", \"choices\": [\"");
        file.append(String.join("\", \"", choices)).append("\"]}\n\n");
      }
    }
    Said result = of("--choices", file.toString(), "--list");
    assertEquals(0, result.status(), result.log());
    assertEquals(asked.size(), value("questions", result));
    assertEquals((double) right / asked.size(), value("acc", result), 1e-4);
    assertEquals((double) rightByLength / asked.size(), value("acc_norm", result), 1e-4);
    assertEquals(3, result.out().lines().filter(line -> line.contains(" * ")).count());
  }

  @Test
  void whatMakesNoSenseIsRefused() throws IOException {
    assertRefused("one of --text FILE and --choices FILE", score("--model", model.toString()));
    assertRefused("there is no file", score("--model", model.toString(), "--text", "/none"));
    assertRefused("--context is 1000, but the model's is " + TinyModel.CONTEXT,
        of("--text", TEXT, "--context", "1000"));
    assertRefused("has 1 tokens", of("--text", "a"));
    String sound = "{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}";
    assertEquals(0, of("--choices", sound).status());
    assertRefused("line 2 of", of("--choices", sound + "\n{}"));
    assertRefused("\"answer\" is 1", of("--choices", sound.replace("0", "1")));
    assertRefused("\"context\" is blank", of("--choices", sound.replace("\"a\"", "\" \"")));
    assertRefused("\"choices\" holds", of("--choices", sound.replace("\"b\"", "7")));
    assertRefused("there is no question", of("--choices", "\n\n"));
    assertRefused("more than the 3 that --context allows",
        of("--choices", sound.replace("\"b\"", "\"bcdef\""), "--context", "3"));
    assertEquals(0, score("--help").status());
  }

  private static void assertRefused(String words, Said result) {
    assertEquals(2, result.status(), result.log());
    assertTrue(result.log().startsWith("score: ") && result.log().contains(words), result.log());
  }
}
