// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.onnx.OnnxFile;

/**
 * The weights of a BERT encoder out of an ONNX file, as the ops take them: a row for each output,
 * where the file has a column, and query, key and value in one matrix.
 */
public final class EncoderWeights implements AutoCloseable {
  private static final int ROWS_AT_ONCE = 1 << 9;

  /** A weight [N,D] and its bias [N]. */
  record Dense(Tensor weight, Tensor bias) {}

  /** A LayerNorm. */
  record LayerNorm(Tensor weight, Tensor bias) {}

  /** A layer: its norms stand after its blocks. */
  record Layer(Dense queryKeyValue, Dense output, LayerNorm attentionNorm, Dense up, Dense down,
      LayerNorm feedForwardNorm) {}

  private final Scope scope = Scope.open();
  private final OnnxFile file;
  private final EncoderConfig config;
  private final DType type;
  private final Tensor matrices; // together, so that the system gives them huge pages
  private long used;
  private final Tensor words;
  private final Tensor positions;
  private final LayerNorm embeddingNorm;
  private final List<Layer> layers = new ArrayList<>();

  /**
   * Reads the weights of a file.
   *
   * @param type of the matrices: F32, F16 or BF16; norms, biases and embeddings are F32
   */
  public static EncoderWeights load(Path path, DType type) throws IOException {
    try (OnnxFile file = OnnxFile.open(path)) {
      return new EncoderWeights(file, type);
    }
  }

  private EncoderWeights(OnnxFile file, DType type) throws IOException {
    boolean done = false;
    try {
      this.file = file;
      this.type = type;
      config = EncoderConfig.of(file);
      requireShapes();
      long d = config.width();
      matrices = scope.allocate(
          Device.CPU, type, config.layers() * (4 * d * d + 2 * d * config.feedForward()));
      words = rows(EncoderConfig.WORDS, config.vocabulary());
      positions = rows(EncoderConfig.POSITIONS, config.positions());
      addTextType();
      embeddingNorm = layerNorm("embeddings.LayerNorm");
      for (int layer = 0; layer < config.layers(); layer++) {
        layers.add(layer(layer));
      }
      done = true;
    } finally {
      if (!done) {
        scope.close();
      }
    }
  }

  /** Before memory is asked for: all is in the file, and nothing stands for two. */
  private void requireShapes() throws ModelFormatException {
    int d = config.width();
    int f = config.feedForward();
    Set<String> used = new HashSet<>();
    for (int layer = 0; layer < config.layers(); layer++) {
      for (OnnxFile.Tensor matrix : List.of(matrix(layer, "attention/self/query", d, d),
               matrix(layer, "attention/self/key", d, d),
               matrix(layer, "attention/self/value", d, d),
               matrix(layer, "attention/output/dense", d, d),
               matrix(layer, "intermediate/dense", d, f), matrix(layer, "output/dense", f, d))) {
        if (!used.add(matrix.name())) {
          throw new ModelFormatException(
              file.path(), "two products are by the tensor '" + matrix.name() + "'.");
        }
      }
      String activation =
          file.producer(EncoderConfig.made(layer, "intermediate/intermediate_act_fn/Erf"))
              .operator();
      if (!activation.equals("Erf")) {
        throw new ModelFormatException(
            file.path(), "layer " + layer + " is activated by '" + activation + "', not by Erf.");
      }
    }
  }

  /** The matrix that a node multiplies by: exporters name it by number. */
  private OnnxFile.Tensor matrix(int layer, String block, long inputs, long outputs)
      throws ModelFormatException {
    String product = EncoderConfig.made(layer, block + "/MatMul");
    OnnxFile.Node node = file.producer(product);
    if (!node.operator().equals("MatMul") || node.inputs().size() != 2) {
      throw new ModelFormatException(
          file.path(), "'" + product + "' is made by " + node + ", not by a MatMul of two.");
    }
    return file.require(node.inputs().get(1), OnnxFile.Type.F32, inputs, outputs);
  }

  private Layer layer(int layer) throws IOException {
    int d = config.width();
    int f = config.feedForward();
    Tensor projection = take(3L * d, d);
    Tensor bias = scope.allocate(Device.CPU, DType.F32, 3L * d);
    int part = 0;
    for (String name : List.of("query", "key", "value")) {
      long from = (long) part++ * d;
      transpose(matrix(layer, "attention/self/" + name, d, d), projection.rows(from, from + d));
      read(EncoderConfig.tensor(layer, "attention.self." + name + ".bias"),
          bias.rows(from, from + d));
    }
    return new Layer(new Dense(projection, bias), dense(layer, "attention/output/dense", d, d),
        layerNorm(EncoderConfig.tensor(layer, "attention.output.LayerNorm")),
        dense(layer, "intermediate/dense", d, f), dense(layer, "output/dense", f, d),
        layerNorm(EncoderConfig.tensor(layer, "output.LayerNorm")));
  }

  private Dense dense(int layer, String block, int inputs, int outputs) throws IOException {
    Tensor weight = take(outputs, inputs);
    transpose(matrix(layer, block, inputs, outputs), weight);
    return new Dense(
        weight, vector(EncoderConfig.tensor(layer, block.replace('/', '.') + ".bias"), outputs));
  }

  private Tensor take(long rows, long columns) {
    Tensor piece = matrices.reinterpret(type, used * type.bytes(), rows, columns);
    used += rows * columns;
    return piece;
  }

  private void transpose(OnnxFile.Tensor from, Tensor to) throws IOException {
    int rows = (int) to.size(0);
    int columns = (int) to.size(1);
    float[] values = new float[rows * columns];
    file.read(from, 0, values);
    float[] row = new float[columns];
    for (int r = 0; r < rows; r++) {
      for (int c = 0; c < columns; c++) {
        row[c] = values[c * rows + r];
      }
      to.row(r).copyFrom(row);
    }
  }

  private LayerNorm layerNorm(String name) throws IOException {
    return new LayerNorm(
        vector(name + ".weight", config.width()), vector(name + ".bias", config.width()));
  }

  private Tensor vector(String name, int length) throws IOException {
    Tensor vector = scope.allocate(Device.CPU, DType.F32, length);
    read(name, vector);
    return vector;
  }

  private void read(String name, Tensor into) throws IOException {
    float[] values = new float[(int) into.elements()];
    file.read(file.require(name, OnnxFile.Type.F32, into.size(0)), 0, values);
    into.copyFrom(values);
  }

  private Tensor rows(String name, int count) throws IOException {
    int width = config.width();
    OnnxFile.Tensor from = file.require(name, OnnxFile.Type.F32, count, width);
    Tensor table = scope.allocate(Device.CPU, DType.F32, count, width);
    for (int row = 0; row < count; row += ROWS_AT_ONCE) {
      int end = Math.min(count, row + ROWS_AT_ONCE);
      float[] values = new float[(end - row) * width];
      file.read(from, (long) row * width, values);
      table.rows(row, end).copyFrom(values);
    }
    return table;
  }

  /** All tokens are of the first kind of text, whose embedding goes into that of each position. */
  private void addTextType() throws IOException {
    int width = config.width();
    float[] kind = new float[width];
    file.read(file.require("embeddings.token_type_embeddings.weight", OnnxFile.Type.F32, -1, width),
        0, kind);
    for (int row = 0; row < config.positions(); row++) {
      float[] values = positions.row(row).toFloatArray();
      for (int i = 0; i < width; i++) {
        values[i] += kind[i];
      }
      positions.row(row).copyFrom(values);
    }
  }

  EncoderConfig config() {
    return config;
  }

  /** How many layers there are. */
  public int layerCount() {
    return config.layers();
  }

  /** Elements of a hidden state. */
  public int width() {
    return config.width();
  }

  /** Most tokens of a text. */
  public int positionCount() {
    return config.positions();
  }

  /** [V,D]. */
  Tensor words() {
    return words;
  }

  /** [positions,D]. */
  Tensor positions() {
    return positions;
  }

  LayerNorm embeddingNorm() {
    return embeddingNorm;
  }

  List<Layer> layers() {
    return layers;
  }

  @Override
  public void close() {
    scope.close();
  }
}
