// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.cli.HelpPage;
import org.exeunt.cli.HelpPage.Given;
import org.exeunt.engine.decode.LogProbs;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.score.Question;
import org.exeunt.engine.score.Scorer;

/** How probable a text is by a model, and which of several continuations; see its help page. */
public final class Score {
  private static final int USUAL_CONTEXT = 2048;

  private Path model = Models.find();
  private Path text; // null: none
  private Path choices; // null: none
  private DType weights; // null: as the file has them
  private int context; // 0: not said
  private boolean list;

  private Score() {}

  /** Runs and ends the process: status 2 if the arguments or a file make no sense. */
  public static void main(String[] arguments) {
    Locale.setDefault(Locale.ROOT);
    System.exit(run(arguments));
  }

  /** Runs and returns the exit status. */
  static int run(String... arguments) {
    return Ending.of("score", System.err, () -> {
      List<Given> given = HelpPage.parse("score", arguments);
      if (HelpPage.has(given, "--help")) {
        System.out.print(HelpPage.text("score"));
        return 0;
      }
      Score score = new Score();
      given.forEach(option -> score.set(option.name(), option));
      score.run();
      return 0;
    });
  }

  private void set(String name, Given option) {
    switch (name) {
      case "--model" -> model = Models.of(option.value());
      case "--text" -> text = Path.of(option.value());
      case "--choices" -> choices = Path.of(option.value());
      case "--weights" -> weights = GenerateOptions.weights(option.value());
      case "--context" -> context = GenerateOptions.integer(name, option.value(), 1, 1 << 20);
      case "--threads" -> Backend.setThreads(GenerateOptions.integer(name, option.value(), 1, 256));
      case "--list" -> list = true;
      default -> throw new IllegalStateException(name);
    }
  }

  private void run() throws IOException {
    if (text == null == (choices == null)) {
      throw new IllegalArgumentException("one of --text FILE and --choices FILE is needed");
    }
    String read = Texts.read(text == null ? choices : text);
    List<Question> questions = text == null ? Question.parse(choices.toString(), read) : List.of();
    try (GgufFile file = GgufFile.open(model)) {
      int most = LlamaConfig.of(file).context();
      if (context > most) {
        throw new IllegalArgumentException(
            "--context is " + context + ", but the model's is " + most);
      }
      int capacity = context > 0 ? context : Math.min(most, USUAL_CONTEXT);
      Tokenizer tokenizer = new Tokenizer(file);
      try (LlamaWeights loaded = LlamaWeights.load(file, weights, null, System.err)) {
        if (text == null) {
          scoreChoices(loaded, tokenizer, capacity, questions);
        } else {
          scoreText(loaded, tokenizer, capacity, read);
        }
      }
    }
  }

  private void scoreText(LlamaWeights loaded, Tokenizer tokenizer, int capacity, String read) {
    int[] ids = tokenizer.encodePrompt(read);
    if (ids.length < 2) {
      throw new IllegalArgumentException(
          text + " has " + ids.length + " tokens: a token is scored after those before it");
    }
    long start = System.nanoTime();
    LogProbs found;
    try (Scorer scorer = Scorer.ofTexts(loaded, Math.min(capacity, ids.length))) {
      found = scorer.text(ids);
    }
    double seconds = (System.nanoTime() - start) / 1e9;
    long bytes = 0;
    for (int t = 0; t < found.values().length; t++) {
      int id = ids[t + 1];
      bytes += tokenizer.bytes(id).length;
      if (list) {
        System.out.printf("%10.5f %s %s%n", found.values()[t], found.argmax()[t] == id ? "=" : " ",
            quoted(tokenizer.decode(id)));
      }
    }
    int count = found.values().length;
    System.out.printf(
        "%-16s %d, of which %d were the most probable one%n", "tokens", count, hits(found, ids));
    System.out.printf("%-16s %.4f%n", "log-probability", found.sum());
    System.out.printf("%-16s %.4f%n", "perplexity", found.perplexity());
    System.out.printf("%-16s %.4f%n", "bits per byte", -found.sum() / Math.log(2) / bytes);
    System.out.printf("%-16s %.0f%n", "tokens/s", count / seconds);
  }

  private static int hits(LogProbs found, int... ids) {
    int hits = 0;
    for (int t = 0; t < found.argmax().length; t++) {
      hits += found.argmax()[t] == ids[t + 1] ? 1 : 0;
    }
    return hits;
  }

  private void scoreChoices(
      LlamaWeights loaded, Tokenizer tokenizer, int capacity, List<Question> questions) {
    List<Question.Tokens> all =
        questions.stream().map(question -> question.tokens(tokenizer)).toList();
    int longest = all.stream().mapToInt(Question.Tokens::longest).max().orElseThrow();
    if (longest > capacity) {
      throw new IllegalArgumentException("a context and a choice have " + longest
          + " tokens together, more than the " + capacity + " that --context allows");
    }
    int right = 0;
    int rightByLength = 0;
    long start = System.nanoTime();
    try (Scorer scorer = Scorer.ofChoices(loaded, longest)) {
      for (int q = 0; q < all.size(); q++) {
        Question question = questions.get(q);
        LogProbs[] found = scorer.continuations(all.get(q).context(), all.get(q).continuations());
        double[] sums = new double[found.length];
        double[] byLength = new double[found.length];
        for (int i = 0; i < found.length; i++) {
          String choice = question.choices().get(i);
          sums[i] = found[i].sum();
          byLength[i] = sums[i] / choice.codePointCount(0, choice.length());
          if (list) {
            System.out.printf("%5d %s %11.5f %s%n", q + 1, i == question.answer() ? "*" : " ",
                sums[i], quoted(choice));
          }
        }
        right += Question.best(sums) == question.answer() ? 1 : 0;
        rightByLength += Question.best(byLength) == question.answer() ? 1 : 0;
      }
    }
    double seconds = (System.nanoTime() - start) / 1e9;
    System.out.printf("%-16s %d%n", "questions", all.size());
    share("acc", right, all.size());
    share("acc_norm", rightByLength, all.size());
    System.out.printf("%-16s %.2f%n", "questions/s", all.size() / seconds);
  }

  /** A share with its standard error, as of a sample. */
  private static void share(String name, int right, int of) {
    double share = (double) right / of;
    double error = of < 2 ? 0 : Math.sqrt(share * (1 - share) / (of - 1));
    System.out.printf("%-16s %.4f +- %.4f%n", name, share, error);
  }

  private static String quoted(String said) {
    return '"' + said.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + '"';
  }
}
