// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.cli.HelpPage;
import org.exeunt.cli.HelpPage.Given;
import org.exeunt.engine.decode.HeadScreen;
import org.exeunt.engine.evaluate.Equality;
import org.exeunt.engine.evaluate.Evaluation;
import org.exeunt.engine.evaluate.Evaluation.Method;
import org.exeunt.engine.evaluate.Interruption;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.speculate.Speculation;

/** What each way to leave out something, or to draft, gains and costs a model; see its help page. */
public final class Evaluate {
  private static final int USUAL_TOKENS = 32;
  private static final int USUAL_PROMPTS = 4; // of each group of those that come with the engine
  private static final int FULL_TOKENS = 64;
  private static final int USUAL_TURNS = 3;

  private static final String QUOTED = "'([^']*+)'|\"([^\"]*+)\"";
  private static final Pattern WORD = Pattern.compile("(?:[^\\s'\"]++|" + QUOTED + ")++");

  private Path model = Models.find();
  private Path prompts; // null: those that come with the engine
  private Path out = Path.of("build", "evaluate");
  private DType weights; // null: as the file has them
  private boolean weightsSaid;
  private int maxTokens; // 0: not said
  private int turns = USUAL_TURNS;
  private int limit; // prompts of a group; 0: not said
  private boolean full;
  private boolean equality;
  private int threads;
  private boolean raw;
  private final List<String> methods = new ArrayList<>();

  private final Interruption interruption;

  private Evaluate(Interruption interruption) {
    this.interruption = interruption;
  }

  /**
   * Runs and ends the process: status 1 if a method failed or a draft changed an answer, 2 if the
   * arguments or the model make no sense.
   */
  public static void main(String[] arguments) {
    Locale.setDefault(Locale.ROOT);
    Interruption interruption = new Interruption();
    interruption.listen();
    System.exit(run(interruption, arguments));
  }

  /** Runs and returns the exit status. */
  static int run(Interruption interruption, String... arguments) {
    return Ending.of("evaluate", System.err, () -> {
      List<Given> given = HelpPage.parse("evaluate", arguments);
      if (HelpPage.has(given, "--help")) {
        System.out.print(HelpPage.text("evaluate"));
        return 0;
      }
      if (HelpPage.has(given, "--shape")) {
        Forced.run(given);
        return 0;
      }
      Evaluate evaluate = new Evaluate(interruption);
      given.forEach(option -> evaluate.set(option.name(), option));
      return evaluate.run();
    });
  }

  private void set(String name, Given option) {
    switch (name) {
      case "--raw" -> raw = true;
      case "--full" -> full = true;
      case "--equality" -> equality = true;
      case "--model" -> model = Models.of(option.value());
      case "--prompts" -> prompts = Path.of(option.value());
      case "--out" -> out = Path.of(option.value());
      case "--weights" -> {
        weights = GenerateOptions.weights(option.value());
        weightsSaid = true;
      }
      case "--max-tokens" -> maxTokens = GenerateOptions.integer(name, option.value(), 1, 1 << 20);
      case "--turns" -> turns = GenerateOptions.integer(name, option.value(), 1, 1000);
      case "--limit" -> limit = GenerateOptions.integer(name, option.value(), 1, 1 << 20);
      case "--threads" -> threads = GenerateOptions.integer(name, option.value(), 1, 256);
      case "--method" -> methods.addAll(option.values());
      default -> throw new IllegalArgumentException(name + " goes only with --shape");
    }
  }

  private int run() throws IOException {
    try (GgufFile file = GgufFile.open(model)) {
      LlamaConfig config = LlamaConfig.of(file);
      int layers = config.layers();
      List<Method> chosen = new ArrayList<>(List.of(method("", config)));
      if (methods.isEmpty() && equality) {
        chosen.addAll(drafts(config));
      } else {
        for (String options : methods.isEmpty() ? usual(layers) : methods) {
          chosen.add(method(options, config));
        }
      }
      if (threads > 0) {
        Backend.setThreads(threads);
      }
      String text = prompts == null ? Texts.prompts() : Texts.read(prompts);
      int most = maxTokens > 0 ? maxTokens : full ? FULL_TOKENS : USUAL_TOKENS;
      // Of prompts of one's own all are meant.
      int each = limit > 0 ? limit : full || prompts != null ? Integer.MAX_VALUE : USUAL_PROMPTS;
      if (equality) {
        return compare(file, chosen,
            (loaded,
                type) -> Evaluation.of(file, loaded, type, prompts, text, each, setup(type, most)));
      }
      try (LlamaWeights loaded = LlamaWeights.load(file, weights, null, System.err);
          Evaluation evaluation =
              Evaluation.of(file, loaded, weights, prompts, text, each, setup(weights, most))) {
        evaluation.check(chosen);
        return report(evaluation, chosen);
      }
    }
  }

  private Evaluation.Setup setup(DType type, int most) {
    return new Evaluation.Setup(raw, most, turns,
        (loaded, tokenizer)
            -> HeadScreen.openOrMake(
                Models.screen(model, type), loaded, tokenizer, Texts.essay(), System.err));
  }

  private int report(Evaluation evaluation, List<Method> chosen) throws IOException {
    return report(report -> evaluation.report(chosen, report, interruption));
  }

  private int compare(GgufFile file, List<Method> chosen, Equality.Loader loader)
      throws IOException {
    List<DType> types = weightsSaid
        ? Collections.singletonList(weights)
        : Arrays.asList(null, DType.BF16, DType.F32);
    return report(report -> new Equality(file, types, loader, interruption).report(chosen, report));
  }

  /** Writes a report, and returns what went wrong. */
  private interface Writer {
    List<String> write(Report report) throws IOException;
  }

  private int report(Writer writer) throws IOException {
    interruption.begin();
    try (Report report = new Report(out)) {
      List<String> problems = writer.write(report);
      System.out.println("written: " + report.files().get(0).getParent());
      problems.forEach(problem -> System.err.println("evaluate: " + problem));
      return problems.isEmpty() ? 0 : 1;
    } finally {
      interruption.end();
    }
  }

  /** A method by its options, which are those of generate. */
  private static Method method(String options, LlamaConfig config) throws IOException {
    return method(words(options), config);
  }

  /** The words of a line, of which those in quotes may have blanks. */
  static List<String> words(String line) {
    if (line.replaceAll(QUOTED, "").matches("(?s).*['\"].*")) {
      throw new IllegalArgumentException("--method '" + line + "': a quote has no end");
    }
    return WORD.matcher(line)
        .results()
        .map(word -> word.group().replaceAll(QUOTED, "$1$2"))
        .toList();
  }

  private static Method method(List<String> words, LlamaConfig config) throws IOException {
    int layers = config.layers();
    String options = String.join(" ", words);
    List<String> arguments = new ArrayList<>(List.of("--prompt", "-"));
    arguments.addAll(words);
    GenerateOptions parsed;
    try {
      parsed = GenerateOptions.parse(arguments.toArray(String[] ::new));
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("--method '" + options + "': " + e.getMessage(), e);
    }
    if (!parsed.isMethod()) {
      throw new IllegalArgumentException("--method is '" + options + "', but takes --exit, "
          + "--exit-points, --kv, --schedule, --ffn-skip, --drop, --head, --inputs, --speculate, "
          + "--draft-rule, --draft-length, --draft-translators and --draft-shortlist alone");
    }
    try {
      Method method =
          new Method(options, parsed.decoder(layers), parsed.speculation(layers), parsed.certified);
      method.decoding().check(config, method.certified());
      if (method.speculation() != null) {
        Speculation.check(method.decoding());
        method.speculation().check(config);
      }
      return method;
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("--method '" + options + "': " + e.getMessage(), e);
    }
  }

  /**
   * Everything that drafts, by each rule that it takes, for a model of so many layers. Several
   * sequences share the rows of a pass, so that the longest drafts are shorter than usual.
   */
  private List<Method> drafts(LlamaConfig config) throws IOException {
    int layers = config.layers();
    int vocabulary = config.vocabulary();
    List<List<String>> all = new ArrayList<>();
    List<String> fixed = List.of("--draft-rule", "fixed:4");
    List<String> few = List.of("--draft-length", "12");
    List<String> shortlist = List.of("--draft-shortlist", String.valueOf((vocabulary + 5) / 6));
    for (String source : List.of("lookup", "lookup:2")) {
      all.add(joined(source));
      all.add(joined(source, fixed));
    }
    List<String> sources = new ArrayList<>(List.of("model:" + model));
    if (layers > 1) {
      sources.add("selfdraft:" + Math.max(1, layers * 4 / 5));
    }
    for (String source : sources) {
      String head = made(source.split(":")[0] + ".specdec");
      all.add(joined(source));
      all.add(joined(source, fixed));
      all.add(joined(source, fixed, shortlist));
      all.add(joined(source, List.of("--draft-rule", "confidence:0.5")));
      all.add(joined(source, few, List.of("--draft-rule", "specdec:" + head)));
    }
    if (layers > 1) {
      all.add(joined("selfdraft:" + Math.max(1, layers - 2), fixed));
      all.add(joined(sources.get(1), fixed, List.of("--draft-translators", made("translators"))));
      all.add(joined("lookup+" + sources.get(1)));
      all.add(joined("lookup+" + sources.get(1), fixed, shortlist));
      all.add(joined("lookup+" + sources.get(1) + "+" + sources.get(0), fixed));
      all.add(joined("del", few));
      all.add(joined("del", few, shortlist));
      all.add(joined("del-paper", few));
    }
    List<Method> methods = new ArrayList<>();
    for (List<String> words : all) {
      methods.add(method(words, config));
    }
    return methods;
  }

  @SafeVarargs
  private static List<String> joined(String source, List<String>... more) {
    List<String> words = new ArrayList<>(List.of("--speculate", source));
    for (List<String> some : more) {
      words.addAll(some);
    }
    return words;
  }

  /** A file of this model's that is made where it is not there. */
  private String made(String what) {
    return out.resolve(model.getFileName() + "." + what + ".safetensors").toString();
  }

  /** Something of everything, for a model of so many layers; all of it if a full run is wanted. */
  private List<String> usual(int layers) {
    int most = Math.max(1, layers - 2);
    int many = Math.max(1, layers * 4 / 5);
    int half = Math.max(1, Math.min(layers - 1, layers / 2));
    String skip = "--ffn-skip " + layers / 6 + "," + layers * 5 / 6 + ",4,";
    String self = "--speculate selfdraft:" + Math.min(many, layers - 1);
    List<String> usual = new ArrayList<>(List.of("--speculate lookup"));
    if (layers > 1) {
      usual.addAll(List.of(self, "--speculate del"));
    }
    usual.addAll(List.of("--exit fixed:" + many, "--exit threshold:0.9",
        "--schedule unified:" + many, skip + "0.99", "--drop snapkv:16,64",
        "--drop fastv:" + Math.min(2, layers - 1) + ",0.5"));
    if (full) {
      usual.add("--head certified");
      usual.add("--speculate lookup --draft-rule fixed:7");
      if (layers > 1) {
        usual.add("--speculate selfdraft:" + half);
        usual.add(self + " --draft-rule confidence:0.6");
        usual.add(self.replace("selfdraft", "lookup+selfdraft"));
      }
      usual.addAll(List.of("--exit fixed:" + most, "--exit threshold:0.9 --kv recompute",
          "--exit patience:1", "--schedule unified:" + Math.max(1, layers * 9 / 10), skip + "0.97",
          "--drop h2o:0.25,0.25"));
    }
    return List.copyOf(new LinkedHashSet<>(usual)); // two may be one in a model of few layers
  }
}
