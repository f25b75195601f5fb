// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.exeunt.AcceptanceFit;
import org.exeunt.AcceptanceFit.Head;
import org.exeunt.AcceptanceFit.Settings;
import org.exeunt.Scope;
import org.exeunt.examples.io.ModelFormatException;
import org.exeunt.examples.io.SafetensorsFile;

/**
 * The acceptance head of SpecDec++ for a model and who drafts for it: fitted once to what is drafted
 * behind pieces of a text, and kept in a safetensors file. That holds {@code hidden.weight} [D,D]
 * and {@code hidden.bias} [D] of the residual blocks, {@code out.weight} [2,D], {@code out.bias} [2]
 * and {@code repeats} [1], I32: how often the block is applied.
 */
public final class AcceptanceHead {
  private static final int REPEATS = 3; // as in SpecDec++
  private static final int DRAFT = 6;
  private static final int PIECES = 24;
  private static final int PROMPT = 16;
  private static final int ANSWER = 64;

  private AcceptanceHead() {}

  /**
   * Reads the head that a rule needs, or makes it if there is no such file.
   *
   * @param speculation null: nothing is drafted
   * @param drafting a second model, where one drafts
   * @param text to begin with
   * @param log where it is said that one is made; null: nowhere
   * @return the same with its head, where it needs one
   * @throws IOException if the file can be neither read nor written, or is no such head
   */
  public static Speculation ready(Speculation speculation, LlamaWeights weights,
      DraftModel drafting, Tokenizer tokenizer, String text, PrintStream log) throws IOException {
    Path file = speculation == null ? null : speculation.acceptanceFile();
    if (file == null) {
      return speculation;
    }
    LlamaWeights second = drafting == null ? null : drafting.weights();
    int width = (second == null ? weights : second).config().width();
    if (Files.exists(file)) {
      return speculation.withAcceptance(read(file, width));
    }
    if (log != null) {
      log.println("making " + file + ": an acceptance head is fitted to drafts of this model");
    }
    Head head = fit(speculation, weights, second, tokenizer.encodePrompt(text));
    write(file, head);
    return speculation.withAcceptance(head);
  }

  /** Reads a head for states of {@code width} elements. */
  static Head read(Path path, int width) throws IOException {
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      require(file, "hidden.weight", width, width);
      require(file, "hidden.bias", width);
      require(file, "out.weight", 2, width);
      require(file, "out.bias", 2);
      require(file, "repeats", 1);
      Head head;
      try {
        head = new Head(file.ints("repeats")[0], file.floats("hidden.weight"),
            file.floats("hidden.bias"), file.floats("out.weight"), file.floats("out.bias"));
      } catch (IllegalArgumentException e) {
        throw new ModelFormatException(path, e.getMessage());
      }
      requireFinite(path, "hidden.weight", head.hiddenWeight());
      requireFinite(path, "hidden.bias", head.hiddenBias());
      requireFinite(path, "out.weight", head.outWeight());
      requireFinite(path, "out.bias", head.outBias());
      return head;
    }
  }

  private static void require(SafetensorsFile file, String name, long... shape) throws IOException {
    List<Long> expected = Arrays.stream(shape).boxed().toList();
    List<Long> found = file.tensor(name).shape();
    if (!found.equals(expected)) {
      throw new ModelFormatException(file.path(),
          "tensor '" + name + "' has shape " + found
              + ", but an acceptance head for what drafts here has " + expected + ".");
    }
  }

  private static void requireFinite(Path path, String name, float... values)
      throws ModelFormatException {
    for (int i = 0; i < values.length; i++) {
      if (!Float.isFinite(values[i])) {
        throw new ModelFormatException(
            path, "tensor '" + name + "' has " + values[i] + " at element " + i + ".");
      }
    }
  }

  static void write(Path path, Head head) throws IOException {
    int width = head.hiddenBias().length;
    ByteBuffer data =
        ByteBuffer.allocate(Math.toIntExact(4L * (width + 3L) * (width + 1L)))
            .order(ByteOrder.LITTLE_ENDIAN);
    StringBuilder header = new StringBuilder("{");
    put(header, data, "hidden.weight", width + "," + width, head.hiddenWeight());
    put(header, data, "hidden.bias", width + "", head.hiddenBias());
    put(header, data, "out.weight", "2," + width, head.outWeight());
    put(header, data, "out.bias", "2", head.outBias());
    int begin = data.position();
    data.putInt(head.repeats());
    header.append(describe("repeats", "I32", "1", begin, data.position())).append('}');
    header.append(" ".repeat(-header.length() & 7));
    byte[] text = header.toString().getBytes(StandardCharsets.UTF_8);
    ByteBuffer whole =
        ByteBuffer.allocate(8 + text.length + data.position()).order(ByteOrder.LITTLE_ENDIAN);
    whole.putLong(text.length).put(text).put(data.flip());
    Path folder = path.toAbsolutePath().getParent();
    Files.createDirectories(folder);
    Path beside = Files.createTempFile(folder, path.getFileName().toString(), ".part");
    try {
      Files.write(beside, whole.array());
      Files.move(beside, path, StandardCopyOption.REPLACE_EXISTING);
    } finally {
      Files.deleteIfExists(beside);
    }
  }

  private static void put(
      StringBuilder header, ByteBuffer data, String name, String shape, float... values) {
    int begin = data.position();
    for (float value : values) {
      data.putFloat(value);
    }
    header.append(describe(name, "F32", shape, begin, data.position())).append(',');
  }

  private static String describe(String name, String type, String shape, int begin, int end) {
    return String.format("\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%d,%d]}", name,
        type, shape, begin, end);
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
    try (Recorder recorder = new Recorder((drafting == null ? weights : drafting).config().width());
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
      if (recorder.fit.samples() == 0) {
        throw new IllegalArgumentException(
            "no acceptance head can be fitted: of this model nothing was drafted");
      }
      return recorder.fit.solve(Settings.SPECDEC);
    }
  }

  /**
   * Drafts of a fixed length for one sequence, and which of their tokens were right. States are
   * those of the rows that took tokens in, so that the last of a draft is not looked at.
   */
  static final class Recorder implements DraftScore, DraftRule {
    private final int width;
    private final AcceptanceFit fit;
    private final Scope scope = Scope.open();
    private final List<float[]> states = new ArrayList<>(); // of the newest token and its draft
    private NormedStates normed;
    private float[] rows;

    Recorder(int width) {
      this.width = width;
      fit = new AcceptanceFit(width, REPEATS);
    }

    AcceptanceFit fit() {
      return fit;
    }

    @Override
    public void read(Decoder decoder, RowHead found) {
      if (normed == null) {
        normed = new NormedStates(scope, decoder);
      }
      rows = normed.read(decoder).toFloatArray();
    }

    @Override
    public float of(int row) {
      states.add(Arrays.copyOfRange(rows, row * width, (row + 1) * width));
      return Float.NaN;
    }

    @Override
    public int most(int kind) {
      states.clear();
      return DRAFT;
    }

    /** Those behind a wrong token are no matter: a rule wants to know about the first. */
    @Override
    public void learn(int kind, int drafted, int accepted) {
      for (int i = 1; i < drafted && i <= accepted + 1; i++) {
        float[] state = states.get(i);
        if (allFinite(state)) {
          fit.add(state, i <= accepted ? 1 : 0);
        }
      }
    }

    private static boolean allFinite(float... values) {
      for (float value : values) {
        if (!Float.isFinite(value)) {
          return false;
        }
      }
      return true;
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
