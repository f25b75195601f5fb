// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** Rotary embedding of whole heads by a table of cosines and sines. */
public final class RopeProblem extends Problem<float[]> {
  /** [R, heads * dim]. */
  public final Matrix input;

  public final int heads;

  /** For each position its cosines and sines in turn. */
  public final Matrix table;

  public final int[] position;

  /** Pairs are neighbours; else an element and the one half a head further. */
  public final boolean interleaved;

  public RopeProblem(Matrix input, int heads, Matrix table, int[] position, boolean interleaved) {
    super("rope");
    this.input = input;
    this.heads = heads;
    this.table = table;
    this.position = position;
    this.interleaved = interleaved;
  }

  /** Any numbers serve as cosines and sines: these are the case tables'. */
  public static Matrix table(int positions, int pairs, int seed) {
    return Matrix.normal(positions, 2 * pairs, Storage.F32, 0.5f, seed, 2);
  }

  /** A position for each row: ascending, or drawn from a stream. */
  public static int[] positions(int rows, int count, boolean ascending, int seed, int stream) {
    Words words = new Words(seed, stream);
    int[] position = new int[rows];
    for (int r = 0; r < rows; r++) {
      position[r] = ascending ? r % count : words.pick(r, count);
    }
    return position;
  }

  /** Elements of a head. */
  public int dim() {
    return input.cols() / heads;
  }

  /** Bytes that must move: input and output, and a line of the table for each row. */
  @Override
  public long bytes() {
    return 2 * input.bytes() + 4L * table.cols() * input.rows();
  }

  /** Throws unless {@code out}, row-major, is right. */
  @Override
  public void check(float[] out) {
    Check.length("elements", input.values().length, out.length);
    for (int r = 0; r < input.rows(); r++) {
      double[] row = Rows.row(input, r);
      rotate(row, heads, table, position[r], interleaved);
      for (int i = 0; i < row.length; i++) {
        Check.close("out", r * row.length + i, row[i], out[r * row.length + i],
            Check.tolerance(input.storage()), 1);
      }
    }
  }

  static void rotate(double[] row, int heads, Matrix table, int position, boolean interleaved) {
    int pairs = table.cols() / 2;
    int dim = row.length / heads;
    for (int h = 0; h < heads; h++) {
      for (int i = 0; i < pairs; i++) {
        int a = h * dim + (interleaved ? 2 * i : i);
        int b = h * dim + (interleaved ? 2 * i + 1 : i + pairs);
        double cos = table.values()[position * 2 * pairs + 2 * i];
        double sin = table.values()[position * 2 * pairs + 2 * i + 1];
        double turned = row[a] * cos - row[b] * sin;
        row[b] = row[b] * cos + row[a] * sin;
        row[a] = turned;
      }
    }
  }
}
