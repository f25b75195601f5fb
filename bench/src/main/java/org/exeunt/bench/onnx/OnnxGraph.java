// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Builds an ONNX model in memory. Field numbers are those of onnx.proto; only what the peers'
 * compositions use is here.
 */
final class OnnxGraph {
  static final int FLOAT = 1;
  static final int INT64 = 7;
  static final int BOOL = 9;
  static final int DOUBLE = 11;
  static final int BFLOAT16 = 16;

  private static final int IR_VERSION = 8;
  private static final int OPSET = 17;

  private final ProtoWriter graph = new ProtoWriter();
  private int names;

  OnnxGraph() {
    graph.text(2, "peer");
  }

  OnnxGraph input(String name, int type, long... shape) {
    graph.message(11, valueInfo(name, type, shape));
    return this;
  }

  OnnxGraph output(String name, int type, long... shape) {
    graph.message(12, valueInfo(name, type, shape));
    return this;
  }

  /** A constant f32 tensor; returns its name. */
  String constant(float[] values, long... shape) {
    ByteBuffer raw = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asFloatBuffer().put(values);
    return initializer(FLOAT, raw.array(), shape);
  }

  /** A constant f32 scalar; returns its name. */
  String scalar(float value) {
    return constant(new float[] {value});
  }

  /** A constant i64 tensor; returns its name. */
  String constant(long[] values, long... shape) {
    ByteBuffer raw = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asLongBuffer().put(values);
    return initializer(INT64, raw.array(), shape);
  }

  /** A node with one fresh output, whose name is returned. */
  String node(String op, Attributes attributes, String... inputs) {
    String output = freshName();
    node(op, attributes, inputs, output);
    return output;
  }

  /** A node without attributes with one fresh output, whose name is returned. */
  String node(String op, String... inputs) {
    return node(op, new Attributes(), inputs);
  }

  /** A node that writes the outputs given. */
  OnnxGraph node(String op, Attributes attributes, String[] inputs, String... outputs) {
    ProtoWriter node = new ProtoWriter();
    for (String input : inputs) {
      node.text(1, input);
    }
    for (String output : outputs) {
      node.text(2, output);
    }
    node.text(3, freshName()).text(4, op);
    for (ProtoWriter attribute : attributes.list()) {
      node.message(5, attribute);
    }
    graph.message(1, node);
    return this;
  }

  /** The finished ModelProto. */
  byte[] toModel() {
    ProtoWriter opset = new ProtoWriter().text(1, "").integer(2, OPSET);
    return new ProtoWriter()
        .integer(1, IR_VERSION)
        .text(2, "exeunt-bench")
        .message(7, graph)
        .message(8, opset)
        .toByteArray();
  }

  String freshName() {
    return "v" + names++;
  }

  private String initializer(int type, byte[] raw, long... shape) {
    String name = freshName();
    ProtoWriter tensor = new ProtoWriter();
    for (long extent : shape) {
      tensor.integer(1, extent);
    }
    graph.message(5, tensor.integer(2, type).text(8, name).bytes(9, raw));
    return name;
  }

  private static ProtoWriter valueInfo(String name, int type, long... shape) {
    ProtoWriter dimensions = new ProtoWriter();
    for (long extent : shape) {
      dimensions.message(1, new ProtoWriter().integer(1, extent));
    }
    ProtoWriter tensor = new ProtoWriter().integer(1, type).message(2, dimensions);
    return new ProtoWriter().text(1, name).message(2, new ProtoWriter().message(1, tensor));
  }
}
