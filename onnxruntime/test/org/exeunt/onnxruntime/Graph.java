// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/** Builds small ONNX models; the numbers are those of onnx.proto. */
final class Graph {
  static final int FLOAT = 1;
  static final int UINT8 = 2;
  static final int INT8 = 3;
  static final int INT16 = 5;
  static final int INT32 = 6;
  static final int INT64 = 7;
  static final int BOOL = 9;
  static final int FLOAT16 = 10;
  static final int DOUBLE = 11;
  static final int BFLOAT16 = 16;

  private final Message graph = new Message().with(2, "test");
  private final List<Message> nodes = new ArrayList<>();
  private final List<Message> constants = new ArrayList<>();
  private final List<Message> outputs = new ArrayList<>();
  private int names;

  /** Extents of -1 are left open, under a name of their own. */
  Graph input(String name, int type, long... shape) {
    graph.with(11, info(name, type, shape));
    return this;
  }

  Graph output(String name, int type, long... shape) {
    outputs.add(info(name, type, shape));
    graph.with(12, outputs.get(outputs.size() - 1));
    return this;
  }

  Message info(int output) {
    return outputs.get(output);
  }

  Graph add(Message node) {
    nodes.add(node);
    graph.with(1, node);
    return this;
  }

  /** Puts what was built into another graph. */
  void appendTo(Message other) {
    nodes.forEach(node -> other.with(1, node));
    constants.forEach(tensor -> other.with(5, tensor));
    outputs.forEach(info -> other.with(12, info));
  }

  String constant(int type, byte[] raw, long... shape) {
    return constant("c" + names++, type, raw, shape);
  }

  private String constant(String name, int type, byte[] raw, long... shape) {
    Message tensor = new Message();
    for (long extent : shape) {
      tensor.with(1, extent);
    }
    constants.add(tensor.with(2, type).with(8, name).with(9, raw));
    graph.with(5, tensor);
    return name;
  }

  String floats(float[] values, long... shape) {
    return floats("c" + names++, values, shape);
  }

  String floats(String name, float[] values, long... shape) {
    ByteBuffer raw = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asFloatBuffer().put(values);
    return constant(name, FLOAT, raw.array(), shape);
  }

  String scalar(String name, float value) {
    return floats(name, new float[] {value}, 1);
  }

  String scalar(float value) {
    return floats(new float[] {value});
  }

  String longs(long... values) {
    ByteBuffer raw = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asLongBuffer().put(values);
    return constant(INT64, raw.array(), values.length);
  }

  String halves(short[] bits, int type, long... shape) {
    ByteBuffer raw = ByteBuffer.allocate(2 * bits.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asShortBuffer().put(bits);
    return constant(type, raw.array(), shape);
  }

  /** A node with one output, whose name is returned. OP or DOMAIN:OP. */
  String node(String op, List<Message> attributes, String... inputs) {
    String output = "v" + names++;
    node(op, attributes, inputs, output);
    return output;
  }

  String node(String op, String... inputs) {
    return node(op, List.of(), inputs);
  }

  Graph node(String op, List<Message> attributes, String[] inputs, String... results) {
    return add(nodeOf(op, attributes, inputs, results));
  }

  static Message nodeOf(String op, List<Message> attributes, String[] inputs, String... outputs) {
    Message node = new Message();
    for (String input : inputs) {
      node.with(1, input);
    }
    for (String output : outputs) {
      node.with(2, output);
    }
    int colon = op.indexOf(':');
    node.with(3, "node_" + outputs[0]).with(4, op.substring(colon + 1));
    for (Message attribute : attributes) {
      node.with(5, attribute);
    }
    return colon < 0 ? node : node.with(7, op.substring(0, colon));
  }

  static Message attribute(String name, long value) {
    return new Message().with(1, name).with(3, value).with(20, 2L);
  }

  static Message attribute(String name, float value) {
    return new Message().with(1, name).with(2, value).with(20, 1L);
  }

  static Message attribute(String name, String value) {
    return new Message().with(1, name).with(4, value).with(20, 3L);
  }

  static Message attribute(String name, long[] values) {
    Message attribute = new Message().with(1, name);
    for (long value : values) {
      attribute.with(8, value);
    }
    return attribute.with(20, 7L);
  }

  static Message attribute(String name, Graph value) {
    return new Message().with(1, name).with(6, value.graph).with(20, 5L);
  }

  byte[] model(int opset) {
    return model(graph, opset).toBytes();
  }

  static Message model(Message graph, int opset) {
    Message model = new Message().with(1, 8L).with(2, "exeunt-test").with(7, graph);
    List<String> domains = new ArrayList<>(List.of("", "com.microsoft", "org.exeunt"));
    for (String domain : domains) {
      model.with(8, new Message().with(1, domain).with(2, domain.isEmpty() ? opset : 1L));
    }
    return model;
  }

  private Message info(String name, int type, long... shape) {
    Message dimensions = new Message();
    for (long extent : shape) {
      dimensions.with(1,
          extent < 0 ? new Message().with(2, name + "_" + names++) : new Message().with(1, extent));
    }
    Message tensor = new Message().with(1, (long) type).with(2, dimensions);
    return new Message().with(1, name).with(2, new Message().with(1, tensor));
  }
}
