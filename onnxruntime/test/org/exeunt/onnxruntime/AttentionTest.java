// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** GroupQueryAttention beside ONNX Runtime, and which of it is left. */
class AttentionTest extends GraphTestBase {
  /** A layer of GroupQueryAttention, its inputs rounded to a type first. */
  private final class GroupQuery {
    final int heads;
    final int kvHeads;
    final int dim;
    final boolean packed;
    private final List<Message> attributes;
    private final float[] cosines;
    private final float[] sines;
    private final List<String> optional = new ArrayList<>();

    GroupQuery(int heads, int kvHeads, int dim, boolean packed, Message... more) {
      this.heads = heads;
      this.kvHeads = kvHeads;
      this.dim = dim;
      this.packed = packed;
      attributes = new ArrayList<>(List.of(more));
      attributes.add(attribute("num_heads", heads));
      attributes.add(attribute("kv_num_heads", kvHeads));
      int positions = 64;
      cosines = new float[positions * dim / 2];
      sines = new float[positions * dim / 2];
      for (int i = 0; i < cosines.length; i++) {
        double angle = i / (dim / 2) * Math.pow(100, -2.0 * (i % (dim / 2)) / dim);
        cosines[i] = (float) Math.cos(angle);
        sines[i] = (float) Math.sin(angle);
      }
    }

    /** What comes after the tables: position_ids, attention_bias, head_sink. */
    GroupQuery with(String... names) {
      optional.addAll(List.of(names));
      return this;
    }

    byte[] model(int type) {
      Graph graph = new Graph();
      long row = (long) heads * dim;
      long keys = (long) kvHeads * dim;
      long[] cache = {-1, kvHeads, -1, dim};
      graph.input("query", Graph.FLOAT, -1, -1, packed ? row + 2 * keys : row);
      List<String> inputs = new ArrayList<>(List.of("query", "", ""));
      if (!packed) {
        graph.input("key", Graph.FLOAT, -1, -1, keys).input("value", Graph.FLOAT, -1, -1, keys);
        inputs = new ArrayList<>(List.of("query", "key", "value"));
      }
      graph.input("past_key", Graph.FLOAT, cache).input("past_value", Graph.FLOAT, cache);
      graph.input("lengths", Graph.INT32, -1).input("total", Graph.INT32);
      graph.output("y", Graph.FLOAT, -1, -1, row);
      graph.output("present_key", Graph.FLOAT, cache).output("present_value", Graph.FLOAT, cache);
      inputs.addAll(List.of("past_key", "past_value", "lengths", "total"));
      String[] outputs = {"y", "present_key", "present_value"};
      String cos = graph.floats(cosines, cosines.length / (dim / 2), dim / 2);
      String sin = graph.floats(sines, sines.length / (dim / 2), dim / 2);
      if (type != Graph.FLOAT) {
        for (int i = 0; i < 5; i++) {
          if (!inputs.get(i).isEmpty()) {
            inputs.set(i, cast(graph, type, inputs.get(i)));
          }
        }
        cos = graph.halves(narrow(cosines, type), type, cosines.length / (dim / 2), dim / 2);
        sin = graph.halves(narrow(sines, type), type, sines.length / (dim / 2), dim / 2);
      }
      inputs.addAll(List.of(cos, sin));
      for (String name : optional) {
        inputs.add(name);
        switch (name) {
          case "positions" -> graph.input(name, Graph.INT64, -1, -1);
          case "bias" -> graph.input(name, Graph.FLOAT, 1, 1, -1, -1);
          case "sink" -> graph.input(name, Graph.FLOAT, heads);
          default -> {
          }
        }
      }
      String[] results =
          type == Graph.FLOAT ? outputs : new String[] {"y_", "present_key_", "present_value_"};
      graph.node(
          "com.microsoft:GroupQueryAttention", attributes, inputs.toArray(new String[0]), results);
      for (int i = 0; i < 3 && type != Graph.FLOAT; i++) {
        graph.node(
            "Cast", List.of(attribute("to", Graph.FLOAT)), new String[] {results[i]}, outputs[i]);
      }
      return graph.model(17);
    }

    /** New rows of each sequence, slots before them, and how many tokens a sequence has then. */
    Map<String, OnnxTensor> inputs(int rows, int past, int total, int... lengths)
        throws OrtException {
      Map<String, OnnxTensor> inputs = new HashMap<>();
      long batch = lengths.length;
      long keys = (long) kvHeads * dim;
      long row = (long) heads * dim;
      inputs.put("query", tensor(batch, rows, packed ? row + 2 * keys : row));
      if (!packed) {
        inputs.put("key", tensor(batch, rows, keys));
        inputs.put("value", tensor(batch, rows, keys));
      }
      inputs.put("past_key", tensor(batch, kvHeads, past, dim));
      inputs.put("past_value", tensor(batch, kvHeads, past, dim));
      int[] last = new int[lengths.length];
      for (int i = 0; i < last.length; i++) {
        last[i] = lengths[i] - 1;
      }
      inputs.put("lengths",
          OnnxTensor.createTensor(ENVIRONMENT, IntBuffer.wrap(last), new long[] {batch}));
      inputs.put("total",
          OnnxTensor.createTensor(ENVIRONMENT, IntBuffer.wrap(new int[] {total}), new long[0]));
      return inputs;
    }
  }

  private static short[] narrow(float[] values, int type) {
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      int word = Float.floatToRawIntBits(values[i]);
      // Of f16 cut off at its 10 bits, and 0 below its smallest normal number.
      int half = Math.abs(values[i]) < 6.2e-5f
          ? 0
          : word >>> 16 & 0x8000 | (word & 0x7fffffff) - (112 << 23) >>> 13;
      bits[i] = (short) (type == Graph.FLOAT16 ? half : word >>> 16);
    }
    return bits;
  }

  @Test
  void groupQueryAttention() throws Exception {
    Message rotary = attribute("do_rotary", 1);
    for (GroupQuery layer :
        List.of(new GroupQuery(4, 2, 32, false), new GroupQuery(6, 2, 48, false, rotary),
            new GroupQuery(3, 1, 16, true, rotary, attribute("rotary_interleaved", 1)),
            new GroupQuery(2, 2, 80, true, attribute("softcap", 2f), attribute("scale", 0.3f)))) {
      for (int type : new int[] {Graph.FLOAT, Graph.FLOAT16, Graph.BFLOAT16}) {
        byte[] model = layer.model(type);
        List<Map<String, OnnxTensor>> runs = List.of(layer.inputs(7, 0, 7, 7, 7), // prompts
            layer.inputs(1, 0, 1, 1), // the first token of all
            layer.inputs(1, 9, 10, 10), // a step whose past is full
            layer.inputs(1, 20, 14, 3, 14, 9), // steps within a larger buffer
            layer.inputs(5, 11, 16, 16)); // a prompt after another
        for (Map<String, OnnxTensor> inputs : runs) {
          // ONNX Runtime's for f32 stands in for bf16, for which it has none.
          byte[] reference = type == Graph.BFLOAT16 ? layer.model(Graph.FLOAT) : model;
          float tolerance = type == Graph.FLOAT ? 1e-5f : type == Graph.FLOAT16 ? 6e-3f : 6e-2f;
          String line = check(model, inputs, run(reference, null, inputs), tolerance);
          assertTrue(line.contains(": attention of " + layer.heads + " heads, " + layer.kvHeads
                         + " of keys and values"),
              line);
          inputs.values().forEach(OnnxTensor::close);
        }
      }
    }
  }

  /** Work for two threads: heads of one sequence, an odd number of them, and whole sequences. */
  @Test
  void groupQueryAttentionOfTwoThreads() throws Exception {
    Message rotary = attribute("do_rotary", 1);
    for (GroupQuery layer :
        List.of(new GroupQuery(6, 3, 32, false, rotary), new GroupQuery(6, 3, 32, true))) {
      byte[] model = layer.model(Graph.FLOAT);
      for (Map<String, OnnxTensor> inputs :
          List.of(layer.inputs(40, 0, 40, 40), layer.inputs(40, 0, 40, 40, 40, 40),
              layer.inputs(30, 20, 50, 50), layer.inputs(20, 60, 50, 50))) {
        String line = check(model, inputs, 1e-5f);
        assertTrue(line.contains(": attention of 6 heads"), line);
        inputs.values().forEach(OnnxTensor::close);
      }
    }
  }

  /** Fewer sequences than threads, so that each is two pieces of work. */
  @Test
  void groupQueryAttentionOfFourThreads() throws Exception {
    GroupQuery layer = new GroupQuery(6, 3, 32, false);
    byte[] model = layer.model(Graph.FLOAT);
    Map<String, OnnxTensor> inputs = layer.inputs(40, 0, 40, 40, 40);
    List<float[]> expected = run(model, null, inputs);
    List<float[]> actual = run(model, everything().threads(4), inputs);
    for (int i = 0; i < expected.size(); i++) {
      assertArrayEquals(expected.get(i), actual.get(i), 1e-5f, "output " + i);
    }
    inputs.values().forEach(OnnxTensor::close);
  }

  /** No sequences, and no new rows: ONNX Runtime refuses both. */
  @Test
  void groupQueryAttentionOfNothing() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1));
    byte[] model = layer.model(Graph.FLOAT);
    Map<String, OnnxTensor> none = layer.inputs(3, 5, 8);
    Map<String, OnnxTensor> past = layer.inputs(0, 5, 5, 5);
    for (float[] output : run(model, everything(), none)) {
      assertEquals(0, output.length);
    }
    List<float[]> outputs = run(model, everything(), past);
    float[] keys = new float[5 * layer.kvHeads * layer.dim];
    past.get("past_key").getFloatBuffer().get(keys);
    assertEquals(0, outputs.get(0).length);
    assertArrayEquals(keys, outputs.get(1));
    none.values().forEach(OnnxTensor::close);
    past.values().forEach(OnnxTensor::close);
  }

  /** Of sequences that are shorter than the others of a first prompt, what is no padding. */
  @Test
  void groupQueryAttentionOfPaddedPrompts() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1));
    int rows = 7;
    int[] lengths = {3, 7, 1};
    Map<String, OnnxTensor> inputs = layer.inputs(rows, 0, rows, lengths);
    byte[] model = layer.model(Graph.FLOAT);
    List<float[]> expected = run(model, null, inputs);
    List<float[]> actual = run(model, everything(), inputs);
    for (int b = 0; b < lengths.length; b++) {
      int row = layer.heads * layer.dim;
      for (int i = b * rows * row; i < (b * rows + lengths[b]) * row; i++) {
        assertEquals(expected.get(0)[i], actual.get(0)[i], 1e-5f, "sequence " + b);
      }
      for (int head = b * layer.kvHeads; head < (b + 1) * layer.kvHeads; head++) {
        for (int i = head * rows * layer.dim; i < (head * rows + lengths[b]) * layer.dim; i++) {
          assertEquals(expected.get(1)[i], actual.get(1)[i], 1e-5f, "keys of sequence " + b);
          assertEquals(expected.get(2)[i], actual.get(2)[i], 1e-5f, "values of sequence " + b);
        }
      }
    }
    inputs.values().forEach(OnnxTensor::close);
  }

  @Test
  void groupQueryAttentionAtGivenPositions() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1)).with("positions");
    for (long first : new long[] {0, 5, 31}) {
      // In a first prompt ONNX Runtime counts on from the first position.
      Map<String, OnnxTensor> inputs = layer.inputs(3, 4, 7, 7);
      long[] positions = {first + 2, first, first + 7};
      inputs.put("positions",
          OnnxTensor.createTensor(ENVIRONMENT, LongBuffer.wrap(positions), new long[] {1, 3}));
      String line = check(layer.model(Graph.FLOAT), inputs, 1e-5f);
      assertTrue(line.endsWith(", rotary"), line);
      inputs.values().forEach(OnnxTensor::close);
    }
    for (long position : new long[] {64, -1}) {
      Map<String, OnnxTensor> beyond = layer.inputs(1, 3, 4, 4);
      beyond.put("positions",
          OnnxTensor.createTensor(
              ENVIRONMENT, LongBuffer.wrap(new long[] {position}), new long[] {1, 1}));
      OrtException failure = assertThrows(
          OrtException.class, () -> run(layer.model(Graph.FLOAT), everything(), beyond));
      assertTrue(
          failure.getMessage().contains("a row is at position " + position + ", cos_cache has 64"),
          failure.getMessage());
      beyond.values().forEach(OnnxTensor::close);
    }
  }

  /** Past and present in one buffer, over several steps. */
  @Test
  void groupQueryAttentionInPlace() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1));
    byte[] model = layer.model(Graph.FLOAT);
    int slots = 12;
    int count = layer.kvHeads * slots * layer.dim;
    long[] shape = {1, layer.kvHeads, slots, layer.dim};
    List<OnnxTensor> caches = new ArrayList<>();
    List<FloatBuffer> buffers = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      FloatBuffer buffer =
          ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer();
      buffers.add(buffer);
      caches.add(OnnxTensor.createTensor(ENVIRONMENT, buffer, shape));
    }
    try (OrtSession.SessionOptions alone = new OrtSession.SessionOptions();
        OrtSession.SessionOptions with = new OrtSession.SessionOptions()) {
      ExeuntProvider.configure().threads(2).add(with);
      try (OrtSession expected = ENVIRONMENT.createSession(model, alone);
          OrtSession actual = ENVIRONMENT.createSession(model, with)) {
        for (int step = 0; step < slots; step++) {
          Map<String, OnnxTensor> inputs = layer.inputs(1, slots, step + 1, step + 1);
          List<float[]> outputs = new ArrayList<>();
          for (int side = 0; side < 2; side++) {
            inputs.put("past_key", caches.get(2 * side));
            inputs.put("past_value", caches.get(2 * side + 1));
            Map<String, OnnxTensor> pinned = Map.of(
                "present_key", caches.get(2 * side), "present_value", caches.get(2 * side + 1));
            try (OrtSession.Result result =
                     (side == 0 ? expected : actual).run(inputs, Set.of("y"), pinned)) {
              float[] y = new float[layer.heads * layer.dim];
              ((OnnxTensor) result.get("y").get()).getFloatBuffer().get(y);
              outputs.add(y);
            }
          }
          assertArrayEquals(outputs.get(0), outputs.get(1), 1e-5f, "step " + step);
          for (int i = 0; i < 2; i++) {
            for (int j = 0; j < count; j++) {
              assertEquals(buffers.get(i).get(j), buffers.get(i + 2).get(j), 1e-5f);
            }
          }
        }
      }
    }
  }

  /** Of past and present the keys alone in one buffer, and a buffer that grows where it is. */
  @Test
  void groupQueryAttentionHalfInPlace() throws Exception {
    GroupQuery layer = new GroupQuery(4, 2, 32, false);
    int slots = 12;
    int row = layer.kvHeads * layer.dim;
    ByteBuffer bytes =
        ByteBuffer.allocateDirect(4 * (slots + 1) * row).order(ByteOrder.nativeOrder());
    FloatBuffer all = bytes.asFloatBuffer();
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      everything().add(options);
      try (OrtSession session = ENVIRONMENT.createSession(layer.model(Graph.FLOAT), options)) {
        for (int total : new int[] {slots, slots + 1}) {
          Map<String, OnnxTensor> inputs = layer.inputs(1, slots, total, total);
          List<float[]> expected = run(layer.model(Graph.FLOAT), null, inputs);
          float[] keys = new float[slots * row];
          inputs.get("past_key").getFloatBuffer().get(keys);
          all.duplicate().put(keys);
          OnnxTensor past = OnnxTensor.createTensor(ENVIRONMENT,
              all.duplicate().limit(slots * row).slice(),
              new long[] {1, layer.kvHeads, slots, layer.dim});
          OnnxTensor present = OnnxTensor.createTensor(ENVIRONMENT,
              all.duplicate().limit(total * row).slice(),
              new long[] {1, layer.kvHeads, total, layer.dim});
          inputs.put("past_key", past);
          if (total > slots) {
            OrtException failure = assertThrows(OrtException.class,
                () -> session.run(inputs, Set.of(), Map.of("present_key", present)));
            assertTrue(
                failure.getMessage().contains(
                    "past and present are one buffer of 12 slots, total_sequence_length is 13"),
                failure.getMessage());
          } else {
            try (OrtSession.Result result = session.run(
                     inputs, Set.of("y", "present_value"), Map.of("present_key", present))) {
              for (int i = 0; i < 3; i += 2) {
                OnnxTensor one = (OnnxTensor) result.get(i == 0 ? "y" : "present_value").get();
                float[] actual = new float[expected.get(i).length];
                one.getFloatBuffer().get(actual);
                assertArrayEquals(expected.get(i), actual, 1e-5f, "output " + i);
              }
            }
          }
          present.close();
          inputs.values().forEach(OnnxTensor::close);
        }
      }
    }
  }

  @Test
  void groupQueryAttentionThatIsLeft() throws Exception {
    Map<Message, String> reasons = Map.of(attribute("local_window_size", 4),
        "it sees a window (local_window_size) and not all that came before",
        attribute("smooth_softmax", 1), "its softmax has a sink (smooth_softmax or head_sink)");
    for (Map.Entry<Message, String> reason : reasons.entrySet()) {
      GroupQuery layer = new GroupQuery(4, 2, 32, false, reason.getKey());
      assertEquals("left GroupQueryAttention node_y: " + reason.getValue(),
          check(layer.model(Graph.FLOAT), layer.inputs(1, 9, 10, 10), 1e-5f));
    }
    for (String input : List.of("bias", "sink")) {
      GroupQuery layer = new GroupQuery(4, 2, 32, false);
      layer = input.equals("bias") ? layer.with("", "bias") : layer.with("", "", "sink");
      Map<String, OnnxTensor> inputs = layer.inputs(1, 9, 10, 10);
      inputs.put(input, input.equals("bias") ? tensor(1, 1, 1, 10) : tensor(4));
      assertEquals("left GroupQueryAttention node_y: "
              + (input.equals("bias") ? "it has an attention_bias"
                                      : "its softmax has a sink (smooth_softmax or head_sink)"),
          check(layer.model(Graph.FLOAT), inputs, 1e-5f));
      inputs.values().forEach(OnnxTensor::close);
    }
    // What no run can mean: more tokens than slots, and more before the new ones than there were.
    GroupQuery layer = new GroupQuery(4, 2, 32, false);
    for (int[] sizes : new int[][] {{1, 9, 10}, {3, 5, 12}}) {
      OrtException failure = assertThrows(OrtException.class,
          ()
              -> run(layer.model(Graph.FLOAT), everything(),
                  layer.inputs(sizes[0], sizes[1], sizes[2], 12)));
      assertTrue(failure.getMessage().contains("seqlens_k[0] is 11"), failure.getMessage());
    }
    GroupQuery placed =
        new GroupQuery(4, 2, 32, false, attribute("do_rotary", 1)).with("positions");
    Map<String, OnnxTensor> inputs = placed.inputs(3, 4, 7, 7);
    inputs.put("positions",
        OnnxTensor.createTensor(ENVIRONMENT, LongBuffer.wrap(new long[2]), new long[] {1, 2}));
    OrtException failure = assertThrows(
        OrtException.class, () -> run(placed.model(Graph.FLOAT), everything(), inputs));
    assertTrue(failure.getMessage().contains("position_ids is [1,2], expected i64 of [1,3]"),
        failure.getMessage());
    inputs.values().forEach(OnnxTensor::close);
  }

  /** A query of which only a run tells how many axes it has. */
  @Test
  void groupQueryAttentionOfOtherRanks() throws Exception {
    Graph graph =
        new Graph()
            .input("x", Graph.FLOAT, -1)
            .input("to", Graph.INT64, -1)
            .input("pk", Graph.FLOAT, -1, 2, -1, 16)
            .input("pv", Graph.FLOAT, -1, 2, -1, 16)
            .output("y", Graph.FLOAT, -1, -1, -1)
            .output("nk", Graph.FLOAT, -1, 2, -1, 16)
            .output("nv", Graph.FLOAT, -1, 2, -1, 16);
    graph.node("com.microsoft:GroupQueryAttention",
        List.of(attribute("num_heads", 4), attribute("kv_num_heads", 2)),
        new String[] {graph.node("Reshape", "x", "to"), "", "", "pk", "pv",
            graph.constant(Graph.INT32, new byte[] {4, 0, 0, 0}, 1),
            graph.constant(Graph.INT32, new byte[] {5, 0, 0, 0}, 1)},
        "y", "nk", "nv");
    for (long[] shape :
        new long[][] {{1, 3, 128}, {1, 3, 130}, {3, 128}, {384}, {1, 1, 3, 128}, {}}) {
      int count = 1;
      for (long extent : shape) {
        count *= (int) extent;
      }
      try (OnnxTensor x = tensor(count);
          OnnxTensor to = OnnxTensor.createTensor(
              ENVIRONMENT, LongBuffer.wrap(shape), new long[] {shape.length});
          OnnxTensor pk = tensor(1, 2, 2, 16); OnnxTensor pv = tensor(1, 2, 2, 16)) {
        String report =
            beside(graph.model(17), Map.of("x", x, "to", to, "pk", pk, "pv", pv), 1e-4f);
        assertEquals(1, claims(report), report);
      }
    }
  }
}
