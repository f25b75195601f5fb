// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.exeunt.TranslatorFit;
import org.exeunt.TranslatorFit.Translator;
import org.exeunt.engine.decode.OwnText;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.exeunt.engine.model.io.SafetensorsWriter;
import org.exeunt.engine.model.text.Tokenizer;

/**
 * Maps that carry states after some of the first layers towards what the last layer makes of them,
 * so that the head understands them: fitted once to a text and to what the model writes, and kept in
 * a safetensors file, as {@code depth.N.weight} [D,D] and {@code depth.N.bias} [D] for N layers.
 * Both sides of the map are states divided by their root mean square.
 */
final class Translators {
  private static final int STATES_PER_COLUMN = 4;
  private static final double PENALTY = 1e-3;

  private Translators() {}

  /**
   * Reads translators for some depths; those that the file lacks are made, and added to it.
   *
   * @param text to begin with
   * @param log where it is said that some are made; null: nowhere
   */
  static Map<Integer, Translator> readOrMake(Path file, LlamaWeights weights, Tokenizer tokenizer,
      String text, PrintStream log, int... depths) throws IOException {
    int width = weights.config().width();
    Map<Integer, Translator> known = Files.exists(file) ? read(file, width) : new TreeMap<>();
    int[] missing = Arrays.stream(depths).filter(depth -> !known.containsKey(depth)).toArray();
    if (missing.length > 0) {
      if (log != null) {
        log.println("making " + file + ": translators are fitted to what this model writes, after "
            + Arrays.toString(missing) + " layers");
      }
      known.putAll(fit(weights, missing, tokenizer.encodePrompt(text)));
      write(file, known);
    }
    return known;
  }

  static Map<Integer, Translator> read(Path path, int width) throws IOException {
    Map<Integer, Translator> found = new TreeMap<>();
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      for (String name : file.tensors().keySet()) {
        if (name.matches("depth\\.[0-9]{1,6}\\.weight")) {
          String front = name.substring(0, name.lastIndexOf('.'));
          found.put(Integer.parseInt(front.substring(6)),
              new Translator(AcceptanceHead.floats(file, name, width, width),
                  AcceptanceHead.floats(file, front + ".bias", width)));
        }
      }
    }
    if (found.isEmpty()) {
      throw new ModelFormatException(path, "has no tensor 'depth.N.weight'.");
    }
    return found;
  }

  static void write(Path path, Map<Integer, Translator> translators) throws IOException {
    SafetensorsWriter file = new SafetensorsWriter();
    translators.forEach((depth, translator) -> {
      int width = translator.bias().length;
      file.add("depth." + depth + ".weight", translator.weight(), width, width)
          .add("depth." + depth + ".bias", translator.bias(), width);
    });
    file.write(path);
  }

  private static Map<Integer, Translator> fit(LlamaWeights weights, int[] depths, int... text) {
    LlamaConfig config = weights.config();
    int width = config.width();
    int states = STATES_PER_COLUMN * width;
    TranslatorFit[] fits = new TranslatorFit[depths.length];
    float[][] before = new float[depths.length][];
    Arrays.setAll(fits, i -> new TranslatorFit(width));
    LayerObserver learn = (depth, rows) -> {
      for (int i = 0; i < depths.length; i++) {
        before[i] = depths[i] == depth ? rows.hidden().toFloatArray() : before[i];
      }
      if (depth == config.layers()) {
        float[] after = rows.hidden().toFloatArray();
        IntStream.range(0, depths.length).parallel().forEach(i -> {
          for (int row = 0; row < rows.count(); row++) {
            float[] from = unit(before[i], row, width, config.epsilon());
            float[] to = unit(after, row, width, config.epsilon());
            if (from != null && to != null) {
              fits[i].add(from, to);
            }
          }
        });
      }
    };
    OwnText.run(weights, states, learn, () -> fits[0].samples() < states, text);
    if (fits[0].samples() == 0) {
      throw new IllegalArgumentException(
          "no translator can be fitted: this model's states are not finite");
    }
    Translator[] solved = new Translator[depths.length];
    IntStream.range(0, depths.length).parallel().forEach(i -> solved[i] = fits[i].solve(PENALTY));
    Map<Integer, Translator> found = new TreeMap<>();
    for (int i = 0; i < depths.length; i++) {
      found.put(depths[i], solved[i]);
    }
    return found;
  }

  /** A row divided by its root mean square; null if that is no number. */
  private static float[] unit(float[] rows, int row, int width, float epsilon) {
    double square = 0;
    for (int i = 0; i < width; i++) {
      square += (double) rows[row * width + i] * rows[row * width + i];
    }
    double scale = 1 / Math.sqrt(square / width + epsilon);
    if (!(scale > 0)) {
      return null;
    }
    float[] result = new float[width];
    for (int i = 0; i < width; i++) {
      result[i] = (float) (rows[row * width + i] * scale);
    }
    return result;
  }
}
