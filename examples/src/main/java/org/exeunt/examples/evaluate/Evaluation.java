// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.evaluate;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.BiConsumer;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.llama.ChatTemplate;
import org.exeunt.examples.llama.DecoderOptions;
import org.exeunt.examples.llama.LlamaWeights;
import org.exeunt.examples.llama.Speculation;
import org.exeunt.examples.llama.Tokenizer;
import org.exeunt.examples.report.Report;
import org.exeunt.examples.skips.TextRun;

/**
 * Methods on prompts, beside the decoder that does without any. Each method's turn on a prompt
 * follows one without a method, so that both meet the same neighbours on the machine.
 *
 * <p>Methods that change answers are judged on the plain ones: each reads them token by token and
 * says what it would have said. Those that change none are compared token by token.
 */
public final class Evaluation {
  /**
   * A method.
   *
   * @param options as they stand on a command line
   * @param speculation null: nothing is drafted
   */
  public record Method(String options, DecoderOptions decoding, Speculation speculation) {}

  private final String model;
  private final LlamaWeights weights;
  private final Tokenizer tokenizer;
  private final DType type;
  private final List<Prompts> prompts;
  private final List<int[]> ids;
  private final int most;
  private final int capacity;

  private Evaluation(String model, LlamaWeights weights, Tokenizer tokenizer, DType type,
      List<Prompts> prompts, List<int[]> ids, int most) {
    this.model = model;
    this.weights = weights;
    this.tokenizer = tokenizer;
    this.type = type;
    this.prompts = prompts;
    this.ids = ids;
    this.most = most;
    int longest = ids.stream().mapToInt(list -> list.length).max().orElse(0);
    capacity = longest + most;
    if (capacity > weights.config().context()) {
      throw new IllegalArgumentException("the longest prompt has " + longest
          + " tokens, which with " + most + " of an answer exceed the model's context of "
          + weights.config().context());
    }
  }

  /**
   * Of the prompts in a text.
   *
   * @param type what the weights have become, and those of a second model are to
   * @param from the file of the prompts; null: they come with the examples
   * @param raw whether prompts are gone on with as they are, instead of put into a chat
   */
  public static Evaluation of(GgufFile file, LlamaWeights weights, DType type, Path from,
      String text, boolean raw, int most) throws IOException {
    Tokenizer tokenizer = new Tokenizer(file);
    List<Prompts> prompts =
        Prompts.parse(from == null ? Path.of("the examples' prompts") : from, text);
    ChatTemplate chat = raw || !ChatTemplate.in(file) ? null : new ChatTemplate(file);
    List<int[]> ids = new ArrayList<>();
    for (Prompts prompt : prompts) {
      ids.add(tokenizer.encodePrompt(chat == null
              ? prompt.text()
              : chat.render(List.of(new ChatTemplate.Message("user", prompt.text())))));
      if (ids.get(ids.size() - 1).length == 0) {
        throw new IllegalArgumentException("prompt " + ids.size() + " has no token");
      }
    }
    return new Evaluation(
        file.path().getFileName().toString(), weights, tokenizer, type, prompts, ids, most);
  }

  /** Runs all of it and writes what it finds, saying on standard error how far it is. */
  public void report(List<Method> methods, Report report) throws IOException {
    boolean terminal = System.console() != null;
    List<Outcome> outcomes = run(methods, (method, prompt) -> {
      String name = method == 0 ? "plain" : methods.get(method).options();
      if (terminal) {
        int done = 20 * (prompt + 1) / prompts.size();
        System.err.printf("\r[%s%s] %d of %d: %.50s\033[K", "#".repeat(done), ".".repeat(20 - done),
            method + 1, methods.size(), name);
        if (method + 1 == methods.size() && prompt + 1 == prompts.size()) {
          System.err.print("\r\033[K");
        }
      } else if (prompt == 0) {
        System.err.printf("%d of %d: %s%n", method + 1, methods.size(), name);
      }
    });
    new Results(model, prompts.size(), outcomes).writeTo(report);
  }

  /** All prompts, and the groups if there are several. */
  private List<String> groups() {
    Set<String> named = new LinkedHashSet<>();
    prompts.forEach(prompt -> named.add(prompt.group()));
    List<String> groups = new ArrayList<>(List.of(""));
    if (named.size() > 1) {
      named.stream().filter(name -> !name.isEmpty()).forEach(groups::add);
    }
    return groups;
  }

  private List<Integer> members(String group) {
    return IntStream.range(0, prompts.size())
        .filter(i -> group.isEmpty() || prompts.get(i).group().equals(group))
        .boxed()
        .toList();
  }

  private Trial trial(Method method) throws IOException {
    return new Trial(
        weights, tokenizer, method.decoding(), method.speculation(), type, capacity, most);
  }

  /**
   * Runs all of it.
   *
   * @param methods the first leaves out nothing and drafts nothing
   * @param progress told the number of the method and of the prompt whose turn it is
   */
  List<Outcome> run(List<Method> methods, BiConsumer<Integer, Integer> progress)
      throws IOException {
    List<Outcome> outcomes = new ArrayList<>();
    List<TextRun> full = new ArrayList<>();
    try (Trial reference = trial(methods.get(0))) {
      for (int p = 0; p < ids.size(); p++) {
        progress.accept(0, p);
        reference.run(ids.get(p)); // its first time, which warms up
        full.add(reference.read(ids.get(p), reference.answer(p)));
      }
      for (int m = 0; m < methods.size(); m++) {
        try (Trial plain = trial(methods.get(0)); Trial trial = trial(methods.get(m))) {
          List<TextRun> read = new ArrayList<>();
          boolean exact = methods.get(m).speculation() != null || m == 0;
          for (int p = 0; p < ids.size(); p++) {
            progress.accept(m, p);
            plain.run(ids.get(p));
            trial.run(ids.get(p));
            read.add(exact ? full.get(p) : trial.read(ids.get(p), reference.answer(p)));
          }
          for (String group : groups()) {
            outcomes.add(outcome(methods.get(m), group, plain, trial, reference, read, full));
          }
        }
      }
    }
    return outcomes;
  }

  private Outcome outcome(Method method, String group, Trial plain, Trial trial, Trial reference,
      List<TextRun> read, List<TextRun> full) {
    List<Integer> members = members(group);
    Trial.Part took = trial.sum(members);
    Trial.Part beside = plain.sum(members);
    double same = 0;
    double nll = 0;
    double steps = 0;
    for (int p : members) {
      int length = reference.answer(p).length;
      if (length == 0) {
        continue; // it ends at once
      }
      same += method.speculation() != null || method.options().isEmpty()
          ? agreement(reference.answer(p), trial.answer(p))
          : length * read.get(p).agreement(full.get(p));
      nll += length * read.get(p).meanNll();
      steps += length;
    }
    // Answers that end at once say nothing about speed.
    double perSecond = took.tokens() == 0 ? Double.NaN : 1e9 * took.tokens() / took.nanos();
    return new Outcome(method.options(), group, took.tokens(), perSecond,
        perSecond * beside.nanos() / (1e9 * beside.tokens()),
        (double) took.tokens() / took.passes(), (double) took.accepted() / took.drafted(),
        (double) took.bytes() / took.tokens(), same / steps, Math.exp(nll / steps));
  }

  /** How many tokens are the same, of the longer answer. */
  private static double agreement(int[] expected, int[] found) {
    int same = 0;
    for (int i = 0; i < Math.min(expected.length, found.length); i++) {
      same += expected[i] == found[i] ? 1 : 0;
    }
    return expected.length * (same / (double) Math.max(1, Math.max(expected.length, found.length)));
  }
}
