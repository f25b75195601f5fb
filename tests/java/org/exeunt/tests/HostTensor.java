// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Words.bell;
import static org.exeunt.tests.Words.high;
import static org.exeunt.tests.Words.mix;
import static org.exeunt.tests.Words.remainder;
import static org.exeunt.tests.Words.unit;
import static org.exeunt.tests.Words.word;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.function.DoubleUnaryOperator;
import org.exeunt.DType;

/**
 * A matrix in host memory with gaps between its rows, and the fills of the case tables. A vector is
 * one row; so is a tensor of more than two dimensions, unless it was made by {@link #heads}.
 */
final class HostTensor {
  final DType dtype;
  final long[] shape;
  private final boolean manyRows;
  final int rows;
  final int cols;
  final int stride;
  final int offset;
  final ByteBuffer bytes;

  HostTensor(DType dtype, long[] shape, int pad, int offset) {
    this(dtype, shape, shape.length == 2, pad, offset);
  }

  private HostTensor(DType dtype, long[] shape, boolean manyRows, int pad, int offset) {
    this.dtype = dtype;
    this.shape = shape;
    this.manyRows = manyRows;
    this.rows = manyRows ? (int) shape[0] : 1;
    this.cols =
        (int) Arrays.stream(shape).skip(manyRows ? 1 : 0).reduce(1, (before, n) -> before * n);
    this.stride = cols + pad;
    this.offset = offset;
    int elements = rows == 0 ? 0 : (rows - 1) * stride + cols;
    bytes = ByteBuffer.allocateDirect(elements * dtype.bytes()).order(ByteOrder.nativeOrder());
    if (dtype.isFloat() && elements > 0) {
      put(0, Double.NaN); // what lies in the gaps must not be looked at
      repeat(bytes, dtype.bytes());
    }
  }

  /** Fills a buffer with copies of its first {@code width} bytes. */
  static void repeat(ByteBuffer bytes, int width) {
    for (int done = width; done < bytes.capacity(); done *= 2) {
      bytes.put(done, bytes, 0, Math.min(done, bytes.capacity() - done));
    }
  }

  /**
   * [rows,heads,dim] with gaps between the rows; row and column as of a matrix [rows,heads dim].
   */
  static HostTensor heads(DType dtype, long rows, long heads, long dim, int pad, int offset) {
    return new HostTensor(dtype, new long[] {rows, heads, dim}, true, pad, offset);
  }

  /** Of rank 2 or more, with gaps between the entries of axis 0. */
  static HostTensor ofRows(DType dtype, long[] shape, int pad, int offset) {
    return new HostTensor(dtype, shape, true, pad, offset);
  }

  /** Another one with the same dtype, shape and gaps. */
  HostTensor like() {
    return new HostTensor(dtype, shape, manyRows, stride - cols, offset);
  }

  static HostTensor of(DType dtype, long... shape) {
    return new HostTensor(dtype, shape, 0, 0);
  }

  /** The logits, features or hidden states of a case, from its columns. */
  static HostTensor matrix(CaseRow c, String cols, String prefix, long stream) {
    return matrix(c, c.integer("rows"), cols, prefix, stream);
  }

  /** The same, of as many rows. */
  static HostTensor matrix(CaseRow c, long rows, String cols, String prefix, long stream) {
    String dtype = prefix.isEmpty() ? "dtype" : prefix;
    String under = prefix.isEmpty() ? "" : prefix + "_";
    HostTensor t =
        new HostTensor(
            c.dtype(dtype),
            new long[] {rows, c.integer(cols)},
            c.int32(under + "pad"),
            c.int32(under + "offset"));
    return t.fill(
        c.seed(), stream, c.text(under + "fill"), c.number(under + "scale"), c.text("special"));
  }

  /** A weight of a case, from its columns {@code weight}, {@code weight_pad} and so on. */
  static HostTensor weight(CaseRow c, String fill, long stream, long rows, long cols) {
    long[] shape = {rows, cols};
    return new HostTensor(c.dtype("weight"), shape, c.int32("weight_pad"), c.int32("weight_offset"))
        .fill(c.seed(), stream, fill, c.number("weight_scale"), "-");
  }

  /** RoPE's table of a case: any numbers serve, since ops read the table, whoever made it. */
  static HostTensor ropeTable(CaseRow c) {
    float scale = c.text("table").equals("normal") ? 0.5f : 1;
    return of(DType.F32, c.integer("positions"), c.integer("pairs"), 2)
        .fill(c.seed(), 2, c.text("table"), scale, "-");
  }

  /** {@code shift + bell * scale} in f32. */
  static HostTensor bells(
      DType dtype, long seed, long stream, float scale, float shift, long... shape) {
    HostTensor t = of(dtype, shape);
    for (int i = 0; i < t.size(); i++) {
      t.set(i / t.cols, i % t.cols, bell(word(seed, stream, i)) * scale + shift);
    }
    return t;
  }

  /** The same, element for element and gap for gap. */
  HostTensor copy() {
    HostTensor t = like();
    t.bytes.put(0, bytes, 0, bytes.capacity());
    return t;
  }

  int size() {
    return rows * cols;
  }

  /** The same elements as one row. */
  HostTensor flat() {
    HostTensor t = of(dtype, size());
    for (int i = 0; i < size(); i++) {
      t.set(0, i, at(i / cols, i % cols));
    }
    return t;
  }

  /** Of each dimension, in elements. */
  long[] strides() {
    long[] strides = new long[shape.length];
    long step = 1;
    for (int i = strides.length - 1; i >= 0; i--) {
      strides[i] = step;
      step *= Math.max(1, shape[i]);
    }
    if (manyRows) {
      strides[0] = stride;
    }
    return strides;
  }

  double at(int row, int col) {
    return get(row * stride + col);
  }

  double at(int col) {
    return at(0, col);
  }

  long integerAt(int index) {
    switch (dtype) {
      case I32:
        return bytes.getInt(4 * index);
      case I64:
        return bytes.getLong(8 * index);
      case U8:
        return bytes.get(index) & 0xff;
      default:
        throw new IllegalStateException(dtype.toString());
    }
  }

  void setInteger(int index, long value) {
    switch (dtype) {
      case I32:
        bytes.putInt(4 * index, (int) value);
        break;
      case I64:
        bytes.putLong(8 * index, value);
        break;
      case U8:
        bytes.put(index, (byte) value);
        break;
      default:
        throw new IllegalStateException(dtype.toString());
    }
  }

  /** The low bits of a word, whatever they mean. */
  void setBits(int row, int col, long word) {
    int at = (row * stride + col) * dtype.bytes();
    switch (dtype.bytes()) {
      case 1:
        bytes.put(at, (byte) word);
        break;
      case 2:
        bytes.putShort(at, (short) word);
        break;
      case 4:
        bytes.putInt(at, (int) word);
        break;
      default:
        bytes.putLong(at, word);
    }
  }

  /** Copies elements of a row, bit for bit. */
  void copyFrom(HostTensor source, int fromRow, int fromCol, int row, int col, int count) {
    int width = dtype.bytes();
    bytes.put(
        (row * stride + col) * width,
        source.bytes,
        (fromRow * source.stride + fromCol) * width,
        count * width);
  }

  void set(int row, int col, double value) {
    put(row * stride + col, value);
  }

  double[][] rows() {
    double[][] values = new double[rows][];
    Arrays.setAll(values, this::row);
    return values;
  }

  double[] row(int row) {
    double[] values = new double[cols];
    for (int c = 0; c < cols; c++) {
      values[c] = at(row, c);
    }
    return values;
  }

  private double get(int element) {
    switch (dtype) {
      case F64:
        return bytes.getDouble(8 * element);
      case F32:
        return bytes.getFloat(4 * element);
      case F16:
        return DType.f16ToFloat(bytes.getShort(2 * element));
      case BF16:
        return DType.bf16ToFloat(bytes.getShort(2 * element));
      default:
        return integerAt(element);
    }
  }

  private void put(int element, double value) {
    switch (dtype) {
      case F64:
        bytes.putDouble(8 * element, value);
        break;
      case F32:
        bytes.putFloat(4 * element, (float) value);
        break;
      case F16:
        bytes.putShort(2 * element, DType.floatToF16((float) value));
        break;
      case BF16:
        bytes.putShort(2 * element, DType.floatToBf16((float) value));
        break;
      default:
        throw new IllegalStateException(dtype.toString());
    }
  }

  /** A value as this dtype stores it. */
  static double rounded(DType dtype, double value) {
    switch (dtype) {
      case F64:
        return value;
      case F32:
        return (float) value;
      case F16:
        return DType.f16ToFloat(DType.floatToF16((float) value));
      case BF16:
        return DType.bf16ToFloat(DType.floatToBf16((float) value));
      default:
        throw new IllegalStateException(dtype.toString());
    }
  }

  // ---- fills ------------------------------------------------------------------------------------

  HostTensor fill(long seed, long stream, String kind, float scale, String special) {
    boolean denormal = kind.equals("denormal");
    boolean normal = kind.equals("normal"); // most fills are, so it has a way without a look-up
    for (int r = 0; r < rows; r++) {
      int first = position(seed, stream, 0, r);
      int second = position(seed, stream, 1, r);
      for (int c = 0; c < cols; c++) {
        long i = (long) r * cols + c;
        long w = word(seed, stream, i);
        if (normal) {
          set(r, c, bell(w) * scale);
        } else if (denormal) {
          double magnitude = (1 + high(w, 8)) * smallestDenormal();
          set(r, c, w % 2 != 0 ? -magnitude : magnitude);
        } else {
          long twin = kind.equals("twins") ? word(seed, stream, (long) (r / 2) * cols + c) : w;
          set(r, c, value(kind, twin, i, c, first, second) * scale);
        }
      }
    }
    return special(seed, stream, special);
  }

  private float value(String kind, long w, long i, int col, int first, int second) {
    switch (kind) {
      case "wide":
        return 10000f * (2 * unit(w) - 1);
      case "unit":
        return unit(w);
      case "equal":
        return 1.5f;
      case "zero":
        return 0f;
      case "negzero":
        return i % 2 != 0 ? -0f : 0f;
      case "ties":
        return high(w, 5) - 2;
      case "ints":
        return high(w, 17) - 8;
      case "ones":
        return w % 2 != 0 ? -1 : 1;
      case "spike":
        return remainder(mix(w), 64) == 0 ? bell(w) * 64 : bell(w);
      case "outlier":
        return col == first ? 200 : bell(w);
      case "first":
        return col == 0 ? 16 : bell(w);
      case "last":
        return col == cols - 1 ? 16 : bell(w);
      case "pair":
        return col == first || col == second ? 16 : bell(w);
      case "ramp":
        return col;
      case "downramp":
        return -(float) col;
      case "above":
        return col == first ? 1 : 0;
      case "two":
        return high(w, 32) == 0 ? 1 : 0;
      case "coarse":
        return Float.intBitsToFloat(Float.floatToRawIntBits(bell(w)) & 0xFFFF0000);
      case "twins": // w is the word of the even row
        return bell(w);
      default:
        throw new IllegalStateException("unknown fill '" + kind + "'");
    }
  }

  private double smallestDenormal() {
    switch (dtype) {
      case F64:
        return Double.MIN_VALUE;
      case F16:
        return 0x1p-24;
      case BF16:
        return 0x1p-133;
      default:
        return 0x1p-149;
    }
  }

  private int position(long seed, long stream, int k, int row) {
    return cols == 0 ? 0 : (int) remainder(word(seed, stream + 32 + k, row), cols);
  }

  HostTensor special(long seed, long stream, String special) {
    if (special.equals("-") || size() == 0) {
      return this;
    }
    for (int r = 0; r < rows; r++) {
      if (r % 3 == 1 || rows == 1) {
        applySpecial(r, position(seed, stream, 2, r), special);
      }
    }
    return this;
  }

  private void applySpecial(int row, int column, String special) {
    switch (special) {
      case "nan":
        set(row, column, Double.NaN);
        break;
      case "pinf":
        set(row, column, Double.POSITIVE_INFINITY);
        break;
      case "ninf":
        set(row, column, Double.NEGATIVE_INFINITY);
        break;
      case "nan_first":
        set(row, 0, Double.NaN);
        break;
      case "nan_last":
        set(row, cols - 1, Double.NaN);
        break;
      case "pinf_last":
        set(row, cols - 1, Double.POSITIVE_INFINITY);
        break;
      case "ninf_last":
        set(row, cols - 1, Double.NEGATIVE_INFINITY);
        break;
      case "allninf":
      case "onlyone":
      case "onlyone_nan_last":
        for (int c = 0; c < cols; c++) {
          if (special.equals("allninf") || c != column) {
            set(row, c, Double.NEGATIVE_INFINITY);
          }
        }
        if (special.equals("onlyone_nan_last")) {
          set(row, cols - 1, Double.NaN);
        }
        break;
      default:
        throw new IllegalStateException("unknown special '" + special + "'");
    }
  }

  /**
   * Fills this from the stored elements of {@code a}; false if {@code relation} is none of the
   * derived ones.
   */
  boolean derive(HostTensor a, String relation, long seed, float scale) {
    for (int r = 0; r < rows; r++) {
      for (int c = 0; c < cols; c++) {
        float bell = bell(word(seed, 1, (long) r * cols + c));
        DoubleUnaryOperator f = relation(relation, a, r, c, bell);
        if (f == null) {
          return false;
        }
        set(r, c, (float) f.applyAsDouble(a.at(r, c)) * scale);
      }
    }
    return relation(relation, a, 0, 0, 0) != null;
  }

  private static DoubleUnaryOperator relation(String name, HostTensor a, int r, int c, float bell) {
    switch (name) {
      case "equal":
        return v -> v;
      case "parallel":
      case "scaled":
        return v -> 0.5f * (float) v;
      case "parallel3":
        return v -> 3f * (float) v;
      case "negated":
        return v -> -v;
      case "nearly":
        return v -> 0.5f * (float) v + bell * 0x1p-10f;
      case "near":
        return v -> (float) v + bell * 0x1p-6f;
      case "orthogonal":
        int partner = c ^ 1;
        return v -> partner >= a.cols ? 0 : a.at(r, partner) * (c % 2 != 0 ? -1 : 1);
      default:
        return null;
    }
  }
}
