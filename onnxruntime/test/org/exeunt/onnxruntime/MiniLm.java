// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.djl.huggingface.tokenizers.Encoding;
import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

/** all-MiniLM-L6-v2 as langchain4j packs it, and sentences for it. */
final class MiniLm {
  /** Resources of langchain4j's jar. */
  static final String MODEL = "/all-minilm-l6-v2.onnx";
  static final String TOKENIZER = "/all-minilm-l6-v2-tokenizer.json";

  private MiniLm() {}

  static OrtEnvironment environment() {
    return ExeuntProvider.environment();
  }

  static byte[] model() throws IOException {
    try (InputStream in = MiniLm.class.getResourceAsStream(MODEL)) {
      return in.readAllBytes();
    }
  }

  static InputStream tokenizerStream() {
    return MiniLm.class.getResourceAsStream(TOKENIZER);
  }

  static HuggingFaceTokenizer tokenizer() throws IOException {
    try (InputStream in = tokenizerStream()) {
      return HuggingFaceTokenizer.newInstance(in, Map.of("padding", "true"));
    }
  }

  /** Sentences of 4 to 16 words, the same for the same seed. */
  static List<String> sentences(int count, long seed) {
    String[] words = ("the a river kernel model bright slow bank runs over under reads of and with "
        + "garden music network winter engineer writes small answer questions about early exits in "
        + "memory London paper measures seven birds without reason before tomorrow")
                         .split(" ");
    Random random = new Random(seed);
    List<String> sentences = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      StringBuilder text = new StringBuilder();
      for (int n = 4 + random.nextInt(13); n > 0; n--) {
        text.append(text.length() == 0 ? "" : " ").append(words[random.nextInt(words.length)]);
      }
      sentences.add(text.append('.').toString());
    }
    return sentences;
  }

  /** Inputs of a batch, padded to its longest sentence. */
  static long[][][] encode(HuggingFaceTokenizer tokenizer, List<String> batch) {
    Encoding[] encodings = tokenizer.batchEncode(batch);
    long[][][] out = new long[3][encodings.length][];
    for (int i = 0; i < encodings.length; i++) {
      out[0][i] = encodings[i].getIds();
      out[1][i] = encodings[i].getAttentionMask();
      out[2][i] = encodings[i].getTypeIds();
    }
    return out;
  }

  static Map<String, OnnxTensor> tensors(long[][][] batch) throws OrtException {
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    Map<String, OnnxTensor> inputs = new HashMap<>();
    inputs.put("input_ids", OnnxTensor.createTensor(environment, batch[0]));
    inputs.put("attention_mask", OnnxTensor.createTensor(environment, batch[1]));
    inputs.put("token_type_ids", OnnxTensor.createTensor(environment, batch[2]));
    return inputs;
  }

  /** The mean of each sentence's last hidden states, over what is no padding. */
  static float[][] embed(OrtSession session, long[][][] batch) throws OrtException {
    Map<String, OnnxTensor> inputs = tensors(batch);
    try (OrtSession.Result result = session.run(inputs)) {
      float[][][] hidden = (float[][][]) result.get(0).getValue();
      float[][] means = new float[hidden.length][];
      for (int i = 0; i < hidden.length; i++) {
        means[i] = new float[hidden[i][0].length];
        for (int t = 0; t < hidden[i].length; t++) {
          for (int d = 0; batch[1][i][t] != 0 && d < means[i].length; d++) {
            means[i][d] += hidden[i][t][d];
          }
        }
      }
      return means;
    } finally {
      inputs.values().forEach(OnnxTensor::close);
    }
  }

  static double cosine(float[] a, float[] b) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (int i = 0; i < a.length; i++) {
      ab += (double) a[i] * b[i];
      aa += (double) a[i] * a[i];
      bb += (double) b[i] * b[i];
    }
    return ab / Math.sqrt(aa * bb);
  }

  /**
   * The model as converters leave one for a device with bf16: products take and give bf16, between
   * two Casts, and the tables of embeddings are bf16 with a Cast after each look-up. Half the
   * bytes; ONNX Runtime has no such product for a CPU.
   */
  static byte[] inBf16(byte[] model) {
    Message parsed = Message.parse(model);
    Message graph = parsed.message(7);
    List<Message> nodes = graph.messages(1);
    List<Message> initializers = graph.messages(5);
    Set<String> constants = new HashSet<>();
    initializers.forEach(tensor -> constants.add(tensor.text(8)));
    Set<String> narrowed = new HashSet<>();
    graph.without(1).without(5);
    for (Message node : nodes) {
      List<String> inputs = node.texts(1);
      String output = node.text(2);
      boolean product = node.text(4).equals("MatMul") && constants.contains(inputs.get(1));
      boolean table = node.text(4).equals("Gather") && inputs.get(0).endsWith("embeddings.weight");
      if (!product && !table) {
        graph.with(1, node);
        continue;
      }
      narrowed.add(product ? inputs.get(1) : inputs.get(0));
      if (product) {
        graph.with(1, cast(inputs.get(0), output + "_in", Graph.BFLOAT16));
        node.without(1).with(1, output + "_in").with(1, inputs.get(1));
      }
      graph.with(1, node.without(2).with(2, output + "_bf16"));
      graph.with(1, cast(output + "_bf16", output, Graph.FLOAT));
    }
    for (Message tensor : initializers) {
      if (narrowed.contains(tensor.text(8))) {
        tensor = bf16(tensor);
      }
      graph.with(5, tensor);
    }
    // Products of bf16 are of opset 13 and newer; the other ops here have changed little, but
    // Softmax, Unsqueeze and ReduceMean, whose old forms a newer opset does not know.
    return parsed.without(7)
        .with(7, modern(graph))
        .without(8)
        .with(8, new Message().with(1, "").with(2, 13L))
        .toBytes();
  }

  /** The model as a framework exports one that was made bf16 altogether, but for its output. */
  static byte[] allInBf16(byte[] model) {
    Message parsed = Message.parse(model);
    Message graph = parsed.message(7);
    List<Message> nodes = graph.messages(1);
    List<Message> initializers = graph.messages(5);
    graph.without(1).without(5);
    for (Message node : nodes) {
      if (node.texts(2).contains("last_hidden_state")) {
        node.without(2).with(2, "last_bf16");
      }
      List<Message> attributes = node.messages(5);
      node.without(5);
      for (Message attribute : attributes) {
        if (attribute.text(1).equals("value")
            && attribute.message(5).integer(2, 0) == Graph.FLOAT) {
          Message tensor = bf16(attribute.message(5));
          attribute.without(5).with(5, tensor);
        } else if (attribute.text(1).equals("to") && attribute.integer(3, 0) == Graph.FLOAT) {
          attribute.without(3).with(3, (long) Graph.BFLOAT16);
        }
        node.with(5, attribute);
      }
      graph.with(1, node);
    }
    graph.with(1, cast("last_bf16", "last_hidden_state", Graph.FLOAT));
    for (Message tensor : initializers) {
      graph.with(5, tensor.integer(2, 0) == Graph.FLOAT ? bf16(tensor) : tensor);
    }
    return parsed.without(7)
        .with(7, modern(graph))
        .without(8)
        .with(8, new Message().with(1, "").with(2, 15L))
        .toBytes();
  }

  private static Message cast(String from, String to, long type) {
    return Graph.nodeOf("Cast", List.of(Graph.attribute("to", type)), new String[] {from}, to);
  }

  private static Message bf16(Message tensor) {
    ByteBuffer in = ByteBuffer.wrap(tensor.bytes(9)).order(ByteOrder.LITTLE_ENDIAN);
    ByteBuffer out = ByteBuffer.allocate(in.capacity() / 2).order(ByteOrder.LITTLE_ENDIAN);
    while (in.hasRemaining()) {
      float value = in.getFloat();
      // What masks is the lowest number of its type.
      int bits = Float.floatToRawIntBits(Math.max(value, -Float.intBitsToFloat(0x7f7f0000)));
      out.putShort((short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16));
    }
    return tensor.without(2).with(2, (long) Graph.BFLOAT16).without(9).with(9, out.array());
  }

  /** Unsqueeze of opset 11 has its axes as an attribute, of opset 13 as an input. */
  private static Message modern(Message graph) {
    List<Message> nodes = graph.messages(1);
    graph.without(1);
    int names = 0;
    for (Message node : nodes) {
      if (node.text(4).equals("Unsqueeze")) {
        ByteBuffer raw = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
        Message axes = node.message(5);
        raw.putLong(axes.integer(8, 0));
        String name = "axes_" + names++;
        graph.with(5,
            new Message()
                .with(1, 1L)
                .with(2, (long) Graph.INT64)
                .with(8, name)
                .with(9, raw.array()));
        node.without(5).with(1, name);
      }
      graph.with(1, node);
    }
    return graph;
  }
}
