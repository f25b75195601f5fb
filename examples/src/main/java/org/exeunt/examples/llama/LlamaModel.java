// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.gguf.GgufTensor;
import org.exeunt.examples.io.ModelFormatException;
import org.exeunt.examples.linalg.Matrix;

/**
 * A Llama-family decoder in f32, written to be read: one pass over a whole token sequence that
 * keeps the hidden state entering every layer, so that one can ask what each depth would have
 * answered.
 *
 * <p>Weights are dequantised when the model is loaded; products go through BLAS. Immutable after
 * construction.
 */
public final class LlamaModel {
  private final LlamaConfig config;
  private final Matrix embedding;
  private final List<Layer> layers = new ArrayList<>();
  private final float[] outputNorm;

  private record Layer(
      float[] attentionNorm, Matrix query, Matrix key, Matrix value, Matrix output,
      float[] feedForwardNorm, Matrix gate, Matrix up, Matrix down) {}

  /**
   * What a forward pass leaves behind.
   *
   * @param hidden entry l is the residual stream entering layer l, one row per token; the last is
   *     what leaves the last layer, before the final norm
   * @param keys entry l holds layer l's keys after RoPE, one row per token
   * @param values entry l holds layer l's values
   */
  public record Trace(List<Matrix> hidden, List<Matrix> keys, List<Matrix> values) {}

  /** Loads all weights of {@code file}. */
  public LlamaModel(GgufFile file) throws IOException {
    config = LlamaConfig.of(file);
    embedding = matrix(file, "token_embd.weight", config.vocabulary(), config.width());
    outputNorm = vector(file, "output_norm.weight");
    for (int l = 0; l < config.layers(); l++) {
      layers.add(readLayer(file, "blk." + l + "."));
    }
  }

  private Layer readLayer(GgufFile file, String prefix) throws IOException {
    int width = config.width();
    int inner = config.feedForward();
    return new Layer(
        vector(file, prefix + "attn_norm.weight"),
        matrix(file, prefix + "attn_q.weight", width, width),
        matrix(file, prefix + "attn_k.weight", config.kvWidth(), width),
        matrix(file, prefix + "attn_v.weight", config.kvWidth(), width),
        matrix(file, prefix + "attn_output.weight", width, width),
        vector(file, prefix + "ffn_norm.weight"),
        matrix(file, prefix + "ffn_gate.weight", inner, width),
        matrix(file, prefix + "ffn_up.weight", inner, width),
        matrix(file, prefix + "ffn_down.weight", width, inner));
  }

  private static Matrix matrix(GgufFile file, String name, int rows, int columns)
      throws IOException {
    GgufTensor tensor = file.tensor(name, rows, columns);
    Matrix matrix = allocate(file, tensor);
    file.readRows(tensor, matrix::setRow);
    return matrix;
  }

  /**
   * A model may be valid and still too large for this engine; that is not worth the caller's
   * process.
   */
  private static Matrix allocate(GgufFile file, GgufTensor tensor) throws IOException {
    long bytes = tensor.rows() * tensor.columns() * Float.BYTES;
    if (bytes > Integer.MAX_VALUE) {
      throw new ModelFormatException(file.path(), "tensor '" + tensor.name() + "' takes " + bytes
          + " bytes as f32, above the " + Integer.MAX_VALUE + " of this engine.");
    }
    try {
      return new Matrix((int) tensor.rows(), (int) tensor.columns());
    } catch (OutOfMemoryError e) {
      throw new IOException(file.path() + ": tensor '" + tensor.name() + "' takes " + bytes
          + " bytes as f32, more than the JVM may still use outside its heap; "
          + "-XX:MaxDirectMemorySize raises that.", e);
    }
  }

  private float[] vector(GgufFile file, String name) throws IOException {
    float[] vector = new float[config.width()];
    file.readRows(file.tensor(name, 1, vector.length),
        (i, row) -> System.arraycopy(row, 0, vector, 0, vector.length));
    return vector;
  }

  public LlamaConfig config() {
    return config;
  }

  /** The token embedding, which is the language-model head too. */
  public Matrix embedding() {
    return embedding;
  }

  /** The weight of the RMSNorm before the language-model head. */
  public float[] outputNorm() {
    return outputNorm.clone();
  }

  /** Runs {@code ids}, at positions 0, 1, …, through all layers. */
  public Trace forward(int[] ids) {
    if (ids.length > config.context()) {
      throw new IllegalArgumentException(
          ids.length + " tokens exceed the model's context of " + config.context());
    }
    Trace trace = new Trace(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
    Matrix hidden = embed(ids);
    for (Layer layer : layers) {
      trace.hidden().add(hidden.copy());
      Matrix x = rmsNorm(hidden, layer.attentionNorm());
      Matrix keys = rope(x.timesTransposed(layer.key()));
      Matrix values = x.timesTransposed(layer.value());
      Matrix mixed = attention(rope(x.timesTransposed(layer.query())), keys, values);
      hidden.add(mixed.timesTransposed(layer.output()));
      hidden.add(feedForward(rmsNorm(hidden, layer.feedForwardNorm()), layer));
      trace.keys().add(keys);
      trace.values().add(values);
    }
    trace.hidden().add(hidden);
    return trace;
  }

  private Matrix embed(int[] ids) {
    Matrix hidden = new Matrix(ids.length, config.width());
    float[] row = new float[config.width()];
    for (int t = 0; t < ids.length; t++) {
      embedding.getRow(ids[t], row);
      hidden.setRow(t, row);
    }
    return hidden;
  }

  /** Each row divided by its root mean square, then scaled by {@code weight}. */
  private Matrix rmsNorm(Matrix hidden, float[] weight) {
    Matrix normed = new Matrix(hidden.rows(), hidden.columns());
    float[] row = new float[hidden.columns()];
    for (int t = 0; t < hidden.rows(); t++) {
      hidden.getRow(t, row);
      double squares = 0;
      for (float value : row) {
        squares += (double) value * value;
      }
      float scale = (float) (1 / Math.sqrt(squares / row.length + config.epsilon()));
      for (int i = 0; i < row.length; i++) {
        row[i] *= scale * weight[i];
      }
      normed.setRow(t, row);
    }
    return normed;
  }

  /**
   * Rotates each neighbouring pair (2i, 2i + 1) of every head by position · base^(-2i / headWidth).
   */
  private Matrix rope(Matrix heads) {
    int half = config.headWidth() / 2;
    float[] row = new float[heads.columns()];
    double[] frequency = IntStream.range(0, half)
        .mapToDouble(i -> Math.pow(config.ropeBase(), -(double) i / half)).toArray();
    for (int t = 0; t < heads.rows(); t++) {
      heads.getRow(t, row);
      for (int i = 0; i < half; i++) {
        float cos = (float) Math.cos(t * frequency[i]);
        float sin = (float) Math.sin(t * frequency[i]);
        for (int at = 2 * i; at < row.length; at += config.headWidth()) {
          float even = row[at];
          float odd = row[at + 1];
          row[at] = even * cos - odd * sin;
          row[at + 1] = even * sin + odd * cos;
        }
      }
      heads.setRow(t, row);
    }
    return heads;
  }

  /** Causal attention; query head h reads key head h · kvHeads / heads. */
  private Matrix attention(Matrix queries, Matrix keys, Matrix values) {
    int width = config.headWidth();
    float scale = (float) (1 / Math.sqrt(width));
    Matrix mixed = new Matrix(queries.rows(), queries.columns());
    Matrix scores = new Matrix(queries.rows(), keys.rows());
    for (int head = 0; head < config.heads(); head++) {
      int kvHead = head * config.kvHeads() / config.heads();
      queries.columns(head * width, width)
          .timesTransposed(keys.columns(kvHead * width, width), scale, scores);
      causalSoftmax(scores);
      scores.times(values.columns(kvHead * width, width), mixed.columns(head * width, width));
    }
    return mixed;
  }

  private static void causalSoftmax(Matrix scores) {
    IntStream.range(0, scores.rows()).parallel().forEach(t -> {
      float[] row = new float[scores.columns()];
      scores.getRow(t, row);
      float max = Float.NEGATIVE_INFINITY;
      for (int i = 0; i <= t; i++) {
        max = Math.max(max, row[i]);
      }
      double sum = 0;
      for (int i = 0; i <= t; i++) {
        row[i] = (float) Math.exp(row[i] - max);
        sum += row[i];
      }
      for (int i = 0; i <= t; i++) {
        row[i] /= (float) sum;
      }
      Arrays.fill(row, t + 1, row.length, 0);
      scores.setRow(t, row);
    });
  }

  /** SwiGLU: down(silu(gate x) · up x). */
  private static Matrix feedForward(Matrix x, Layer layer) {
    Matrix gate = x.timesTransposed(layer.gate());
    Matrix up = x.timesTransposed(layer.up());
    IntStream.range(0, x.rows()).parallel().forEach(t -> {
      float[] gates = new float[gate.columns()];
      float[] ups = new float[gate.columns()];
      gate.getRow(t, gates);
      up.getRow(t, ups);
      for (int i = 0; i < gates.length; i++) {
        gates[i] *= ups[i] / (float) (1 + Math.exp(-gates[i]));
      }
      gate.setRow(t, gates);
    });
    return gate.timesTransposed(layer.down());
  }
}
