// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.IntStream;
import org.exeunt.DraftRule.Form;
import org.exeunt.Scope;
import org.exeunt.TranslatorFit.Translator;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.exeunt.engine.policy.Arguments;
import org.exeunt.engine.speculate.draft.AcceptanceGate;
import org.exeunt.engine.speculate.draft.AcceptanceRecorder;
import org.exeunt.engine.speculate.draft.DelDraft;
import org.exeunt.engine.speculate.draft.DraftPolicy;
import org.exeunt.engine.speculate.draft.DraftRules;
import org.exeunt.engine.speculate.draft.DraftScore;
import org.exeunt.engine.speculate.draft.DraftSource;
import org.exeunt.engine.speculate.draft.DraftSources;
import org.exeunt.engine.speculate.draft.LookupDraft;
import org.exeunt.engine.speculate.draft.ModelDraft;
import org.exeunt.engine.speculate.draft.PassTimes;
import org.exeunt.engine.speculate.draft.SelfDraft;
import org.exeunt.engine.speculate.draft.Shortlist;
import org.exeunt.engine.speculate.draft.SpecDecRule;
import org.exeunt.engine.train.AcceptanceFit;

/**
 * How tokens are drafted that a model then verifies: several in one pass, in which it reads its
 * weights once. The answer is the one it gives without drafts.
 */
public final class Speculation {
  /** The forms that {@link #parse} takes. */
  public static final String FORMS = "none, selfdraft:LAYERS, del[:FIRST,STRIDE], "
      + "del-paper[:FIRST,STRIDE], lookup[:N], model:FILE or, joined by +, several";

  /** The forms of the rule. */
  public static final String RULES = DraftRules.FORMS;

  /** Most tokens of a draft: it is verified together with the token before it. */
  public static final int LONGEST_DRAFT = DraftRules.LONGEST_DRAFT;

  private static final int USUAL_DRAFT = 7;
  private static final int USUAL_NGRAM = 4;
  private static final int LONGEST_NGRAM = 16;

  /** As in DEL's code. */
  private static final int USUAL_DEL_DRAFT = 18;

  /** DEL drafts after so many depths, less one, unless told which. */
  private static final int USUAL_PARTS = 6;

  private enum Kind {
    SELF("selfdraft"),
    DEL("del"),
    DEL_PAPER("del-paper"),
    LOOKUP("lookup"),
    MODEL("model");

    final String text;

    Kind(String text) {
      this.text = text;
    }
  }

  /**
   * Who drafts.
   *
   * @param number layers, or tokens to look up
   * @param candidates of DEL: after how many layers it may draft; otherwise null
   * @param model the file of a second one; null: none
   */
  private record Part(Kind kind, int number, int[] candidates, Path model) {}

  private final List<Part> parts;
  private final int length; // 0: not said
  private final String rule;
  private final int shortlist; // tokens that a draft is looked for among; 0: all
  private final Path translatorFile; // null: none
  private final Map<Integer, Translator> translators; // by depth; null: none, or not here yet
  private final AcceptanceFit.Head acceptance; // null: none is needed, or it is not here yet
  private final AcceptanceRecorder recorder; // null: not recorded

  private Speculation(List<Part> parts, int length, String rule) {
    this.parts = List.copyOf(parts);
    this.length = length;
    this.rule = rule;
    shortlist = 0;
    translatorFile = null;
    translators = null;
    acceptance = null;
    recorder = null;
  }

  private Speculation(Speculation other, int shortlist, Path translatorFile,
      Map<Integer, Translator> translators, AcceptanceFit.Head acceptance,
      AcceptanceRecorder recorder) {
    parts = other.parts;
    length = other.length;
    rule = other.rule;
    this.shortlist = shortlist;
    this.translatorFile = translatorFile;
    this.translators = translators;
    this.acceptance = acceptance;
    this.recorder = recorder;
  }

  /**
   * The same with a file of translators for the layers that draft.
   *
   * @throws IllegalArgumentException if no such layers do
   */
  public Speculation withTranslators(Path file) {
    if (ownLayers() == null) {
      throw new IllegalArgumentException("--draft-translators is '" + file
          + "', but only selfdraft and del draft with the model's own first layers");
    }
    return new Speculation(this, shortlist, file, null, null, null);
  }

  /**
   * The same with drafts looked for among some tokens.
   *
   * @param size how many
   * @throws IllegalArgumentException if who drafts looks for none
   */
  public Speculation withShortlist(int size) {
    if (parts.stream().allMatch(part -> part.kind == Kind.LOOKUP)) {
      throw new IllegalArgumentException(
          "--draft-shortlist is '" + size + "', but lookup asks no head for tokens");
    }
    return new Speculation(this, size, translatorFile, translators, acceptance, recorder);
  }

  /** The file of translators; null: none are asked for. */
  Path translatorFile() {
    return translatorFile;
  }

  /** After how many layers the model's own first ones draft; null: they do not. */
  int[] draftDepths() {
    Part own = ownLayers();
    return own == null ? null
        : own.candidates != null
        ? own.candidates.clone()
        : new int[] {own.number};
  }

  /** The same with what its file of translators holds, by depth. */
  Speculation withTranslators(Map<Integer, Translator> read) {
    return new Speculation(this, shortlist, translatorFile, read, null, null);
  }

  /**
   * Reads an option; null for {@code none}.
   *
   * @param text one of {@link #FORMS}
   * @param length most tokens of a draft; 0: as is usual
   * @param rule one of {@link #RULES}; null: {@code gain}
   * @param layers of the model
   */
  public static Speculation parse(String text, int length, String rule, int layers) {
    if (text.equals("none")) {
      if (length > 0 || rule != null) {
        throw new IllegalArgumentException(
            (rule != null ? "--draft-rule is '" + rule + "'" : "--draft-length is '" + length + "'")
            + ", but --speculate none drafts nothing");
      }
      return null;
    }
    List<Part> parts = new ArrayList<>();
    int end;
    for (int begin = 0; begin <= text.length(); begin = end + 1) {
      // A file may have any name, so that it is the last.
      end = text.startsWith("model:", begin) ? -1 : text.indexOf('+', begin);
      end = end < 0 ? text.length() : end;
      parts.add(part(text, text.substring(begin, end), layers));
    }
    Speculation found = new Speculation(parts, length, rule);
    found.checkParts(text);
    found.checkRule();
    return found;
  }

  private static Part part(String all, String text, int layers) {
    int colon = text.indexOf(':');
    String name = colon < 0 ? text : text.substring(0, colon);
    String value = colon < 0 ? "" : text.substring(colon + 1);
    String option = "--speculate " + name;
    return switch (name) {
      case "selfdraft" -> {
        int most = Math.max(1, layers - 1);
        yield new Part(Kind.SELF,
            new Arguments(option, value, 1, 1, "one number").integer(0, "the layers", 1, most),
            null, null);
      }
      case "del", "del-paper" ->
        new Part(name.equals("del") ? Kind.DEL : Kind.DEL_PAPER, 0,
            candidates(option, colon < 0 ? null : value, layers), null);
      case "lookup" ->
        new Part(Kind.LOOKUP,
            colon < 0 ? USUAL_NGRAM
                      : new Arguments(option, value, 1, 1, "one number")
                            .integer(0, "the tokens to look up", 1, LONGEST_NGRAM),
            null, null);
      case "model" -> {
        if (value.isEmpty()) {
          throw new IllegalArgumentException("--speculate model needs a file");
        }
        yield new Part(Kind.MODEL, 0, null, Path.of(value));
      }
      default -> throw new IllegalArgumentException("--speculate is '" + all + "', not " + FORMS);
    };
  }

  private void checkParts(String text) {
    if (parts.size() > 1 && isDel()) {
      throw new IllegalArgumentException("--speculate is '" + text
          + "', but del chooses among layers alone: nothing can be joined to it");
    }
    if (parts.stream().map(Part::kind).distinct().count() < parts.size()) {
      throw new IllegalArgumentException("--speculate is '" + text + "', but of each kind there "
          + "can be one");
    }
  }

  /** After how many layers DEL may draft. */
  private static int[] candidates(String option, String value, int layers) {
    if (layers < 2) {
      throw new IllegalArgumentException(
          option + " drafts with the first layers of several, but this model has " + layers);
    }
    int first = (layers + USUAL_PARTS - 1) / USUAL_PARTS;
    int stride = first;
    if (value != null) {
      Arguments two = new Arguments(option, value, 2, 2, "the first layers and a stride");
      first = two.integer(0, "the first layers", 1, layers - 1);
      stride = two.integer(1, "the stride", 1, layers - 1);
    }
    int step = stride;
    return IntStream.iterate(first, depth -> depth < layers, depth -> depth + step).toArray();
  }

  private boolean isDel() {
    return parts.stream().anyMatch(part -> part.candidates != null);
  }

  /** Who drafts with the model's own first layers; null: none does. */
  private Part ownLayers() {
    return parts.stream()
        .filter(part -> part.kind == Kind.SELF || part.candidates != null)
        .findFirst()
        .orElse(null);
  }

  private void checkRule() {
    if (isDel() && rule != null) {
      throw new IllegalArgumentException(
          "--draft-rule is '" + rule + "', but --speculate del has a rule of its own");
    }
    DraftRules.parse(ruleText(), USUAL_DRAFT);
    if (length > 0 && ruleText().startsWith("fixed")) {
      throw new IllegalArgumentException("--draft-rule is '" + rule + "', and --draft-length '"
          + length + "': both say how long a draft is");
    }
    boolean confidence = ruleText().startsWith("confidence");
    if (parts.stream().anyMatch(part -> part.kind == Kind.LOOKUP)
        && (confidence || acceptanceFile() != null)) {
      throw new IllegalArgumentException("--draft-rule is '" + rule + "', but what is looked up "
          + "has no " + (confidence ? "probability" : "hidden state"));
    }
    if (parts.size() > 1 && (confidence || acceptanceFile() != null)) {
      throw new IllegalArgumentException("--draft-rule is '" + rule
          + "', but which of several is to "
          + "draft, gain and fixed alone can say");
    }
  }

  /** Refuses, with an {@link IllegalArgumentException}, a decoder that leaves out what verifies. */
  public static void check(DecoderOptions options) {
    if (options.exit().mayLeave() || options.schedule() != null || options.ffnSkip() != null) {
      throw new IllegalArgumentException("drafts cannot be used together with "
          + (options.schedule() != null ? "a schedule"
                  : options.ffnSkip() != null
                  ? "skipping feed-forward blocks"
                  : "an exit rule")
          + ": all of the model verifies them");
    }
  }

  /**
   * Refuses a model that cannot be drafted for so, and files that can be neither read nor made,
   * before anything is.
   *
   * @throws IllegalArgumentException if the vocabulary is too small, or a second model's is another
   * @throws IOException if a file is none of these
   */
  public void check(LlamaConfig config) throws IOException {
    if (shortlist > 0) {
      Shortlist.check(shortlist, config.vocabulary());
    }
    if (model() != null) {
      try (GgufFile file = GgufFile.open(model())) {
        checkVocabulary(LlamaConfig.of(file).vocabulary(), config.vocabulary());
      }
    }
    for (Path file : new Path[] {translatorFile, acceptanceFile()}) {
      if (file != null && Files.exists(file)) {
        SafetensorsFile.open(file).close();
      } else if (file != null) {
        checkMakeable(file);
      }
    }
  }

  private static void checkMakeable(Path file) throws IOException {
    Path folder = file.toAbsolutePath().getParent();
    while (!Files.exists(folder)) {
      folder = folder.getParent();
    }
    if (!Files.isDirectory(folder) || !Files.isWritable(folder)) {
      throw new IOException(file + " is not there, and cannot be made in " + folder);
    }
  }

  static void checkVocabulary(int drafting, int verifying) {
    if (drafting != verifying) {
      throw new IllegalArgumentException(
          "the model that drafts has " + drafting + " tokens, the one that verifies " + verifying);
    }
  }

  /** Refuses a draft that is as long as prompt and answer, or longer. */
  public void checkRoom(int capacity) {
    checkRoom(length(capacity), capacity);
  }

  public static void checkRoom(int longest, int capacity) {
    if (longest >= capacity) {
      throw new IllegalArgumentException("a draft of " + longest + " tokens does not fit: there is "
          + "room for " + capacity + ", prompt and answer");
    }
  }

  /** What the sources are called. */
  public List<String> names() {
    return parts.stream().map(part -> part.kind.text).toList();
  }

  private String ruleText() {
    return rule == null ? "gain" : rule;
  }

  /** The file of a second model; null: there is none. */
  public Path model() {
    return parts.stream().map(Part::model).filter(Objects::nonNull).findFirst().orElse(null);
  }

  /** Where the rule's acceptance head is, or goes; null: it needs none. */
  Path acceptanceFile() {
    String name = "specdec:";
    return ruleText().startsWith(name)
        ? SpecDecRule.Option.parse(ruleText().substring(name.length())).file()
        : null;
  }

  /** The same with the head that its rule needs. */
  Speculation withAcceptance(AcceptanceFit.Head head) {
    return new Speculation(this, shortlist, translatorFile, translators, head, null);
  }

  /** The same for somebody who looks at what is drafted for one sequence. */
  Speculation recording(AcceptanceRecorder by) {
    return new Speculation(this, shortlist, translatorFile, translators, null, by);
  }

  /** Most tokens of a draft, where a sequence has at most so many. */
  int length(int capacity) {
    if (length > 0) {
      return length;
    }
    if (ruleText().startsWith("fixed")) {
      return DraftRules.parse(ruleText(), USUAL_DRAFT).make(null, null, 0, 1, 1).most(0);
    }
    int usual = isDel() ? USUAL_DEL_DRAFT
        : acceptanceFile() != null
        ? SpecDecRule.USUAL_DRAFT
        : USUAL_DRAFT;
    return Math.max(1, Math.min(usual, capacity - 1));
  }

  /**
   * The same on a GPU, whose graph has a fixed number of rows.
   *
   * @throws IllegalArgumentException if that needs the host in a round
   */
  public DeviceSpeculation onDevice(int capacity) {
    if (isDel()) {
      throw new IllegalArgumentException(
          "--speculate is 'del', whose table is kept on the CPU; a GPU drafts by "
          + "selfdraft:LAYERS, lookup[:N] or model:FILE");
    }
    if (parts.size() > 1) {
      throw new IllegalArgumentException(
          "--speculate is '" + String.join("+", names()) + "', but on a GPU one of them drafts");
    }
    if (shortlist > 0) {
      throw new IllegalArgumentException(
          "--draft-shortlist is '" + shortlist + "', but on a GPU drafts go by all of the head");
    }
    if (translatorFile != null) {
      throw new IllegalArgumentException("--draft-translators is '" + translatorFile
          + "', but on a GPU the head sees states as they are");
    }
    String name = rule == null ? "fixed" : rule.replaceFirst(":.*", "");
    if (!name.equals("fixed") && !name.equals("confidence")) {
      throw new IllegalArgumentException(
          "--draft-rule is '" + rule + "', but on a GPU drafts go by fixed:K or confidence:TAU");
    }
    float least =
        name.equals("confidence") ? Float.parseFloat(rule.substring(name.length() + 1)) : 0;
    Part only = parts.get(0);
    int layers = only.kind == Kind.SELF ? only.number : 0;
    int ngram = only.kind == Kind.LOOKUP ? only.number : 0;
    return new DeviceSpeculation(layers, ngram, length(capacity), least);
  }

  /** What passes take, as far as one can say before the first. */
  PassTimes times(LlamaWeights weights, LlamaWeights drafting) {
    double[] draft =
        parts.stream()
            .mapToDouble(part -> switch (part.kind) {
              case SELF -> SelfDraft.cost(weights, part.number, shortlist);
              case DEL, DEL_PAPER, LOOKUP -> 0; // DEL is not asked
              case MODEL -> ModelDraft.cost(drafting, weights, shortlist);
            })
            .toArray();
    return new PassTimes(weights.layers().get(0).up().blocks() == null ? 0.08 : 0.3, draft);
  }

  /**
   * A rule for one of some sequences.
   *
   * @param scope owns its memory
   * @param source the rule's, and {@code from} its number among all
   */
  DraftPolicy rule(Scope scope, DraftSource source, int from, int sequence, PassTimes times,
      int sequences, int length) {
    DraftPolicy own = recorder != null ? recorder : source.rule(sequence);
    if (own != null) {
      return own;
    }
    int kinds = parts.get(from).kind == Kind.LOOKUP ? LookupDraft.LONGEST + 1 : 1;
    return DraftRules.parse(ruleText(), length).make(scope, times, from, sequences, kinds);
  }

  /** Those who draft for a decoder. */
  DraftSources sources(Decoder decoder, LlamaWeights drafting, int length, PassTimes times) {
    List<DraftSource> sources = new ArrayList<>();
    try {
      parts.forEach(part -> sources.add(source(part, decoder, drafting, length)));
      return new DraftSources(sources, times);
    } catch (RuntimeException | Error e) {
      sources.forEach(DraftSource::close);
      throw e;
    }
  }

  private DraftSource source(Part part, Decoder decoder, LlamaWeights drafting, int length) {
    return switch (part.kind) {
      case SELF ->
        new SelfDraft(decoder, score(decoder), translators(), shortlist, part.number, length);
      case DEL, DEL_PAPER ->
        new DelDraft(decoder, part.kind == Kind.DEL ? Form.CODE : Form.PAPER, translators(),
            shortlist, length, part.candidates);
      case LOOKUP -> new LookupDraft(part.number, decoder.sequences(), decoder.capacity(), length);
      case MODEL -> {
        Decoder second = new Decoder(drafting, DecoderOptions.FULL, decoder.sequences(),
            Math.min(decoder.capacity(), drafting.config().context()));
        try {
          yield new ModelDraft(second, score(second), shortlist);
        } catch (RuntimeException | Error e) {
          second.close();
          throw e;
        }
      }
    };
  }

  private Map<Integer, Translator> translators() {
    if (translatorFile != null && translators == null) {
      throw new IllegalStateException(
          "--draft-translators is '" + translatorFile + "', but that was not read");
    }
    return translators;
  }

  /** What the rule goes by of tokens that this decoder drafts. */
  private DraftScore score(Decoder decoder) {
    if (recorder != null) {
      return recorder;
    }
    if (acceptanceFile() == null) {
      return new DraftScore.Probability();
    }
    if (acceptance == null) {
      throw new IllegalStateException("--draft-rule is '" + rule + "', but its head was not read");
    }
    return new AcceptanceGate(decoder, acceptance);
  }
}
