// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import com.google.gson.Gson;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.ExeuntException;
import org.exeunt.Scope;
import org.exeunt.Screen;
import org.exeunt.Tensor;
import org.exeunt.cli.HelpPage;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.DoubleDecoder;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.decode.HeadScreen;
import org.exeunt.engine.decode.Trace;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelChangedException;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;

/**
 * One task of {@code ./exeunt bench --decode} in a process of its own; the answer is a line of
 * JSON. {@code bench/decode/run} starts it, and {@code bench/decode/peer.py} does the same with
 * llama.cpp.
 */
public final class DecodeFigures {
  private static final int WARM_UP = 8; // steps before those that are timed
  private static final int ROWS_AT_ONCE = 64;

  private static final List<String> TASKS =
      List.of("tokens", "judge", "screen", "agreement", "speed");

  private final String task;
  private final Map<String, String> options = new HashMap<>();

  private DecodeFigures(String[] arguments) {
    task = arguments.length > 0 ? arguments[0] : "";
    if (!TASKS.contains(task)) {
      throw new IllegalArgumentException(
          "the task is '" + task + "', expected one of " + String.join(", ", TASKS));
    }
    HelpPage.parse("decode-figures", Arrays.copyOfRange(arguments, 1, arguments.length))
        .forEach(option -> options.put(option.name(), option.value()));
  }

  /** Runs a task and ends the process: status 2 if the arguments or the model make no sense. */
  public static void main(String[] arguments) {
    Locale.setDefault(Locale.ROOT);
    try {
      System.out.println(new DecodeFigures(arguments).run());
    } catch (NoSuchFileException e) {
      fail("there is no file " + e.getFile());
    } catch (AccessDeniedException e) {
      fail(e.getFile() + " may not be read");
    } catch (IOException | IllegalArgumentException | UnsupportedOperationException
        | UnsatisfiedLinkError | ExeuntException | ModelChangedException e) {
      fail(e.getMessage());
    }
  }

  private static void fail(String reason) {
    System.err.println(reason);
    System.exit(2);
  }

  private String run() throws IOException {
    try (GgufFile file = GgufFile.open(Path.of(option("--model")))) {
      switch (task) {
        case "tokens":
          String text = Files.readString(Path.of(option("--text")));
          return json(Map.of("tokens", new Tokenizer(file).encodePrompt(text)));
        case "judge": // F32 holds what a file has
          try (LlamaWeights weights = LlamaWeights.load(file, DType.F32)) {
            return json(Map.of("steps", new DoubleDecoder(weights, ids()).argmax()));
          }
        default:
          Backend.setThreads(number("--threads"));
          try (LlamaWeights weights = weights(file)) {
            try (Screen screen = certified() ? screen(file, weights) : null) {
              return task.equals("screen") ? "{}"
                  : task.equals("agreement")
                  ? agreement(weights, screen)
                  : speed(weights, screen);
            }
          }
      }
    }
  }

  /** As generate has them. */
  private LlamaWeights weights(GgufFile file) throws IOException {
    return packed()
        ? LlamaWeights.load(file, null, Models.packed(file.path()), System.err)
        : LlamaWeights.load(file, type());
  }

  private boolean packed() {
    return option("--weights").equals("packed");
  }

  private DType type() {
    return GenerateOptions.weightsOrPacked(option("--weights"));
  }

  private DecoderOptions decoding() {
    return DecoderOptions.FULL.withPromptInputs(
        GenerateOptions.inputs(options.getOrDefault("--inputs", "int16")));
  }

  private boolean certified() {
    return options.getOrDefault("--head", "full").equals("certified");
  }

  /** As generate has it, made now if it has not been. */
  private Screen screen(GgufFile file, LlamaWeights weights) throws IOException {
    Path kept = Models.screen(Path.of(option("--model")), type());
    return HeadScreen.openOrMake(kept, weights, new Tokenizer(file), Texts.essay(), System.err);
  }

  private String agreement(LlamaWeights weights, Screen screen) throws IOException {
    int[] ids = ids();
    int[] steps = new int[ids.length];
    try (Decoder decoder = new Decoder(weights, decoding().withScreen(screen), 1, ids.length)) {
      for (int t = 0; t < ids.length; t++) {
        if (t == 0) {
          decoder.prefill(0, ids[0]);
        } else {
          decoder.step(ids[t]);
        }
        steps[t] = decoder.argmax(0);
      }
    }
    return json(Map.of("steps", steps, "prompt", prompt(weights, decoding(), ids)));
  }

  /** The argmax of each position of a prompt. */
  private static int[] prompt(LlamaWeights weights, DecoderOptions decoding, int... ids) {
    int width = weights.config().width();
    float[] states = Trace.of(weights, decoding, ids).hidden(weights.config().layers());
    int[] argmax = new int[ids.length];
    for (int from = 0; from < ids.length; from += ROWS_AT_ONCE) {
      int to = Math.min(ids.length, from + ROWS_AT_ONCE);
      try (Scope scope = Scope.open()) {
        Tensor hidden =
            scope.copyOf(Arrays.copyOfRange(states, from * width, to * width), to - from, width);
        Head head = new Head(scope, weights, hidden, false);
        head.run();
        System.arraycopy(head.statistics().argmax().toIntArray(), 0, argmax, from, to - from);
      }
    }
    return argmax;
  }

  private String speed(LlamaWeights weights, Screen screen) throws IOException {
    int[] ids = ids();
    int prompt = number("--prompt");
    int few = number("--short");
    int steps = number("--steps");
    perSecond(weights, screen, ids, prompt, steps); // until its code is compiled
    double[] afterFew = perSecond(weights, screen, ids, few, steps);
    double[] afterPrompt = perSecond(weights, screen, ids, prompt, steps);
    return json(Map.of("short", afterFew[1], "long", afterPrompt[1], "prompt", afterPrompt[0],
        "bytes", (long) afterPrompt[2], "isa", Backend.isa(), "version",
        Backend.version() + ", JDK " + Runtime.version()));
  }

  private static String json(Map<String, ?> figures) {
    return new Gson().toJson(figures);
  }

  /** Tokens per second: of a prompt, and of {@code steps} after it; and bytes of weights of these. */
  private double[] perSecond(
      LlamaWeights weights, Screen screen, int[] ids, int prompt, int steps) {
    int until = prompt + WARM_UP + steps;
    try (Decoder decoder = new Decoder(weights, decoding().withScreen(screen), 1, until)) {
      long begin = System.nanoTime();
      decoder.prefill(0, Arrays.copyOf(ids, prompt));
      double prompted = 1e9 * prompt / (System.nanoTime() - begin);
      for (int t = prompt; t < until; t++) {
        if (t == prompt + WARM_UP) {
          begin = System.nanoTime();
        }
        decoder.step(ids[t]);
      }
      double decoded = 1e9 * steps / (System.nanoTime() - begin);
      DecodeWork work = decoder.work();
      return new double[] {prompted, decoded, work.bytes() / (double) work.tokens()};
    }
  }

  private int[] ids() throws IOException {
    String[] words = Files.readString(Path.of(option("--ids"))).strip().split("\\s+");
    return Arrays.stream(words).mapToInt(word -> integer("an id in --ids", word, 0)).toArray();
  }

  private int number(String name) {
    return integer(name, option(name), 1);
  }

  private static int integer(String what, String text, int least) {
    try {
      int value = Integer.parseInt(text);
      if (value >= least) {
        return value;
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new IllegalArgumentException(
        what + " is '" + text + "', expected an integer from " + least + " on");
  }

  private String option(String name) {
    if (!options.containsKey(name)) {
      throw new IllegalArgumentException(name + " is missing");
    }
    return options.get(name);
  }
}
