// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.onnx;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.model.io.ModelFile;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * The weights of an ONNX file, and which node of its graph makes what: enough to find out which
 * matrix is which, where an exporter has named them by number. The graph is not run.
 *
 * <p>Field numbers are those of onnx.proto. What does not fit is a {@link ModelFormatException}.
 */
public final class OnnxFile implements Closeable {
  private static final int MOST_NODES = 1 << 16;
  private static final int MOST_NAMES = 1 << 18;
  private static final int LONGEST_NAME = 1 << 10;
  private static final int MOST_DIMENSIONS = 8;

  /** Element types that can be read. */
  public enum Type {
    F32(1, Float.BYTES),
    I64(7, Long.BYTES);

    private final int code;
    private final int bytes;

    Type(int code, int bytes) {
      this.code = code;
      this.bytes = bytes;
    }
  }

  /**
   * An initialiser of the graph, or the value of a Constant node under the name of its output.
   *
   * @param type its TensorProto.DataType
   * @param offset of its raw data in the file
   * @param bytes of raw data; 0 where the file keeps the values elsewhere
   */
  public record Tensor(String name, long type, List<Long> shape, long offset, long bytes) {}

  /** A node of the graph: an operator and the names of what it takes. */
  public record Node(String operator, List<String> inputs) {}

  private final ModelFile file;
  private final Map<String, Tensor> tensors = new LinkedHashMap<>();
  private final Map<String, Node> producers = new LinkedHashMap<>();
  private int nodes;
  private int names;

  /** Opens {@code path} and reads its graph, not the weights. */
  public static OnnxFile open(Path path) throws IOException {
    ModelFile file = ModelFile.open(path);
    try {
      return new OnnxFile(file);
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private OnnxFile(ModelFile file) throws IOException {
    this.file = file;
    ProtoMessage model = new ProtoMessage(file);
    boolean found = false;
    while (model.next()) {
      if (model.bytesField() == 7) {
        if (found) {
          throw model.problem("has two graphs.");
        }
        found = true;
        readGraph(model.message("the graph"));
      }
    }
    if (!found) {
      throw model.problem("has no graph.");
    }
  }

  private void readGraph(ProtoMessage graph) throws IOException {
    while (graph.next()) {
      switch (graph.bytesField()) {
        case 1 -> readNode(graph);
        case 5 -> add(graph, readTensor(graph.message("initialiser " + tensors.size())), null);
        default -> {
        }
      }
    }
  }

  private void readNode(ProtoMessage graph) throws IOException {
    if (++nodes > MOST_NODES) {
      throw graph.problem("has more than the " + MOST_NODES + " nodes this reader accepts.");
    }
    ProtoMessage node = graph.message("node " + (nodes - 1));
    List<String> inputs = new ArrayList<>();
    List<String> outputs = new ArrayList<>();
    String operator = "";
    Tensor constant = null;
    while (node.next()) {
      switch (node.bytesField()) {
        case 1 -> inputs.add(name(node));
        case 2 -> outputs.add(name(node));
        case 4 -> operator = name(node);
        case 5 -> {
          ProtoMessage attribute = node.message("an attribute of node " + (nodes - 1));
          while (attribute.next()) {
            if (attribute.bytesField() == 5) {
              constant = readTensor(attribute.message("a constant"));
            }
          }
        }
        default -> {
        }
      }
    }
    Node made = new Node(operator, List.copyOf(inputs));
    for (String output : outputs) {
      if (producers.put(output, made) != null) {
        throw graph.problem("makes '" + output + "' twice.");
      }
    }
    if (constant != null && operator.equals("Constant") && outputs.size() == 1) {
      add(graph, constant, outputs.get(0));
    }
  }

  private void add(ProtoMessage graph, Tensor tensor, String output) throws IOException {
    Tensor named = output == null
        ? tensor
        : new Tensor(output, tensor.type(), tensor.shape(), tensor.offset(), tensor.bytes());
    if (tensors.size() == MOST_NODES) {
      throw graph.problem("has more than the " + MOST_NODES + " tensors this reader accepts.");
    }
    if (tensors.put(named.name(), named) != null) {
      throw graph.problem("has two tensors '" + named.name() + "'.");
    }
  }

  private Tensor readTensor(ProtoMessage tensor) throws IOException {
    List<Long> shape = new ArrayList<>();
    long type = 0;
    String name = "";
    long offset = 0;
    long bytes = 0;
    while (tensor.next()) {
      if (tensor.numberField() == 1) {
        addExtent(tensor, shape, tensor.number());
      } else if (tensor.bytesField() == 1) {
        ProtoMessage extents = tensor.packed();
        while (!extents.atEnd()) {
          addExtent(tensor, shape, extents.nextPacked());
        }
      } else if (tensor.numberField() == 2) {
        type = tensor.number();
      } else if (tensor.bytesField() == 8) {
        name = name(tensor);
      } else if (tensor.bytesField() == 9) {
        offset = tensor.begin();
        bytes = tensor.length();
      }
    }
    return new Tensor(name, type, List.copyOf(shape), offset, bytes);
  }

  private static void addExtent(ProtoMessage tensor, List<Long> shape, long extent)
      throws ModelFormatException {
    if (extent < 0 || shape.size() == MOST_DIMENSIONS) {
      throw tensor.problem("has extent " + extent + " as dimension " + shape.size()
          + ", not one of at most " + MOST_DIMENSIONS + " that are 0 or more.");
    }
    shape.add(extent);
  }

  private String name(ProtoMessage message) throws IOException {
    if (++names > MOST_NAMES) {
      throw message.problem(
          "takes the file beyond the " + MOST_NAMES + " names this reader accepts.");
    }
    return message.string(LONGEST_NAME);
  }

  /** The file that this is. */
  public Path path() {
    return file.path();
  }

  /** All tensors by name. */
  public Map<String, Tensor> tensors() {
    return tensors;
  }

  /**
   * The node that makes {@code output}.
   *
   * @throws ModelFormatException if there is none
   */
  public Node producer(String output) throws ModelFormatException {
    Node node = producers.get(output);
    if (node == null) {
      throw new ModelFormatException(path(), "no node of the graph makes '" + output + "'.");
    }
    return node;
  }

  /**
   * The tensor of this name, which must be of this type and shape.
   *
   * @param shape extents; -1: any
   */
  public Tensor require(String name, Type type, long... shape) throws ModelFormatException {
    Tensor tensor = tensors.get(name);
    if (tensor == null) {
      throw new ModelFormatException(path(), "there is no tensor '" + name + "'.");
    }
    String field = "tensor '" + name + "'";
    if (tensor.type() != type.code) {
      throw new ModelFormatException(
          path(), field + " is of data type " + tensor.type() + ", not of " + type.code + ".");
    }
    boolean fits = tensor.shape().size() == shape.length;
    long elements = 1;
    for (int i = 0; fits && i < shape.length; i++) {
      long extent = tensor.shape().get(i);
      fits = shape[i] == -1 || shape[i] == extent;
      elements = Math.multiplyHigh(elements, extent) != 0 || elements * extent < 0
          ? Long.MAX_VALUE
          : elements * extent;
    }
    if (!fits) {
      throw new ModelFormatException(path(),
          field + " has shape " + tensor.shape() + ", not "
              + Arrays.toString(shape).replace("-1", "any") + ".");
    }
    if (elements > Long.MAX_VALUE / type.bytes || elements * type.bytes != tensor.bytes()) {
      throw new ModelFormatException(path(),
          field + " has " + tensor.bytes() + " bytes of raw data, which are not " + tensor.shape()
              + " elements of " + type.bytes + " bytes.");
    }
    return tensor;
  }

  /** Reads elements of an F32 tensor that {@link #require} has returned. */
  public void read(Tensor tensor, long first, float[] into) throws IOException {
    file.read(tensor.offset() + first * Float.BYTES, (long) into.length * Float.BYTES)
        .asFloatBuffer()
        .get(into);
  }

  /** Reads the only element of an I64 tensor that {@link #require} has returned. */
  public long readNumber(Tensor tensor) throws IOException {
    ByteBuffer bytes = file.read(tensor.offset(), Long.BYTES);
    return bytes.getLong();
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
