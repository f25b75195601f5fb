// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.train;

import static org.bytedeco.openblas.global.openblas_nolapack.CblasNoTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasRowMajor;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_sgemm;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.exeunt.Tensor;

/** A row-major matrix of floats outside the heap, where BLAS can read it without a copy. */
public final class Matrix {
  static {
    Blas.load();
  }

  private final FloatBuffer data;
  private final int rows;
  private final int columns;

  /** A matrix of zeros. */
  public Matrix(int rows, int columns) {
    data = allocate(Math.multiplyExact(rows, columns));
    this.rows = rows;
    this.columns = columns;
  }

  private static FloatBuffer allocate(int count) {
    return ByteBuffer.allocateDirect(Math.multiplyExact(count, Float.BYTES))
        .order(ByteOrder.nativeOrder())
        .asFloatBuffer();
  }

  public int rows() {
    return rows;
  }

  public int columns() {
    return columns;
  }

  public float get(int row, int column) {
    return data.get(row * columns + column);
  }

  public void getRow(int row, float[] into) {
    data.get(row * columns, into, 0, columns);
  }

  public void setRow(int row, float[] values) {
    data.put(row * columns, values, 0, columns);
  }

  /** This matrix as exeunt sees it, sharing its memory. */
  public Tensor tensor() {
    return Tensor.of(data, rows, columns);
  }

  /**
   * {@code out} = {@code scale} · this · {@code right}ᵀ: each row of {@code right} yields one
   * column.
   */
  public void timesTransposed(Matrix right, float scale, Matrix out) {
    gemm(this, CblasNoTrans, right, CblasTrans, scale, out);
  }

  /** {@code out} = this · {@code right}. */
  public void times(Matrix right, Matrix out) {
    gemm(this, CblasNoTrans, right, CblasNoTrans, 1, out);
  }

  /** {@code out} = thisᵀ · {@code right}. */
  public void transposedTimes(Matrix right, Matrix out) {
    gemm(this, CblasTrans, right, CblasNoTrans, 1, out);
  }

  private static void gemm(
      Matrix a, int transposeA, Matrix b, int transposeB, float scale, Matrix out) {
    int inner = transposeA == CblasTrans ? a.rows : a.columns;
    int innerB = transposeB == CblasTrans ? b.columns : b.rows;
    int rows = transposeA == CblasTrans ? a.columns : a.rows;
    int columns = transposeB == CblasTrans ? b.rows : b.columns;
    if (inner != innerB || out.rows != rows || out.columns != columns) {
      throw new IllegalArgumentException("cannot multiply " + rows + " x " + inner + " by " + innerB
          + " x " + columns + " into " + out.rows + " x " + out.columns);
    }
    if (rows > 0 && columns > 0) {
      cblas_sgemm(CblasRowMajor, transposeA, transposeB, rows, columns, inner, scale, a.data,
          a.columns, b.data, b.columns, 0, out.data, out.columns);
    }
  }
}
