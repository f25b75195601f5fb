// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.DType;

/**
 * A safetensors file: 8 bytes of header length, a JSON header, raw row-major tensors.
 *
 * <p>Checked as {@link org.exeunt.engine.model.gguf.GgufFile} is: what does not fit is a
 * {@link ModelFormatException}.
 */
public final class SafetensorsFile implements Closeable {
  // The reference implementation allows 100 MB; no index of tensors comes near this.
  private static final long MAX_HEADER_BYTES = 16 << 20;
  private static final String METADATA = "__metadata__";

  /** Element types. */
  public enum Type {
    BOOL(1),
    U8(1),
    I8(1),
    I16(2),
    U16(2),
    F16(2),
    BF16(2),
    I32(4),
    U32(4),
    F32(4),
    I64(8),
    U64(8),
    F64(8);

    private final int bytes;

    Type(int bytes) {
      this.bytes = bytes;
    }

    public int bytes() {
      return bytes;
    }
  }

  /**
   * A tensor of the file.
   *
   * @param offset first byte, from the start of the file
   * @param elements the product of {@code shape}
   */
  public record Tensor(String name, Type type, List<Long> shape, long offset, long elements) {}

  private final ModelFile file;
  private final Map<String, Tensor> tensors = new LinkedHashMap<>();

  /** Opens {@code path} and reads its header. */
  public static SafetensorsFile open(Path path) throws IOException {
    ModelFile file = ModelFile.open(path);
    try {
      return new SafetensorsFile(file);
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private SafetensorsFile(ModelFile file) throws IOException {
    this.file = file;
    if (file.size() < Long.BYTES) {
      throw problem("has " + file.size() + " bytes, too few for the length of a header.");
    }
    long length = file.read(0, Long.BYTES).getLong();
    long available = Math.min(MAX_HEADER_BYTES, file.size() - Long.BYTES);
    if (length < 0 || length > available) {
      throw problem("the header length is " + Long.toUnsignedString(length) + ", but at most "
          + available + " bytes are possible.");
    }
    long data = Long.BYTES + length;
    for (Map.Entry<String, Object> entry : readHeader(length).entrySet()) {
      if (!entry.getKey().equals(METADATA)) {
        tensors.put(entry.getKey(), describe(entry.getKey(), entry.getValue(), data));
      }
    }
    requireApart();
  }

  /** Tensors that share bytes would let a small file ask for any amount of memory. */
  private void requireApart() throws ModelFormatException {
    List<Tensor> inOrder = new ArrayList<>(tensors.values());
    inOrder.removeIf(tensor -> tensor.elements() == 0);
    inOrder.sort(Comparator.comparingLong(Tensor::offset));
    for (int i = 1; i < inOrder.size(); i++) {
      Tensor before = inOrder.get(i - 1);
      Tensor tensor = inOrder.get(i);
      long end = before.offset() + before.elements() * before.type().bytes();
      if (end > tensor.offset()) {
        throw problem("tensor '" + tensor.name() + "' begins at byte " + tensor.offset()
            + " of the file, inside tensor '" + before.name() + "', which ends at " + end + ".");
      }
    }
  }

  @SuppressWarnings("unchecked") // StrictJson's objects have String keys
  private Map<String, Object> readHeader(long length) throws IOException {
    Object header;
    try {
      CharBuffer text = StandardCharsets.UTF_8.newDecoder().decode(file.read(Long.BYTES, length));
      header = StrictJson.parse(text.toString());
    } catch (CharacterCodingException e) {
      throw problem("the header of " + length + " bytes is not UTF-8.");
    } catch (IllegalArgumentException e) {
      throw problem("the header is not JSON: " + e.getMessage() + ".");
    }
    if (header instanceof Map<?, ?> map) {
      return (Map<String, Object>) map;
    }
    throw problem("the header is not a JSON object.");
  }

  private Tensor describe(String name, Object value, long data) throws ModelFormatException {
    String field = "tensor '" + name + "'";
    if (!(value instanceof Map<?, ?> entry)) {
      throw problem(field + " is not a JSON object.");
    }
    Type type = type(field, entry.get("dtype"));
    List<Long> shape = wholeNumbers(field + ": shape", entry.get("shape"));
    List<Long> range = wholeNumbers(field + ": data_offsets", entry.get("data_offsets"));
    if (range.size() != 2) {
      throw problem(field + ": data_offsets are " + range + ", not a first and a last byte.");
    }
    long begin = range.get(0);
    long end = range.get(1);
    if (begin > end || end > file.size() - data) {
      throw problem(field + ": data_offsets are " + range + ", but the data section holds "
          + (file.size() - data) + " bytes.");
    }
    try {
      long elements = 1;
      for (long dimension : shape) {
        elements = Math.multiplyExact(elements, dimension);
      }
      if (Math.multiplyExact(elements, (long) type.bytes()) == end - begin) {
        return new Tensor(name, type, shape, data + begin, elements);
      }
      throw problem(
          field + ": " + type + " of shape " + shape + " is not " + (end - begin) + " bytes.");
    } catch (ArithmeticException e) {
      throw problem(field + ": the product of shape " + shape + " overflows.");
    }
  }

  private Type type(String field, Object value) throws ModelFormatException {
    for (Type type : Type.values()) {
      if (type.name().equals(value)) {
        return type;
      }
    }
    throw problem(field + " has dtype " + value + ", which this reader does not know.");
  }

  private List<Long> wholeNumbers(String field, Object value) throws ModelFormatException {
    if (value instanceof List<?> list
        && list.stream().allMatch(n -> n instanceof Long number && number >= 0)) {
      return list.stream().map(Long.class ::cast).toList();
    }
    throw problem(field + " is " + value + ", not a list of whole numbers.");
  }

  private ModelFormatException problem(String sentence) {
    return new ModelFormatException(file.path(), sentence);
  }

  public Path path() {
    return file.path();
  }

  /** All tensors in file order. */
  public Map<String, Tensor> tensors() {
    return Collections.unmodifiableMap(tensors);
  }

  /** The tensor of this name. */
  public Tensor tensor(String name) throws ModelFormatException {
    Tensor tensor = tensors.get(name);
    if (tensor == null) {
      throw problem("has no tensor '" + name + "'.");
    }
    return tensor;
  }

  /** A tensor's bytes, little-endian. */
  public ByteBuffer bytes(String name) throws IOException {
    Tensor tensor = tensor(name);
    return file.read(tensor.offset(), tensor.elements() * tensor.type().bytes());
  }

  /** A copy of an F32, F16 or BF16 tensor. */
  public float[] floats(String name) throws IOException {
    ByteBuffer bytes = bytes(name);
    Type type = tensor(name).type();
    float[] values = new float[bytes.remaining() / type.bytes()];
    for (int i = 0; i < values.length; i++) {
      values[i] = switch (type) {
        case F32 -> bytes.getFloat();
        case F16 -> DType.f16ToFloat(bytes.getShort());
        case BF16 -> DType.bf16ToFloat(bytes.getShort());
        default -> throw wrongType(name, type, "a float type");
      };
    }
    return values;
  }

  /** A copy of an F64 tensor. */
  public double[] doubles(String name) throws IOException {
    require(name, Type.F64);
    ByteBuffer bytes = bytes(name);
    double[] values = new double[bytes.remaining() / Double.BYTES];
    bytes.asDoubleBuffer().get(values);
    return values;
  }

  /** A copy of an I32 tensor. */
  public int[] ints(String name) throws IOException {
    require(name, Type.I32);
    ByteBuffer bytes = bytes(name);
    int[] values = new int[bytes.remaining() / Integer.BYTES];
    bytes.asIntBuffer().get(values);
    return values;
  }

  private void require(String name, Type wanted) throws ModelFormatException {
    Type type = tensor(name).type();
    if (type != wanted) {
      throw wrongType(name, type, wanted.toString());
    }
  }

  private ModelFormatException wrongType(String name, Type type, String wanted) {
    return problem("tensor '" + name + "' is " + type + ", not " + wanted + ".");
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
