// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.function.BiConsumer;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Screen;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.TextRun;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.ChatTemplate;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Terminal;
import org.exeunt.engine.speculate.DraftFiles;
import org.exeunt.engine.speculate.DraftModel;
import org.exeunt.engine.speculate.Speculation;
import org.exeunt.engine.speculate.SpeculativeDecoder;

/**
 * Methods on prompts, beside the decoder that does without any. On each prompt a method and the
 * decoder without one take turns, so that both meet the same neighbours on the machine.
 *
 * <p>Methods that change answers are judged on the plain ones: each reads them token by token and
 * says what it would have said. Those that change none are compared token by token.
 */
public final class Evaluation implements AutoCloseable {
  /**
   * A method.
   *
   * @param options as they stand on a command line
   * @param speculation null: nothing is drafted
   * @param certified whether the head is read by its screen
   */
  public record
      Method(String options, DecoderOptions decoding, Speculation speculation, boolean certified) {
    /** What it is called, also where nothing would be too short. */
    String name() {
      return options.isEmpty() ? "plain" : options;
    }

    /** Nothing changes where nothing is left out, whatever is drafted or certified. */
    Outcome.Kind kind() {
      if (options.isEmpty()) {
        return Outcome.Kind.PLAIN;
      }
      boolean whole = (speculation != null || certified) && decoding.leavesNothingOut();
      return whole ? Outcome.Kind.LOSSLESS : Outcome.Kind.CHANGE;
    }
  }

  /** Opens or makes the screen of a model's head. */
  public interface Certifier {
    Screen screen(LlamaWeights weights, Tokenizer tokenizer) throws IOException;
  }

  /**
   * How prompts are answered.
   *
   * @param raw whether they are gone on with as they are, instead of put into a chat
   * @param most tokens of an answer
   * @param turns of each method on each prompt
   * @param certifier asked once a method needs it
   */
  public record Setup(boolean raw, int most, int turns, Certifier certifier) {}

  private final String model;
  private final LlamaWeights weights;
  private final Tokenizer tokenizer;
  private final DType type;
  private final List<Prompt> prompts;
  private final List<int[]> ids;
  private final Setup setup;
  private final int capacity;
  private Screen screen; // null: not needed so far

  private Evaluation(String model, LlamaWeights weights, Tokenizer tokenizer, DType type,
      List<Prompt> prompts, List<int[]> ids, Setup setup) {
    this.model = model;
    this.weights = weights;
    this.tokenizer = tokenizer;
    this.type = type;
    this.prompts = prompts;
    this.ids = ids;
    this.setup = setup;
    int most = setup.most;
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
   * @param from the file of the prompts; null: they come with the engine
   * @param limit most prompts of a group: the first
   */
  public static Evaluation of(GgufFile file, LlamaWeights weights, DType type, Path from,
      String text, int limit, Setup setup) throws IOException {
    Tokenizer tokenizer = new Tokenizer(file);
    List<Prompt> prompts = Prompt.first(
        limit, Prompt.parse(from == null ? Path.of("the engine's prompts") : from, text));
    ChatTemplate chat = setup.raw || !ChatTemplate.in(file) ? null : new ChatTemplate(file);
    List<int[]> ids = new ArrayList<>();
    for (Prompt prompt : prompts) {
      ids.add(chat == null
              ? tokenizer.encodePrompt(prompt.text())
              : tokenizer.encodeChat(
                    chat.render(List.of(new ChatTemplate.Message("user", prompt.text())))));
      if (ids.get(ids.size() - 1).length == 0) {
        throw new IllegalArgumentException("prompt " + ids.size() + " has no token");
      }
    }
    return new Evaluation(
        file.path().getFileName().toString(), weights, tokenizer, type, prompts, ids, setup);
  }

  /**
   * Runs all of it and writes what it finds, saying on standard error how far it is.
   *
   * @param methods the first leaves out nothing and drafts nothing
   * @return sentences that say what went wrong: an interruption, a method that failed, a draft that
   *     changed an answer
   */
  public List<String> report(List<Method> methods, Report report, Interruption interruption)
      throws IOException {
    List<Progress.Stage> stages = new ArrayList<>();
    int turns = setup.turns;
    stages.add(new Progress.Stage("plain, to compare with", 2));
    for (Method method : methods) {
      stages.add(new Progress.Stage(method.name(), 2 * turns + (method.kind().exact() ? 0 : 1)));
    }
    Progress progress =
        new Progress(System.err, Terminal.isThere(), System::nanoTime, stages, prompts.size());
    Findings findings;
    try {
      findings = run(methods, progress::at, interruption);
    } finally {
      progress.end();
    }
    new Results(findings).writeTo(report);
    return findings.problems();
  }

  /** Refuses methods that this model cannot do, before minutes have gone by. */
  public void check(List<Method> methods) throws IOException {
    for (Method method : methods) {
      try {
        new Trial(this, method, new Interruption()).close();
      } catch (IllegalArgumentException | UnsupportedOperationException e) {
        throw method.options().isEmpty()
            ? e
            : new IllegalArgumentException(
                  "--method '" + method.options() + "': " + e.getMessage(), e);
      }
    }
  }

  private Map<String, String> conditions() {
    Map<String, String> conditions = Conditions.current();
    conditions.put("model", model);
    conditions.put("weights", type == null ? "file" : type.name().toLowerCase(Locale.ROOT));
    conditions.put("most tokens", String.valueOf(setup.most));
    conditions.put("turns", String.valueOf(setup.turns));
    return conditions;
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

  /** The prompts of a group among the first {@code done}. */
  private List<Integer> members(String group, int done) {
    return IntStream.range(0, done)
        .filter(i -> group.isEmpty() || prompts.get(i).group().equals(group))
        .boxed()
        .toList();
  }

  /** Tokens of each prompt. */
  List<int[]> ids() {
    return ids;
  }

  Tokenizer tokenizer() {
    return tokenizer;
  }

  /** Most tokens of an answer. */
  int most() {
    return setup.most;
  }

  /** A decoder of some sequences with room for any prompt and its answer. */
  Decoder decoder(Method method, int sequences) throws IOException {
    return new Decoder(weights, decoding(method), sequences, capacity);
  }

  private DecoderOptions decoding(Method method) throws IOException {
    if (!method.certified()) {
      return method.decoding();
    }
    if (screen == null) {
      screen = setup.certifier.screen(weights, tokenizer);
    }
    return method.decoding().withScreen(screen);
  }

  @Override
  public void close() {
    if (screen != null) {
      screen.close();
    }
  }

  /** The second model of a method; null: it needs none. */
  DraftModel drafting(Method method) throws IOException {
    return DraftModel.of(method.speculation(), type, tokenizer);
  }

  /** The same that verifies what a method drafts. */
  SpeculativeDecoder speculative(Method method, DraftModel drafting, int sequences)
      throws IOException {
    Speculation how = DraftFiles.ready(
        method.speculation(), weights, drafting, tokenizer, Texts.essay(), System.err);
    Decoder decoder = decoder(method, sequences);
    try {
      return new SpeculativeDecoder(
          decoder, how, drafting == null ? null : drafting.weights(), tokenizer::ends);
    } catch (RuntimeException | Error e) {
      decoder.close();
      throw e;
    }
  }

  /** What a method says of an answer that was given to a prompt, token by token. */
  private TextRun read(Method method, int[] prompt, int... given) {
    int[] text = Arrays.copyOf(prompt, prompt.length + given.length);
    System.arraycopy(given, 0, text, prompt.length, given.length);
    return TextRun.of(weights, method.decoding(), text, prompt.length);
  }

  /**
   * Runs all of it, or what it can.
   *
   * @param methods the first leaves out nothing and drafts nothing
   * @param progress told the number of the stage, of which the first is the plain decoder's alone,
   *     and of the prompt whose turn it is
   */
  Findings run(List<Method> methods, BiConsumer<Integer, Integer> progress,
      Interruption interruption) throws IOException {
    Findings findings = new Findings(model, prompts.size(), conditions(), new ArrayList<>(),
        new ArrayList<>(), new ArrayList<>());
    List<TextRun> full = new ArrayList<>();
    int tried = 0;
    try (Trial reference = new Trial(this, methods.get(0), interruption)) {
      for (int p = 0; p < ids.size(); p++) {
        progress.accept(0, p);
        reference.run(p, ids.get(p)); // its first time, which warms up
        full.add(read(methods.get(0), ids.get(p), reference.answer(p)));
        if (p < Sample.SHOWN) {
          findings.samples().add(new Sample(prompts.get(p).text(), new ArrayList<>()));
        }
      }
      for (Method method : methods) {
        int stage = ++tried;
        measure(method, methods.get(0), reference, full,
            p -> progress.accept(stage, p), findings, interruption);
      }
    } catch (CancellationException e) {
      findings.troubles().add("INTERRUPTED: " + (methods.size() - tried) + " of " + methods.size()
          + " methods were not tried");
    }
    return findings;
  }

  /** Adds what a method makes of the prompts, or of those before it fails or is interrupted. */
  private void measure(Method method, Method none, Trial reference, List<TextRun> full,
      IntConsumer progress, Findings findings, Interruption interruption) {
    int done = 0;
    String trouble = null;
    try (Trial plain = new Trial(this, none, interruption);
        Trial trial = new Trial(this, method, interruption)) {
      List<TextRun> read = new ArrayList<>();
      try {
        for (; done < ids.size(); done++) {
          int[] prompt = ids.get(done);
          progress.accept(done);
          for (int turn = 0; turn < setup.turns; turn++) {
            // The first of the two finds the caches as the turn before has left them.
            (turn % 2 == 0 ? plain : trial).run(done, prompt);
            (turn % 2 == 0 ? trial : plain).run(done, prompt);
          }
          if (done < Sample.SHOWN) {
            findings.samples().get(done).answers().add(
                new Sample.Answer(method.name(), tokenizer.decode(trial.answer(done))));
          }
          read.add(method.kind().exact()
                  ? full.get(done)
                  : read(method, prompt, reference.answer(done)));
        }
      } finally {
        for (String group : groups()) {
          if (!members(group, done).isEmpty()) {
            findings.outcomes().add(outcome(method, group, members(group, done), plain, trial,
                reference, read, full, findings));
          }
        }
      }
    } catch (CancellationException e) {
      trouble = "";
      throw e;
    } catch (IOException | RuntimeException | OutOfMemoryError e) {
      trouble = ": " + (e.getMessage() == null ? e.toString() : e.getMessage());
    } finally {
      if (trouble != null) {
        findings.troubles().add(
            method.name() + " stopped after " + done + " of " + ids.size() + " prompts" + trouble);
      }
    }
  }

  private Outcome outcome(Method method, String group, List<Integer> members, Trial plain,
      Trial trial, Trial reference, List<TextRun> read, List<TextRun> full, Findings findings) {
    Trial.Part[] took = trial.sums(members, setup.turns);
    Speed speed = Speed.of(took, plain.sums(members, setup.turns));
    Speed noise = method.kind() == Outcome.Kind.PLAIN
        ? speed
        : findings.of(group)
              .stream()
              .filter(o -> o.kind() == Outcome.Kind.PLAIN)
              .map(Outcome::speed)
              .findFirst()
              .orElse(null);
    String verdict =
        noise == null || method.kind() == Outcome.Kind.PLAIN ? "-" : speed.verdict(noise);
    double same = 0;
    double nll = 0;
    double steps = 0;
    int differing = 0;
    for (int p : members) {
      int[] expected = reference.answer(p);
      int length = expected.length;
      differing += trial.always(p, expected) ? 0 : 1;
      if (length == 0) {
        continue; // it ends at once
      }
      same += method.kind().exact()
          ? agreement(expected, trial.answer(p))
          : length * read.get(p).agreement(full.get(p));
      nll += length * read.get(p).meanNll();
      steps += length;
    }
    Trial.Part all = Trial.Part.NOTHING;
    for (Trial.Part turn : took) {
      all = all.plus(turn, 1);
    }
    return new Outcome(method.options(), method.kind(), group, members.size(), differing,
        all.tokens(), speed, verdict, (double) all.tokens() / all.passes(),
        (double) all.accepted() / all.drafted(), (double) all.bytes() / all.tokens(), same / steps,
        Math.exp(nll / steps));
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
