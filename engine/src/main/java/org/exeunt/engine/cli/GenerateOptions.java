// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.nio.file.Path;
import java.util.Locale;
import java.util.Set;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.InputRounding;
import org.exeunt.cli.HelpPage;
import org.exeunt.engine.answer.Probe;
import org.exeunt.engine.answer.ProbedAnswer;
import org.exeunt.engine.answer.Sampling;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;
import org.exeunt.engine.speculate.Speculation;

/** The command line of {@link Generate}. */
final class GenerateOptions {
  private static final Set<String> METHOD = Set.of("--prompt", "--exit", "--exit-points", "--kv",
      "--schedule", "--ffn-skip", "--drop", "--head", "--inputs", "--speculate", "--draft-rule",
      "--draft-length", "--draft-translators", "--draft-shortlist");
  private static final int USUAL_CONTEXT = 4096;

  String prompt;
  Path model = Models.find();
  Device device = Device.CPU;
  DType weights; // null: as the file has them
  boolean packed;
  private InputRounding inputs = InputRounding.INT16;
  int maxTokens = 256;
  float temperature;
  float topP = 1;
  long seed;
  int threads;
  boolean raw;
  boolean chat;
  String system; // null: the template's own, if it has one
  private int context; // 0: not said
  boolean stats;
  boolean help;
  private String exit = "none";
  private String exitPoints;
  private String schedule = "none";
  private String ffnSkip = "none";
  private String drop = "none";
  private String speculate = "none";
  private String draftRule;
  private int draftLength;
  private Path draftTranslators; // null: none
  private int draftShortlist; // 0: none
  private KvPolicy kv; // null: not given
  boolean certified;
  private boolean tunesDraws;
  private int samples = 1;
  private int branches = 1;
  private String stop; // null: not given
  private float endBias;
  private float abstain;
  private String probeText; // null: the usual one
  private String probeWords;
  private boolean tunes; // says more than a prompt and a method

  private GenerateOptions() {}

  /**
   * Reads a command line; what is wrong with it is an {@link IllegalArgumentException}. Where
   * nothing is, picocli is not even loaded: the first token would have to wait for that.
   */
  static GenerateOptions parse(String... arguments) {
    GenerateOptions options = new GenerateOptions();
    for (int i = 0; i < arguments.length; i++) {
      if (!options.set(arguments[i])
          && (i + 1 == arguments.length || !options.set(arguments[i], arguments[++i]))) {
        HelpPage.parse("generate", arguments); // says what is wrong
        throw new IllegalStateException("the help page of generate has an option too many");
      }
    }
    options.check();
    return options;
  }

  /** Takes an option without a value; false: this is none. */
  private boolean set(String flag) {
    switch (flag) {
      case "--raw" -> raw = true;
      case "--chat" -> chat = true;
      case "--stats" -> stats = true;
      case "--help" -> help = true;
      case "--verify" -> {
        // the launcher has done it
      }
      default -> {
        return false;
      }
    }
    tunes = true;
    return true;
  }

  /** Takes an option and its value; false: this is none. */
  private boolean set(String option, String value) {
    switch (option) {
      case "--prompt" -> prompt = value;
      case "--system" -> system = value;
      case "--context" -> context = integer(option, value, 2, Integer.MAX_VALUE);
      case "--model" -> model = Models.of(value);
      case "--weights" -> {
        packed = value.equals("packed");
        weights = weightsOrPacked(value);
      }
      case "--device" -> device = device(value);
      case "--inputs" -> inputs = inputs(value);
      case "--head" -> certified = certified(value);
      case "--max-tokens" -> maxTokens = integer(option, value, 1, 1 << 20);
      case "--temperature" -> temperature = number(option, value, 0, 100);
      case "--top-p" -> topP = number(option, value, Float.MIN_VALUE, 1);
      case "--seed" -> seed = integer(option, value, 0, Integer.MAX_VALUE);
      case "--threads" -> threads = integer(option, value, 1, 256);
      case "--exit" -> exit = value;
      case "--exit-points" -> exitPoints = value;
      case "--kv" -> kv = kv(value);
      case "--schedule" -> schedule = value;
      case "--ffn-skip" -> ffnSkip = value;
      case "--drop" -> drop = value;
      case "--samples" -> samples = integer(option, value, 1, Sampling.MOST);
      case "--branches" -> branches = integer(option, value, 1, Sampling.MOST);
      case "--stop" -> stop = value;
      case "--end-bias" -> endBias = number(option, value, -100, 100);
      case "--abstain" -> abstain = number(option, value, Float.MIN_VALUE, 1);
      case "--probe" -> probeText = value;
      case "--probe-words" -> probeWords = value;
      case "--speculate" -> speculate = value;
      case "--draft-rule" -> draftRule = value;
      case "--draft-translators" -> draftTranslators = Path.of(value);
      case "--draft-shortlist" -> draftShortlist = integer(option, value, 1, Integer.MAX_VALUE);
      case "--draft-length" -> draftLength = integer(option, value, 1, Speculation.LONGEST_DRAFT);
      default -> {
        return false;
      }
    }
    tunes |= !METHOD.contains(option);
    tunesDraws |= option.equals("--top-p") || option.equals("--seed");
    return true;
  }

  private void check() {
    if (prompt == null && !help && !chat) {
      throw new IllegalArgumentException("--prompt is missing");
    }
    checkChat();
    if (tunesDraws && temperature == 0) {
      throw new IllegalArgumentException("--top-p and --seed need a --temperature above 0");
    }
    if (certified && (temperature > 0 || isProbed())) {
      throw new IllegalArgumentException("--head certified finds the most probable token; "
          + (temperature > 0 ? "a --temperature" : "--stop " + stop) + " needs all logits");
    }
    if (onGpu() && packed) {
      throw new IllegalArgumentException("--weights packed is for the CPU, not for " + device);
    }
    if (inputs == InputRounding.INT8 && (onGpu() || weights != null)) {
      throw new IllegalArgumentException("--inputs int8 is for quantised weights on the CPU, not "
          + "for " + (onGpu() ? device : "those that have become " + weights));
    }
    if (onGpu() && topP < 1) {
      throw new IllegalArgumentException("--device " + device
          + " draws by an argmax; --top-p needs "
          + "all logits on the CPU");
    }
    checkSampling();
    if (kv != null && exit.equals("none")) {
      throw new IllegalArgumentException("--kv is '" + kv.name().toLowerCase(Locale.ROOT)
          + "', but --exit none lets no token leave early");
    }
  }

  private void checkChat() {
    if (raw && (chat || system != null)) {
      throw new IllegalArgumentException((chat ? "--chat" : "--system")
          + " and --raw cannot be used together: raw text has no turns");
    }
    if (context > 0 && !chat) {
      throw new IllegalArgumentException(
          "--context is '" + context + "', but without --chat there is room for one answer");
    }
    if (!chat) {
      return;
    }
    if ("-".equals(prompt)) {
      throw new IllegalArgumentException(
          "--prompt is '-', but --chat reads standard input line by line");
    }
    String alone = samples > 1 ? "--samples " + samples
        : branches > 1         ? "--branches " + branches
        : stop != null         ? "--stop " + stop
        : abstain > 0          ? "--abstain " + abstain
        : endBias != 0         ? "--end-bias " + endBias
        : !drop.equals("none") ? "--drop " + drop
        : onGpu()
        ? "--device " + device
        : null;
    if (alone != null) {
      throw new IllegalArgumentException(
          "--chat cannot be used with " + alone + ", which is for one prompt");
    }
  }

  /** Tokens of a conversation that there is room for, with a model of this context. */
  int conversation(int modelContext) {
    if (context > modelContext) {
      throw new IllegalArgumentException(
          "--context is '" + context + "', but the model was made for " + modelContext + " tokens");
    }
    return context > 0 ? context : Math.min(modelContext, USUAL_CONTEXT);
  }

  private void checkSampling() {
    if (isProbed()) {
      checkProbe();
      return;
    }
    if (probeText != null || probeWords != null) {
      throw new IllegalArgumentException(
          (probeText != null ? "--probe" : "--probe-words") + " needs a --stop that probes");
    }
    Sampling sampling = sampling();
    if (stop != null && samples == 1) {
      throw new IllegalArgumentException(
          "--stop is '" + stop + "', but --samples 1 leaves nothing to choose from");
    }
    if (sampling == null) {
      return;
    }
    String asked = asked();
    if (temperature == 0) {
      throw new IllegalArgumentException(asked + " needs a --temperature above 0, as it draws");
    }
    if (branches > 1 && (samples > 1 || abstain > 0)) {
      throw new IllegalArgumentException(
          asked + " and --branches " + branches + " cannot be used together");
    }
    checkDevice(asked);
    if (!exit.equals("none")) {
      throw new IllegalArgumentException(asked + " cannot be used with --exit " + exit
          + ", which judges the tokens of all sequences together");
    }
    if (branches > 1 && topP < 1) {
      throw new IllegalArgumentException(
          asked + " goes by the entropy of all tokens, but --top-p " + topP + " draws from some");
    }
  }

  private String asked() {
    return samples > 1 ? "--samples " + samples
        : abstain > 0  ? "--abstain " + abstain
        : branches > 1
        ? "--branches " + branches
        : "--end-bias " + endBias;
  }

  private void checkDevice(String asked) {
    if (onGpu()) {
      throw new IllegalArgumentException(
          asked + " draws on the CPU, but --device is '" + device + "'");
    }
    if (!speculate.equals("none")) {
      throw new IllegalArgumentException(asked + " cannot be used with --speculate " + speculate
          + ", which drafts for one answer");
    }
  }

  private void checkProbe() {
    probe(null);
    if (samples > 1 || branches > 1 || endBias != 0) {
      throw new IllegalArgumentException(
          (samples > 1           ? "--samples " + samples
                  : branches > 1 ? "--branches " + branches
                                 : "--end-bias " + endBias)
          + " cannot be used with --stop " + stop + ", which is for one answer");
    }
    checkDevice("--stop " + stop);
  }

  private boolean isProbed() {
    return stop != null && Probe.isAskedFor(stop);
  }

  /** What is asked of an answer at intervals; null: nothing is. */
  Probe probe(Tokenizer tokenizer) {
    return isProbed() ? Probe.parse(stop, abstain, probeText, probeWords, tokenizer) : null;
  }

  /** How samples are drawn; null: there is one, drawn as ever. */
  Sampling sampling() {
    boolean plain = samples == 1 && branches == 1 && endBias == 0 && abstain == 0;
    if (plain && stop == null || isProbed()) {
      return null;
    }
    Sampling sampling =
        Sampling.of(temperature, topP, seed, Math.max(samples, branches))
            .withStop("--stop", stop == null ? "first" : stop)
            .withEndBias(endBias)
            .withAbstention(abstain);
    return samples == 1 && abstain == 0 ? sampling.asBranches() : sampling;
  }

  /** What the decoder leaves out; some options mean different things to different models. */
  DecoderOptions decoder(int layers) {
    DecoderOptions options =
        DecoderOptions.FULL
            .withExit(
                ExitPolicy.parse(exit, exitPoints, layers), kv == null ? KvPolicy.PROPAGATE : kv)
            .withSchedule(Schedule.parse(schedule, layers))
            .withFfnSkip(FfnSkip.parse(ffnSkip, layers))
            .withDrop(PromptDrop.parse(drop, layers))
            .withPromptInputs(inputs);
    options.check();
    if (isProbed()) {
      ProbedAnswer.check(options);
    }
    return (temperature > 0 || isProbed()) && !onGpu() ? options.withLogits() : options;
  }

  /** How tokens are drafted; null: they are not. */
  Speculation speculation(int layers) {
    Speculation found = Speculation.parse(speculate, draftLength, draftRule, layers);
    if (found == null && (draftTranslators != null || draftShortlist > 0)) {
      throw new IllegalArgumentException(
          (draftShortlist > 0 ? "--draft-shortlist is '" + draftShortlist
                              : "--draft-translators is '" + draftTranslators)
          + "', but --speculate none drafts nothing");
    }
    if (draftTranslators != null) {
      found = found.withTranslators(draftTranslators);
    }
    return draftShortlist > 0 ? found.withShortlist(draftShortlist) : found;
  }

  /** Whether nothing was chosen but what a decoder leaves out, and how tokens are drafted. */
  boolean isMethod() {
    return !tunes;
  }

  boolean onGpu() {
    return !device.equals(Device.CPU);
  }

  /** Refuses a device that is not there; opens the CUDA backend if it is asked for. */
  void requireDevice() {
    if (!onGpu()) {
      return;
    }
    String reason = Backend.CUDA.reason();
    if (!reason.isEmpty()) {
      throw new IllegalArgumentException("--device is '" + device + "', but " + reason);
    }
    int count = Backend.CUDA.deviceCount();
    if (device.id() >= count) {
      throw new IllegalArgumentException("--device is '" + device + "', but the last of " + count
          + " GPU" + (count == 1 ? "" : "s") + " is cuda:" + (count - 1));
    }
  }

  /** A device by its name. */
  static Device device(String value) {
    if (value.equals("cpu")) {
      return Device.CPU;
    }
    if (value.matches("cuda:[0-9]{1,3}")) {
      return Device.cuda(Integer.parseInt(value.substring(5)));
    }
    throw new IllegalArgumentException("--device is '" + value + "', not cpu, cuda:0, cuda:1, ...");
  }

  /** What matrices become, also as packed rows; null: they stay as the file has them. */
  static DType weightsOrPacked(String value) {
    return value.equals("packed") ? null : weights(value, "file, packed, f32 or bf16");
  }

  /** What matrices become; null: they stay as the file has them. */
  static DType weights(String value) {
    return weights(value, "file, f32 or bf16");
  }

  private static DType weights(String value, String known) {
    return switch (value) {
      case "file" -> null;
      case "f32" -> DType.F32;
      case "bf16" -> DType.BF16;
      default -> throw new IllegalArgumentException("--weights is '" + value + "', not " + known);
    };
  }

  /** How rows of prompts are rounded to meet quantised weights. */
  static InputRounding inputs(String value) {
    return switch (value) {
      case "int16" -> InputRounding.INT16;
      case "int8" -> InputRounding.INT8;
      default ->
        throw new IllegalArgumentException("--inputs is '" + value + "', not int16 or int8");
    };
  }

  private static boolean certified(String value) {
    return switch (value) {
      case "certified" -> true;
      case "full" -> false;
      default ->
        throw new IllegalArgumentException("--head is '" + value + "', not certified or full");
    };
  }

  private static KvPolicy kv(String value) {
    for (KvPolicy policy : KvPolicy.values()) {
      if (policy.name().toLowerCase(Locale.ROOT).equals(value)) {
        return policy;
      }
    }
    throw new IllegalArgumentException("--kv is '" + value + "', not propagate, recompute or none");
  }

  static int integer(String option, String value, int least, int most) {
    try {
      int number = Integer.parseInt(value);
      if (number >= least && number <= most) {
        return number;
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new IllegalArgumentException(
        option + " is '" + value + "', not an integer from " + least + " to " + most);
  }

  private static float number(String option, String value, float least, float most) {
    try {
      float number = Float.parseFloat(value);
      if (number >= least && number <= most) {
        return number;
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new IllegalArgumentException(option + " is '" + value + "', not a number "
        + (least > 0 ? "above 0, up to " : "from " + (int) least + " to ") + (int) most);
  }
}
