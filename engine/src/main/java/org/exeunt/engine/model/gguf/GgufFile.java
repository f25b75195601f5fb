// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.engine.model.io.ModelFile;
import org.exeunt.engine.model.io.ModelFile.Piece;
import org.exeunt.engine.model.io.ModelFile.Range;
import org.exeunt.engine.model.io.ModelFormatException;

/**
 * A GGUF model file, versions 2 and 3, little-endian: its metadata, and its tensors, as floats or
 * as they are.
 *
 * <p>A tensor is read, or mapped, when it is asked for. Nothing in the file is trusted: every count, length,
 * type, dimension and offset is checked against the bytes that are really there, and whatever does
 * not fit is a {@link ModelFormatException}. Instances are immutable and may be shared between
 * threads until closed.
 */
public final class GgufFile implements Closeable {
  private static final int MAGIC = 0x46554747; // "GGUF"
  private static final String ALIGNMENT_KEY = "general.alignment";
  private static final int DEFAULT_ALIGNMENT = 32;

  // Far above any real model, and low enough that a hostile header cannot exhaust the heap.
  private static final int MAX_HEADER_BYTES = 32 << 20;
  private static final int MAX_ENTRIES = 1 << 16;
  private static final int MAX_ARRAY = 1 << 22;
  private static final int MAX_NAME_BYTES = 1 << 16;
  private static final int MAX_DIMENSIONS = 4;

  // So much of a tensor is read at once.
  private static final int READ_BYTES = 4 << 20;

  // The least a metadata entry (key length, type, one byte) and a tensor entry can occupy.
  private static final int MIN_METADATA_BYTES = 8 + 4 + 1;
  private static final int MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8;

  private final ModelFile file;
  private final Map<String, Object> metadata = new LinkedHashMap<>();
  private final Map<String, GgufTensor> tensors = new LinkedHashMap<>();
  private final List<Piece> mapped = new ArrayList<>();

  /** Some neighbouring tensors of the file, which a buffer can hold. */

  /** Opens {@code path} and reads its header. */
  public static GgufFile open(Path path) throws IOException {
    ModelFile file = ModelFile.open(path);
    try {
      return new GgufFile(file);
    } catch (IOException | RuntimeException e) {
      try (file) {
        file.requireUnchanged(); // else what is wrong with it may not have been
      }
      throw e;
    }
  }

  private GgufFile(ModelFile file) throws IOException {
    this.file = file;
    HeaderReader header = new HeaderReader(file, Math.min(file.size(), MAX_HEADER_BYTES));
    readVersion(header);
    int tensorCount = header.count("the tensor count", MIN_TENSOR_BYTES, MAX_ENTRIES);
    int metadataCount = header.count("the metadata count", MIN_METADATA_BYTES, MAX_ENTRIES);
    for (int i = 0; i < metadataCount; i++) {
      readMetadata(header, i);
    }
    List<GgufTensor> relative = new ArrayList<>();
    for (int i = 0; i < tensorCount; i++) {
      relative.add(readTensorInfo(header, i));
    }
    placeTensors(relative, header);
  }

  private static void readVersion(HeaderReader header) throws IOException {
    int magic = header.int32("the magic number");
    if (magic != MAGIC) {
      throw header.problem(
          String.format("is not a GGUF file: it starts with bytes %08x, not with 'GGUF'.",
              Integer.reverseBytes(magic)));
    }
    int version = header.int32("the version");
    if (version == 2 || version == 3) {
      return;
    }
    int swapped = Integer.reverseBytes(version);
    throw header.problem(swapped == 2 || swapped == 3
            ? "is a big-endian GGUF file, version " + swapped
                + "; only little-endian ones are read."
            : "the version is " + Integer.toUnsignedString(version) + "; 2 and 3 are read.");
  }

  private void readMetadata(HeaderReader header, int index) throws IOException {
    String key = header.string("metadata key " + index, MAX_NAME_BYTES);
    String field = "metadata '" + key + "'";
    Object value = MetadataType.read(header, field, MAX_ARRAY, MAX_HEADER_BYTES);
    if (metadata.put(key, value) != null) {
      throw header.problem(field + " occurs twice.");
    }
  }

  private static GgufTensor readTensorInfo(HeaderReader header, int index) throws IOException {
    String name = header.string("the name of tensor " + index, MAX_NAME_BYTES);
    String field = "tensor '" + name + "'";
    int rank = header.int32("the rank of " + field);
    if (rank < 1 || rank > MAX_DIMENSIONS) {
      throw header.problem(field + " has " + Integer.toUnsignedString(rank) + " dimensions; 1 to "
          + MAX_DIMENSIONS + " are possible.");
    }
    List<Long> dimensions = new ArrayList<>();
    for (int d = 0; d < rank; d++) {
      dimensions.add(header.int64("dimension " + d + " of " + field));
    }
    int typeId = header.int32("the type of " + field);
    GgmlType type = GgmlType.byId(typeId);
    if (type == null) {
      throw header.problem(field + " has type " + Integer.toUnsignedString(typeId)
          + "; this reader knows " + GgmlType.NAMES + ".");
    }
    return describe(header, name, type, dimensions, header.int64("the offset of " + field));
  }

  private static GgufTensor describe(HeaderReader header, String name, GgmlType type,
      List<Long> dimensions, long offset) throws ModelFormatException {
    long columns = dimensions.get(0);
    long rows = 1;
    try {
      for (long dimension : dimensions) {
        if (dimension <= 0) {
          throw header.problem(
              "tensor '" + name + "' has dimensions " + dimensions + "; each must be positive.");
        }
        rows = Math.multiplyExact(rows, dimension);
      }
      rows /= columns;
      if (columns % type.blockElements() != 0) {
        throw header.problem("tensor '" + name + "' has rows of " + columns + " elements, not a "
            + "multiple of the " + type.blockElements() + " in a block of " + type + ".");
      }
      GgufTensor tensor =
          new GgufTensor(name, type, rows, columns, List.copyOf(dimensions), offset);
      Math.multiplyExact(
          rows, Math.multiplyExact(columns / type.blockElements(), (long) type.blockBytes()));
      return tensor;
    } catch (ArithmeticException e) {
      throw header.problem(
          "tensor '" + name + "' has dimensions " + dimensions + ", whose product overflows.");
    }
  }

  private void placeTensors(List<GgufTensor> relative, HeaderReader header)
      throws ModelFormatException {
    int alignment = alignment(header);
    long data = (header.position() + alignment - 1) / alignment * alignment;
    for (GgufTensor tensor : relative) {
      String field = "tensor '" + tensor.name() + "'";
      long offset = tensor.offset();
      if (offset % alignment != 0) {
        throw header.problem(field + " has offset " + Long.toUnsignedString(offset)
            + ", not a multiple of the alignment " + alignment + ".");
      }
      if (offset < 0 || tensor.bytes() > file.size() - data
          || offset > file.size() - data - tensor.bytes()) {
        throw header.problem(field + " needs " + tensor.bytes() + " bytes at offset "
            + Long.toUnsignedString(offset) + ", but the data section holds "
            + Math.max(0, file.size() - data) + ".");
      }
      GgufTensor placed = new GgufTensor(tensor.name(), tensor.type(), tensor.rows(),
          tensor.columns(), tensor.dimensions(), data + offset);
      if (tensors.put(placed.name(), placed) != null) {
        throw header.problem(field + " occurs twice.");
      }
    }
    requireApart(header);
  }

  /** Tensors that share bytes would let a small file ask for any amount of memory. */
  private void requireApart(HeaderReader header) throws ModelFormatException {
    List<GgufTensor> inOrder = new ArrayList<>(tensors.values());
    inOrder.sort(Comparator.comparingLong(GgufTensor::offset));
    for (int i = 1; i < inOrder.size(); i++) {
      GgufTensor before = inOrder.get(i - 1);
      GgufTensor tensor = inOrder.get(i);
      if (before.offset() + before.bytes() > tensor.offset()) {
        throw header.problem("tensor '" + tensor.name() + "' begins at byte " + tensor.offset()
            + " of the file, inside tensor '" + before.name() + "', which has " + before.bytes()
            + " bytes at " + before.offset() + ".");
      }
    }
  }

  private int alignment(HeaderReader header) throws ModelFormatException {
    long alignment =
        metadata.containsKey(ALIGNMENT_KEY) ? value(ALIGNMENT_KEY, Long.class) : DEFAULT_ALIGNMENT;
    if (alignment < 1 || alignment > 1 << 20 || Long.bitCount(alignment) != 1) {
      throw header.problem("metadata '" + ALIGNMENT_KEY + "' is " + alignment
          + ", not a power of two up to " + (1 << 20) + ".");
    }
    return (int) alignment;
  }

  public Path path() {
    return file.path();
  }

  /** As {@link ModelFile#requireUnchanged}. */
  public void requireUnchanged() {
    file.requireUnchanged();
  }

  /** As {@link ModelFile#checkUnchanged}. */
  public void checkUnchanged() {
    file.checkUnchanged();
  }

  /**
   * All metadata in file order. Integers and booleans are {@code Long} and {@code Boolean},
   * floating-point values {@code Double}, strings {@code String}; arrays are {@code long[]},
   * {@code double[]} or {@link Strings}.
   */
  public Map<String, Object> metadata() {
    return Collections.unmodifiableMap(metadata);
  }

  /** All tensors in file order. */
  public Map<String, GgufTensor> tensors() {
    return Collections.unmodifiableMap(tensors);
  }

  /** The string stored under {@code key}. */
  public String string(String key) throws ModelFormatException {
    return value(key, String.class);
  }

  /** The strings stored under {@code key}; not copied. */
  public Strings strings(String key) throws ModelFormatException {
    return value(key, Strings.class);
  }

  /** The integers stored under {@code key}; not copied. */
  public long[] integers(String key) throws ModelFormatException {
    return value(key, long[].class);
  }

  /** The floating-point numbers stored under {@code key}; not copied. */
  public double[] numbers(String key) throws ModelFormatException {
    return value(key, double[].class);
  }

  /** The boolean stored under {@code key}, or what counts without one. */
  public boolean flag(String key, boolean otherwise) throws ModelFormatException {
    return metadata.containsKey(key) ? value(key, Boolean.class) : otherwise;
  }

  /** The floating-point number stored under {@code key}. */
  public double number(String key) throws ModelFormatException {
    return value(key, Double.class);
  }

  /** The integer stored under {@code key}, which must lie in [{@code least}, {@code most}]. */
  public int integer(String key, int least, int most) throws ModelFormatException {
    long value = value(key, Long.class);
    if (value < least || value > most) {
      throw new ModelFormatException(path(),
          "metadata '" + key + "' is " + value + ", outside " + least + " to " + most + ".");
    }
    return (int) value;
  }

  private <T> T value(String key, Class<T> type) throws ModelFormatException {
    Object value = metadata.get(key);
    if (value == null) {
      throw new ModelFormatException(path(), "has no metadata '" + key + "'.");
    }
    if (!type.isInstance(value)) {
      throw new ModelFormatException(path(),
          "metadata '" + key + "' is a " + value.getClass().getSimpleName() + ", not a "
              + type.getSimpleName() + ".");
    }
    return type.cast(value);
  }

  /** The tensor of this name, which must be {@code rows} by {@code columns}. */
  public GgufTensor tensor(String name, long rows, long columns) throws ModelFormatException {
    GgufTensor tensor = tensors.get(name);
    if (tensor == null) {
      throw new ModelFormatException(path(), "has no tensor '" + name + "'.");
    }
    if (tensor.rows() != rows || tensor.columns() != columns) {
      throw new ModelFormatException(path(),
          "tensor '" + name + "' is " + tensor.rows() + " x " + tensor.columns()
              + ", but the metadata asks for " + rows + " x " + columns + ".");
    }
    return tensor;
  }

  /**
   * {@code tensor} in place: elements of its type, [rows, columns], or blocks, U8 [rows, bytes of a
   * row]. The mapping outlives this object. Null if it cannot be used so, because its address is no
   * multiple of an element.
   */
  public Tensor map(GgufTensor tensor) throws IOException {
    DType type = tensor.type().dtype();
    if (type != null && tensor.offset() % type.bytes() != 0) {
      return null;
    }
    Piece piece = piece(tensor);
    return piece.bytes().reinterpret(type == null ? DType.U8 : type,
        tensor.offset() - piece.range().begin(), tensor.rows(),
        type == null ? tensor.rowBytes() : tensor.columns());
  }

  /** The part of the file that {@code tensor} is mapped with. */
  public Tensor mapAround(GgufTensor tensor) throws IOException {
    return piece(tensor).bytes();
  }

  private Piece piece(GgufTensor tensor) throws IOException {
    synchronized (mapped) {
      if (mapped.isEmpty()) {
        mapped.addAll(file.mapTogether(tensors.values()
                .stream()
                .map(GgufTensor::range)
                .sorted(Comparator.comparingLong(Range::begin))
                .toList()));
      }
      for (Piece piece : mapped) {
        if (piece.holds(tensor.range())) {
          return piece;
        }
      }
    }
    throw new ModelFormatException(path(),
        "tensor '" + tensor.name() + "' has " + tensor.bytes() + " bytes, above the "
            + ModelFile.MOST_AT_ONCE + " this reader maps at once.");
  }

  /** Reads the first bytes of {@code tensor} into what remains of {@code bytes}. */
  public void read(GgufTensor tensor, ByteBuffer bytes) throws IOException {
    file.read(tensor.offset(), bytes);
  }

  /**
   * The rows of {@code tensor}, dequantised one at a time into the same array, and handed to
   * {@code consumer}.
   */
  public void readRows(GgufTensor tensor, RowConsumer consumer) throws IOException {
    readRows(tensor, 0, tensor.rows(), consumer);
  }

  /** The same of the rows in [{@code from}, {@code to}). */
  public void readRows(GgufTensor tensor, long from, long to, RowConsumer consumer)
      throws IOException {
    if (tensor.columns() > MAX_ARRAY) {
      throw new ModelFormatException(path(),
          "tensor '" + tensor.name() + "' has rows of " + tensor.columns() + " elements, above the "
              + MAX_ARRAY + " this reader accepts.");
    }
    float[] row = new float[(int) tensor.columns()];
    int rowBytes = (int) tensor.rowBytes();
    int atOnce = Math.max(1, READ_BYTES / rowBytes);
    for (long first = from; first < to; first += atOnce) {
      int rows = (int) Math.min(atOnce, to - first);
      ByteBuffer bytes = file.read(tensor.offset() + first * rowBytes, (long) rows * rowBytes);
      for (int i = 0; i < rows; i++) {
        ByteBuffer one = bytes.slice(i * rowBytes, rowBytes).order(bytes.order());
        tensor.type().dequantize(one, row);
        consumer.accept((int) first + i, row);
      }
    }
  }

  /** Takes one row of a tensor; the array is reused for the next. */
  public interface RowConsumer {
    void accept(int index, float[] row);
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
