// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.onnx;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;

/** A small ONNX file in the making. */
public final class OnnxBuilder {
  private final ByteArrayOutputStream graph = new ByteArrayOutputStream();

  /** Everything F32 that was put in, by name. */
  public final Map<String, float[]> values = new LinkedHashMap<>();

  static byte[] varint(long value) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    long rest = value;
    while ((rest & ~0x7fL) != 0) {
      bytes.write((int) (rest & 0x7f | 0x80));
      rest >>>= 7;
    }
    bytes.write((int) rest);
    return bytes.toByteArray();
  }

  /** A field that holds a whole number. */
  static byte[] number(int field, long value) {
    return join(varint((long) field << 3), varint(value));
  }

  /** A field that holds bytes. */
  static byte[] bytes(int field, byte[] content) {
    return join(varint((long) field << 3 | 2), varint(content.length), content);
  }

  static byte[] text(int field, String content) {
    return bytes(field, content.getBytes(StandardCharsets.UTF_8));
  }

  static byte[] join(byte[]... parts) {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      all.writeBytes(part);
    }
    return all.toByteArray();
  }

  private static byte[] tensor(String name, long[] shape, long type, byte[] raw) {
    ByteArrayOutputStream extents = new ByteArrayOutputStream();
    for (long extent : shape) {
      extents.writeBytes(varint(extent));
    }
    return join(bytes(1, extents.toByteArray()), number(2, type), text(8, name), bytes(9, raw));
  }

  /** An initialiser. */
  public OnnxBuilder floats(String name, float[] content, long... shape) {
    ByteBuffer raw =
        ByteBuffer.allocate(content.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    raw.asFloatBuffer().put(content);
    graph.writeBytes(bytes(5, tensor(name, shape, 1, raw.array())));
    values.put(name, content);
    return this;
  }

  /** A node. */
  public OnnxBuilder node(String operator, String output, String... inputs) {
    ByteArrayOutputStream node = new ByteArrayOutputStream();
    for (String input : inputs) {
      node.writeBytes(text(1, input));
    }
    node.writeBytes(text(2, output));
    node.writeBytes(text(4, operator));
    graph.writeBytes(bytes(1, node.toByteArray()));
    return this;
  }

  private OnnxBuilder constant(String output, byte[] tensor) {
    graph.writeBytes(
        bytes(1, join(text(2, output), text(4, "Constant"), bytes(5, bytes(5, tensor)))));
    return this;
  }

  /** A file with this graph. */
  public byte[] toBytes() {
    return join(number(1, 6), text(2, "test"), bytes(7, graph.toByteArray()));
  }

  /** A BERT encoder of random weights; what a PyTorch export calls them. */
  public static OnnxBuilder bert(
      int layers, int width, int heads, int feedForward, int vocabulary, int positions) {
    Random random = new Random(7);
    OnnxBuilder file = new OnnxBuilder();
    file.random(random, "embeddings.word_embeddings.weight", 1, vocabulary, width);
    file.random(random, "embeddings.position_embeddings.weight", 1, positions, width);
    file.random(random, "embeddings.token_type_embeddings.weight", 1, 2, width);
    file.norm(random, "embeddings.LayerNorm", width);
    ByteBuffer epsilon = ByteBuffer.allocate(Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    file.constant("/embeddings/LayerNorm/Constant_1_output_0",
        tensor("", new long[0], 1, epsilon.putFloat(1e-12f).array()));
    for (int l = 0; l < layers; l++) {
      String layer = "encoder.layer." + l + ".";
      for (String part : new String[] {"query", "key", "value"}) {
        file.dense(random, layer, "attention/self/" + part, width, width);
      }
      file.dense(random, layer, "attention/output/dense", width, width);
      file.norm(random, layer + "attention.output.LayerNorm", width);
      file.dense(random, layer, "intermediate/dense", width, feedForward);
      file.dense(random, layer, "output/dense", feedForward, width);
      file.norm(random, layer + "output.LayerNorm", width);
      String made = "/encoder/layer." + l + "/";
      ByteBuffer count = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
      file.constant(made + "attention/self/Constant_2_output_0",
          tensor("", new long[] {1}, 7, count.putLong(heads).array()));
      file.node("Erf", made + "intermediate/intermediate_act_fn/Erf_output_0", "x");
    }
    return file;
  }

  private void dense(Random random, String layer, String block, int inputs, int outputs) {
    String name = layer + block.replace('/', '.');
    String weight = "onnx::MatMul_" + values.size();
    random(random, weight, 1.5 / Math.sqrt(inputs), inputs, outputs);
    random(random, name + ".bias", .5, outputs);
    node("MatMul",
        "/" + layer.replace("encoder.", "encoder/").replaceFirst("[.]$", "/") + block
            + "/MatMul_output_0",
        "x", weight);
  }

  private void norm(Random random, String name, int width) {
    random(random, name + ".weight", 1, width);
    random(random, name + ".bias", .5, width);
  }

  private void random(Random random, String name, double scale, long... shape) {
    int count = 1;
    for (long extent : shape) {
      count *= (int) extent;
    }
    float[] content = new float[count];
    for (int i = 0; i < count; i++) {
      content[i] = (float) (scale * random.nextGaussian());
    }
    floats(name, content, shape);
  }
}
