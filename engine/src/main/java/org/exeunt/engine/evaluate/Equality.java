// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.evaluate.Evaluation.Method;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;
import org.exeunt.engine.speculate.DraftModel;
import org.exeunt.engine.speculate.SpeculativeDecoder;

/**
 * Whether drafts change nothing: answers by each method, one at a time and several side by side, are
 * compared token by token with those of the plain decoder, one at a time. Side by side, the next
 * prompt takes the place of one whose answer is complete.
 */
public final class Equality {
  /** How many answers are written side by side. */
  private static final int[] BATCHES = {1, 4};

  /** Loads the prompts for a model's weights, which have become {@code type}; null: the file's. */
  public interface Loader {
    Evaluation load(LlamaWeights weights, DType type) throws IOException;
  }

  /**
   * What was compared.
   *
   * @param storage what the weights have become
   * @param tokens that the plain decoder says, the ends of answers among them
   * @param difference the first one; null: there is none
   */
  record Comparison(String storage, int batch, String method, int prompts, long tokens,
      long drafted, long accepted, String difference) {
    private String name() {
      return method.isEmpty() ? "plain" : method;
    }

    /** Where it was compared. */
    private String place() {
      return storage + ", " + batch + " at a time";
    }
  }

  /** Sequences that are answered side by side. */
  private interface Lanes extends AutoCloseable {
    void begin(int lane, int... prompt);

    /** Goes on with all lanes that have begun and not ended. */
    void goOn();

    /** What the last call has found for a lane. */
    int[] found(int lane);

    void end(int lane);

    @Override void close() throws IOException;
  }

  private final GgufFile file;
  private final List<DType> types;
  private final Loader loader;
  private final Interruption interruption;
  private final List<Comparison> done = new ArrayList<>();
  private final List<String> troubles = new ArrayList<>();

  /**
   * @param types what weights become, one after another; null among them: they stay
   * @param interruption asked before each step
   */
  public Equality(GgufFile file, List<DType> types, Loader loader, Interruption interruption) {
    this.file = file;
    this.types = new ArrayList<>(types);
    this.loader = loader;
    this.interruption = interruption;
  }

  /**
   * Compares and writes what it finds, saying on standard error how far it is.
   *
   * @param methods that must change no answer; the first is the plain decoder
   * @return sentences that say what went wrong
   */
  public List<String> report(List<Method> methods, Report report) throws IOException {
    for (Method method : methods) {
      if (method.kind() == Outcome.Kind.CHANGE) {
        throw new IllegalArgumentException("--equality compares what changes no answer, but "
            + "--method is '" + method.options() + "'");
      }
    }
    try {
      for (DType type : types) {
        run(methods, type);
      }
    } catch (CancellationException e) {
      troubles.add("INTERRUPTED: what is missing was not compared");
    }
    write(report);
    return problems();
  }

  private void run(List<Method> methods, DType type) throws IOException {
    String storage = type == null ? "file" : type.name().toLowerCase(Locale.ROOT);
    try (LlamaWeights weights = LlamaWeights.load(file, type, null, System.err);
        Evaluation evaluation = loader.load(weights, type)) {
      evaluation.check(methods);
      int[][] expected = null;
      for (int batch : BATCHES) {
        for (Method method : methods) {
          interruption.check();
          System.err.printf("%s, %d at a time: %s%n", storage, batch, method.name());
          if (expected == null) {
            try (Lanes lanes = new Plain(evaluation, method, batch)) {
              expected = answers(evaluation, lanes, batch, interruption);
            }
          }
          compare(evaluation, storage, batch, method, expected);
        }
      }
    }
  }

  private void compare(Evaluation evaluation, String storage, int batch, Method method,
      int[]... expected) throws IOException {
    Drafting drafting = null;
    try (Lanes lanes = method.speculation() == null
            ? new Plain(evaluation, method, batch)
            : (drafting = new Drafting(evaluation, method, batch))) {
      int[][] found = answers(evaluation, lanes, batch, interruption);
      done.add(new Comparison(storage, batch, method.options(), expected.length,
          Arrays.stream(expected).mapToLong(answer -> answer.length).sum(),
          drafting == null ? 0 : drafting.decoder.drafted(),
          drafting == null ? 0 : drafting.decoder.accepted(), difference(expected, found)));
    } catch (CancellationException e) {
      throw e;
    } catch (IllegalArgumentException | IllegalStateException e) {
      Comparison none = new Comparison(storage, batch, method.options(), 0, 0, 0, 0, null);
      troubles.add(none.place() + ", " + none.name() + " stopped: " + e.getMessage());
    }
  }

  /** Answers all prompts, each up to its end, which is part of it. */
  private static int[][] answers(
      Evaluation evaluation, Lanes lanes, int batch, Interruption interruption) {
    List<IntStream.Builder> answers = new ArrayList<>();
    int[] prompt = new int[batch];
    int[] count = new int[batch];
    Arrays.fill(prompt, -1);
    boolean first = true;
    int going = 0;
    while (first || going > 0) {
      interruption.check();
      if (!first) {
        lanes.goOn();
      }
      for (int lane = 0; lane < batch; lane++) {
        boolean whole = prompt[lane] >= 0
            && take(evaluation, lanes.found(lane), answers.get(prompt[lane]), count, lane);
        while (prompt[lane] < 0 || whole) {
          if (whole) {
            lanes.end(lane);
            going--;
          }
          prompt[lane] = -1;
          if (answers.size() == evaluation.ids().size()) {
            break;
          }
          prompt[lane] = answers.size();
          count[lane] = 0;
          going++;
          answers.add(IntStream.builder());
          lanes.begin(lane, evaluation.ids().get(prompt[lane]));
          whole = take(evaluation, lanes.found(lane), answers.get(prompt[lane]), count, lane);
        }
      }
      first = false;
    }
    return answers.stream().map(answer -> answer.build().toArray()).toArray(int[][] ::new);
  }

  /** Adds tokens to an answer, and says whether it is whole now. */
  private static boolean take(
      Evaluation evaluation, int[] found, IntStream.Builder answer, int[] count, int lane) {
    for (int token : found) {
      answer.add(token);
      if (++count[lane] == evaluation.most() || token < 0 || evaluation.tokenizer().ends(token)) {
        return true;
      }
    }
    return false;
  }

  /** Where answers differ first; null: nowhere. */
  static String difference(int[][] expected, int[][] found) {
    for (int p = 0; p < expected.length; p++) {
      int at = Arrays.mismatch(expected[p], found[p]);
      if (at >= 0) {
        return "prompt " + (p + 1) + ", token " + (at + 1) + ": " + token(found[p], at)
            + " instead of " + token(expected[p], at);
      }
    }
    return null;
  }

  private static String token(int[] answer, int at) {
    return at < answer.length ? String.valueOf(answer[at]) : "an end";
  }

  private void write(Report report) throws IOException {
    report.heading(
        "Drafts beside the plain decoder: " + Results.plain(file.path().getFileName().toString()));
    for (String problem : problems()) {
      report.text("**" + Results.plain(problem) + ".**\n\n");
    }
    report.text("Greedy answers, compared token by token with those of the plain decoder, one at a "
        + "time. Side by side, the next prompt takes the place of one whose answer is complete.\n\n");
    Map<String, List<Comparison>> places = new LinkedHashMap<>();
    done.forEach(c -> places.computeIfAbsent(c.place(), place -> new ArrayList<>()).add(c));
    for (Map.Entry<String, List<Comparison>> place : places.entrySet()) {
      report.text(Results.format("* %s: %d tokens by %d methods%n", place.getKey(),
          place.getValue().stream().mapToLong(Comparison::tokens).sum(), place.getValue().size()));
    }
    Table table = new Table(
        "method", "weights", "at a time", "answers", "tokens", "drafted", "right", "same");
    for (Comparison c : done) {
      table.row(c.name(), c.storage, String.valueOf(c.batch), String.valueOf(c.prompts),
          String.valueOf(c.tokens), String.valueOf(c.drafted), String.valueOf(c.accepted),
          c.difference == null ? "all" : "FAILED: " + c.difference);
    }
    report.text("\n");
    report.table("equality", table);
  }

  private List<String> problems() {
    List<String> problems = new ArrayList<>(troubles);
    for (Comparison c : done) {
      if (c.difference != null) {
        problems.add("FAILED: " + c.place() + ", " + c.name()
            + " answered otherwise than the plain decoder, which it must never do: "
            + c.difference);
      }
    }
    return problems;
  }

  /** The plain decoder, a token of each lane in a step. */
  private static final class Plain implements Lanes {
    private final Decoder decoder;
    private final int[] next;

    Plain(Evaluation evaluation, Method method, int batch) throws IOException {
      decoder = evaluation.decoder(method, batch);
      next = new int[batch];
      Arrays.fill(next, -1);
    }

    @Override
    public void begin(int lane, int... prompt) {
      decoder.restart(lane);
      decoder.prefill(lane, prompt);
      next[lane] = decoder.argmax(lane);
    }

    @Override
    public void goOn() {
      decoder.step(next);
      for (int lane = 0; lane < next.length; lane++) {
        next[lane] = next[lane] < 0 ? -1 : decoder.argmax(lane);
      }
    }

    @Override
    public int[] found(int lane) {
      return new int[] {next[lane]};
    }

    @Override
    public void end(int lane) {
      next[lane] = -1;
    }

    @Override
    public void close() {
      decoder.close();
    }
  }

  /** A decoder that verifies drafts, any number of tokens of each lane in a step. */
  private static final class Drafting implements Lanes {
    private final DraftModel drafting;
    private final SpeculativeDecoder decoder;

    Drafting(Evaluation evaluation, Method method, int batch) throws IOException {
      drafting = evaluation.drafting(method);
      try {
        decoder = evaluation.speculative(method, drafting, batch);
      } catch (IOException | RuntimeException | Error e) {
        if (drafting != null) {
          drafting.close();
        }
        throw e;
      }
    }

    @Override
    public void begin(int lane, int... prompt) {
      decoder.restart(lane);
      decoder.prefill(lane, prompt);
    }

    @Override
    public void goOn() {
      decoder.round();
    }

    @Override
    public int[] found(int lane) {
      return decoder.tokens(lane);
    }

    @Override
    public void end(int lane) {
      decoder.end(lane);
    }

    @Override
    public void close() throws IOException {
      decoder.close();
      if (drafting != null) {
        drafting.close();
      }
    }
  }
}
