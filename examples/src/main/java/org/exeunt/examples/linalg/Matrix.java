// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.linalg;

import static org.bytedeco.openblas.global.openblas_nolapack.CblasNoTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasRowMajor;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_sgemm;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.exeunt.Tensor;

/**
 * A row-major matrix of floats outside the heap, where BLAS can read it without a copy.
 *
 * <p>A view of some columns of another matrix shares its memory: {@code stride} is then longer than
 * a row.
 */
public final class Matrix {
  static {
    Blas.load();
  }

  private final FloatBuffer data;
  private final int rows;
  private final int columns;
  private final int stride;

  private Matrix(FloatBuffer data, int rows, int columns, int stride) {
    this.data = data;
    this.rows = rows;
    this.columns = columns;
    this.stride = stride;
  }

  /** A matrix of zeros. */
  public Matrix(int rows, int columns) {
    this(allocate(Math.multiplyExact(rows, columns)), rows, columns, columns);
  }

  private static FloatBuffer allocate(int count) {
    return ByteBuffer.allocateDirect(Math.multiplyExact(count, Float.BYTES))
        .order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  public int rows() {
    return rows;
  }

  public int columns() {
    return columns;
  }

  /** The columns from {@code first} on, sharing memory with this matrix. */
  public Matrix columns(int first, int count) {
    if (first < 0 || count < 0 || first > columns - count) {
      throw new IndexOutOfBoundsException(
          "columns " + first + " to " + first + " + " + count + " of " + columns);
    }
    int skipped = Math.min(first, data.capacity()); // without rows there is nothing to skip
    return new Matrix(data.slice(skipped, data.capacity() - skipped), rows, count, stride);
  }

  public float get(int row, int column) {
    return data.get(row * stride + column);
  }

  public void getRow(int row, float[] into) {
    data.get(row * stride, into, 0, columns);
  }

  public void setRow(int row, float[] values) {
    data.put(row * stride, values, 0, columns);
  }

  /** A row-major copy. */
  public float[] toArray() {
    float[] copy = new float[rows * columns];
    for (int row = 0; row < rows; row++) {
      data.get(row * stride, copy, row * columns, columns);
    }
    return copy;
  }

  /** A copy that shares nothing with this matrix. */
  public Matrix copy() {
    Matrix copy = new Matrix(rows, columns);
    copy.data.put(0, toArray());
    return copy;
  }

  /** Adds {@code other}, of the same shape. */
  public void add(Matrix other) {
    float[] sum = new float[columns];
    float[] addend = new float[columns];
    for (int row = 0; row < rows; row++) {
      getRow(row, sum);
      other.getRow(row, addend);
      for (int i = 0; i < columns; i++) {
        sum[i] += addend[i];
      }
      setRow(row, sum);
    }
  }

  /** This matrix as exeunt sees it, sharing its memory; not for a view of some columns. */
  public Tensor tensor() {
    if (stride != columns) {
      throw new IllegalStateException(
          "a view of " + columns + " columns with stride " + stride + " is not compact");
    }
    return Tensor.of(data, rows, columns);
  }

  /**
   * {@code out} = {@code scale} · this · {@code right}ᵀ: each row of {@code right} yields one
   * column.
   */
  public void timesTransposed(Matrix right, float scale, Matrix out) {
    gemm(this, CblasNoTrans, right, CblasTrans, scale, out);
  }

  /** this · {@code right}ᵀ in a new matrix. */
  public Matrix timesTransposed(Matrix right) {
    Matrix product = new Matrix(rows, right.rows);
    timesTransposed(right, 1, product);
    return product;
  }

  /** {@code out} = this · {@code right}. */
  public void times(Matrix right, Matrix out) {
    gemm(this, CblasNoTrans, right, CblasNoTrans, 1, out);
  }

  /** {@code out} = thisᵀ · {@code right}. */
  public void transposedTimes(Matrix right, Matrix out) {
    gemm(this, CblasTrans, right, CblasNoTrans, 1, out);
  }

  private static void gemm(Matrix a, int transposeA, Matrix b, int transposeB, float scale,
      Matrix out) {
    int inner = transposeA == CblasTrans ? a.rows : a.columns;
    int innerB = transposeB == CblasTrans ? b.columns : b.rows;
    int rows = transposeA == CblasTrans ? a.columns : a.rows;
    int columns = transposeB == CblasTrans ? b.rows : b.columns;
    if (inner != innerB || out.rows != rows || out.columns != columns) {
      throw new IllegalArgumentException("cannot multiply " + rows + " x " + inner + " by "
          + innerB + " x " + columns + " into " + out.rows + " x " + out.columns);
    }
    if (rows > 0 && columns > 0) {
      cblas_sgemm(CblasRowMajor, transposeA, transposeB, rows, columns, inner, scale, a.data,
          a.stride, b.data, b.stride, 0, out.data, out.stride);
    }
  }
}
