// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.exeunt.engine.model.io.SafetensorsWriter;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.speculate.draft.AcceptanceRecorder;
import org.exeunt.engine.train.AcceptanceFit.Head;
import org.exeunt.engine.train.AcceptanceFit.Settings;

/**
 * The acceptance head of SpecDec++ for a model and who drafts for it: fitted once to what is drafted
 * after pieces of a text, and kept in a safetensors file. That holds {@code hidden.weight} [D,D]
 * and {@code hidden.bias} [D] of the residual blocks, {@code out.weight} [2,D], {@code out.bias} [2]
 * and {@code repeats} [1], I32: how often the block is applied.
 */
final class AcceptanceHead {
  private static final int DRAFT = AcceptanceRecorder.DRAFT;
  private static final int PIECES = 24;
  private static final int PROMPT = 16;
  private static final int ANSWER = 64;

  private AcceptanceHead() {}

  /**
   * Reads the head that a rule needs, or makes it if there is no such file.
   *
   * @param speculation with such a rule, and all else that it needs
   * @param drafting a second model, where one drafts
   * @param text to begin with
   * @param log where it is said that one is made; null: nowhere
   */
  static Head readOrMake(Speculation speculation, LlamaWeights weights, LlamaWeights drafting,
      Tokenizer tokenizer, String text, PrintStream log) throws IOException {
    Path file = speculation.acceptanceFile();
    if (Files.exists(file)) {
      return read(file, (drafting == null ? weights : drafting).config().width());
    }
    if (log != null) {
      log.println("making " + file + ": an acceptance head is fitted to drafts of this model");
    }
    Head head = fit(speculation, weights, drafting, tokenizer.encodePrompt(text));
    write(file, head);
    return head;
  }

  /** Reads a head for states of {@code width} elements. */
  static Head read(Path path, int width) throws IOException {
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      require(file, "repeats", 1);
      float[] hiddenWeight = floats(file, "hidden.weight", width, width);
      float[] hiddenBias = floats(file, "hidden.bias", width);
      float[] outWeight = floats(file, "out.weight", 2, width);
      float[] outBias = floats(file, "out.bias", 2);
      try {
        return new Head(file.ints("repeats")[0], hiddenWeight, hiddenBias, outWeight, outBias);
      } catch (IllegalArgumentException e) {
        throw new ModelFormatException(path, e.getMessage());
      }
    }
  }

  private static void require(SafetensorsFile file, String name, long... shape) throws IOException {
    List<Long> expected = Arrays.stream(shape).boxed().toList();
    List<Long> found = file.tensor(name).shape();
    if (!found.equals(expected)) {
      throw new ModelFormatException(file.path(),
          "tensor '" + name + "' has shape " + found + ", but what drafts here needs " + expected
              + ".");
    }
  }

  /** The finite elements of a tensor of this shape. */
  static float[] floats(SafetensorsFile file, String name, long... shape) throws IOException {
    require(file, name, shape);
    float[] values = file.floats(name);
    for (int i = 0; i < values.length; i++) {
      if (!Float.isFinite(values[i])) {
        throw new ModelFormatException(
            file.path(), "tensor '" + name + "' has " + values[i] + " at element " + i + ".");
      }
    }
    return values;
  }

  static void write(Path path, Head head) throws IOException {
    int width = head.hiddenBias().length;
    new SafetensorsWriter()
        .add("hidden.weight", head.hiddenWeight(), width, width)
        .add("hidden.bias", head.hiddenBias(), width)
        .add("out.weight", head.outWeight(), 2, width)
        .add("out.bias", head.outBias(), 2)
        .add("repeats", new int[] {head.repeats()}, 1)
        .write(path);
  }

  /** Fits a head to what is drafted for answers that begin with pieces of a text. */
  private static Head fit(
      Speculation speculation, LlamaWeights weights, LlamaWeights drafting, int... text) {
    int context = weights.config().context();
    if (drafting != null) {
      context = Math.min(context, drafting.config().context());
    }
    int capacity = Math.min(context, PROMPT + ANSWER + DRAFT);
    int prompt = Math.max(1, Math.min(PROMPT, Math.min(capacity / 2, text.length / 2)));
    try (AcceptanceRecorder recorder =
             new AcceptanceRecorder((drafting == null ? weights : drafting).config().width());
        SpeculativeDecoder decoder = new SpeculativeDecoder(
            new Decoder(weights, DecoderOptions.FULL, 1, capacity), speculation.recording(recorder),
            drafting, token -> false)) {
      for (int piece = 0; piece < PIECES; piece++) {
        int begin = (int) ((long) (text.length - prompt) * piece / PIECES);
        decoder.restart(0);
        decoder.prefill(0, Arrays.copyOfRange(text, begin, begin + prompt));
        while (decoder.tokens(0)[decoder.tokenCount(0) - 1] >= 0
            && decoder.position(0) + DRAFT < capacity) {
          decoder.round();
        }
      }
      if (recorder.fit().samples() == 0) {
        throw new IllegalArgumentException(
            "no acceptance head can be fitted: of this model nothing was drafted");
      }
      return recorder.fit().solve(Settings.SPECDEC);
    }
  }
}
