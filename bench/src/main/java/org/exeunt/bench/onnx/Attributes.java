// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import java.util.ArrayList;
import java.util.List;

/** Attributes of an ONNX node, as AttributeProto messages. */
final class Attributes {
  private static final int INT = 2;
  private static final int INTS = 7;

  private final List<ProtoWriter> list = new ArrayList<>();

  Attributes with(String name, long value) {
    list.add(new ProtoWriter().text(1, name).integer(3, value).integer(20, INT));
    return this;
  }

  Attributes with(String name, long[] values) {
    ProtoWriter attribute = new ProtoWriter().text(1, name);
    for (long value : values) {
      attribute.integer(8, value);
    }
    list.add(attribute.integer(20, INTS));
    return this;
  }

  List<ProtoWriter> list() {
    return list;
  }
}
