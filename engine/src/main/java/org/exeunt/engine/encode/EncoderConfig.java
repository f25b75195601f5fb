// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.io.IOException;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.onnx.OnnxFile;

/**
 * Sizes of a BERT encoder, as a graph that PyTorch has exported tells them.
 *
 * @param layers how many
 * @param width D
 * @param heads H, which divides D
 * @param feedForward F
 * @param vocabulary rows of the embedding
 * @param positions most tokens of a text
 * @param epsilon of every LayerNorm
 */
record EncoderConfig(int layers, int width, int heads, int feedForward, int vocabulary,
    int positions, float epsilon) {
  static final String WORDS = "embeddings.word_embeddings.weight";
  static final String POSITIONS = "embeddings.position_embeddings.weight";

  private static final String LAST = "output.LayerNorm.bias";
  private static final int MOST_LAYERS = 1 << 10;
  private static final int WIDEST = 1 << 16;
  private static final int MOST_IDS = 1 << 22;

  static EncoderConfig of(OnnxFile file) throws IOException {
    OnnxFile.Tensor words = file.require(WORDS, OnnxFile.Type.F32, -1, -1);
    int vocabulary = size(file, words, 0, MOST_IDS);
    int width = size(file, words, 1, WIDEST);
    int positions = size(file, file.require(POSITIONS, OnnxFile.Type.F32, -1, width), 0, WIDEST);
    int layers = 0;
    while (layers < MOST_LAYERS && file.tensors().containsKey(tensor(layers, LAST))) {
      layers++;
    }
    OnnxFile.Tensor up = file.require(tensor(0, "intermediate.dense.bias"), OnnxFile.Type.F32, -1);
    int feedForward = size(file, up, 0, WIDEST);
    long heads =
        file.readNumber(file.require(made(0, "attention/self/Constant_2"), OnnxFile.Type.I64, 1));
    if (heads < 1 || heads > width || width % heads != 0) {
      throw new ModelFormatException(file.path(),
          "there are " + heads + " heads, which do not divide a width of " + width + ".");
    }
    return new EncoderConfig(
        layers, width, (int) heads, feedForward, vocabulary, positions, epsilon(file));
  }

  /** What a layer's weight is called. */
  static String tensor(int layer, String name) {
    return "encoder.layer." + layer + "." + name;
  }

  /** What is called that a node of a layer makes. */
  static String made(int layer, String node) {
    return "/encoder/layer." + layer + "/" + node + "_output_0";
  }

  private static int size(OnnxFile file, OnnxFile.Tensor tensor, int dimension, int most)
      throws ModelFormatException {
    long size = tensor.shape().get(dimension);
    if (size < 1 || size > most) {
      throw new ModelFormatException(file.path(),
          "tensor '" + tensor.name() + "' has shape " + tensor.shape() + ", whose dimension "
              + dimension + " is not 1 to " + most + ".");
    }
    return (int) size;
  }

  private static float epsilon(OnnxFile file) throws IOException {
    OnnxFile.Tensor tensor =
        file.require("/embeddings/LayerNorm/Constant_1_output_0", OnnxFile.Type.F32);
    float[] epsilon = new float[1];
    file.read(tensor, 0, epsilon);
    if (!(epsilon[0] >= 0 && epsilon[0] < 1)) {
      throw new ModelFormatException(
          file.path(), "tensor '" + tensor.name() + "' is " + epsilon[0] + ", not 0 to 1.");
    }
    return epsilon[0];
  }

  int headWidth() {
    return width / heads;
  }
}
