// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Rotary position embedding (Su et al. 2021) of the heads of each row, [R,H,dh] to [R,H,dh].
 *
 * <p>The first n elements of a head are rotated, where the table has n/2 columns; the rest is
 * copied. A pair (a, b) becomes {@code (a cos - b sin, b cos + a sin)} at the row's position;
 * {@link Style} says which elements are a pair. A position of -1 switches a row off: its output is
 * untouched. Any other outside the table is an {@link IllegalArgumentException} on the CPU, with
 * nothing written; on CUDA, where a run cannot read positions, the rotated elements of that row are
 * NaN.
 *
 * <p>Bytes that must move: input and output once, {@code 4 n} of table for each row.
 *
 * <p>Errors, threads, alignment: {@link Op}. The output may be exactly the input.
 */
public final class Rope extends Op {
  /** Which two elements of a head are turned together. */
  public enum Style {
    /** {@code (x[2i], x[2i+1])}: GGUF's Llama layout, GPT-J. */
    INTERLEAVED(exeunt.EXN_ROPE_INTERLEAVED),
    /** {@code (x[i], x[i + n/2])}: Hugging Face's layout, GPT-NeoX. */
    HALF(exeunt.EXN_ROPE_HALF);

    final int code;

    Style(int code) {
      this.code = code;
    }
  }

  /**
   * Allocates and fills a table without scaling; for one with scaling see {@link RopeTable}.
   *
   * @param scope owns the memory
   * @param device device of the other tensors
   * @param positions T, 0 or more
   * @param rotated n, the elements of a head that are rotated, even; often all of them
   * @param base of the frequencies, often 10000
   * @return [T,n/2,2], F32
   */
  public static Tensor table(
      Scope scope, Device device, long positions, long rotated, double base) {
    if (rotated % 2 != 0) {
      throw new IllegalArgumentException(
          "rotated: " + rotated + " is odd, expected an even number");
    }
    Tensor table =
        Named.present("scope", scope).allocate(device, DType.F32, positions, rotated / 2, 2);
    try {
      RopeTable.builder().table(table).base(base).runOnce();
    } catch (RuntimeException | Error e) {
      scope.discard(e, table);
      throw e;
    }
    return table;
  }

  public static final class Builder extends Op.Builder<Rope> {
    private Style style = Style.HALF;

    /**
     * Cosines and sines.
     *
     * @param tensor {table}; see {@link RopeTable}
     * @param pairs which elements are a pair
     * @return this
     */
    public Builder table(Tensor tensor, Style pairs) {
      table = tensor;
      style = Named.present("style", pairs);
      return this;
    }
  }
}
