// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import org.exeunt.jni.exn_pack_info;
import org.exeunt.jni.exn_pack_params;
import org.exeunt.jni.global.exeunt;

/**
 * Weights in the order in which this machine reads them fastest, in as many bytes.
 *
 * <p>Quantised ones have less to do for each batch of rows, and the same results bit for bit. The
 * ops that take blocks ({@link Linear}, {@link ExitHead}, {@link Ffn}, {@link KvPropagate}, {@link
 * Gate}) take {@link #rows} with {@link #format} in their place; an {@link Embedding} and a {@link
 * Screen} do not. Only instruction sets that multiply bytes want another order ({@code vnni}, {@code
 * avx512}, {@code amx}); for others the rows are packed as they are, and the format remains what it
 * was.
 *
 * <p>F32, F16 and BF16 are arranged in panels of 32 rows, which {@link Linear} alone takes, on every
 * instruction set. That pays most for many rows of inputs; results differ in the last bits. Where
 * inputs and weights are both BF16, processors that multiply BF16 natively are faster without.
 *
 * <pre>{@code
 * try (Packed packed = Packed.of(weight, BlockFormat.Q4_K)) {
 *   Linear.builder().input(input).weight(packed.rows()).weightBlocks(packed.format()).out(out)
 *       .runOnce();
 * }
 * }</pre>
 *
 * <p>It is kept as a file with checksums, which {@link #open} maps. CPU only.
 *
 * <p>Thread-safe.
 */
public final class Packed implements AutoCloseable {
  private final Scope scope; // null: a file is mapped
  private volatile Tensor image; // null: closed
  private final Tensor rows;
  private final long columns;
  private final BlockFormat format;

  private Packed(Scope scope, Tensor image) {
    this.scope = scope;
    this.image = image;
    int size = Params.offset(exn_pack_info.class, "sizeof");
    long at = Memory.allocate(Memory.Use.WORKSPACE, Device.CPU, size);
    try {
      Image.call(new Params(exn_pack_params.class).tensor("image", image),
          block -> exeunt.exn_pack_check(block, at));
      ByteBuffer info = Memory.view(at, size);
      columns = info.getLong(of("columns"));
      format = BlockFormat.ofTag(info.getInt(of("blocks")));
      rows = image.reinterpret(DType.U8, info.getLong(of("offset")), info.getLong(of("rows")),
          info.getLong(of("row_bytes")));
    } finally {
      Memory.free(Memory.Use.WORKSPACE, Device.CPU, at, size);
    }
  }

  private static int of(String field) {
    return Params.offset(exn_pack_info.class, field);
  }

  /**
   * Packs rows for the instruction set in use. Everything is read and written once.
   *
   * @param weight [N, bytes of a row], U8, on the CPU, last stride 1
   * @param format what blocks its rows are made of; packed ones are refused
   * @return packed rows to close when done
   * @throws IllegalArgumentException if an argument is wrong, naming it and the values that
   *     disagree
   * @throws OutOfMemoryError if there is no memory for them
   * @throws IllegalStateException if the scope of the weight is closed
   */
  public static Packed of(Tensor weight, BlockFormat format) {
    Named.present("weight", weight);
    Named.present("format", format);
    return made(weight, format);
  }

  /**
   * Arranges rows without blocks in panels. Everything is read and written once.
   *
   * @param weight [N,D], F32, F16 or BF16, on the CPU, last stride 1
   * @return packed rows to close when done
   * @throws IllegalArgumentException if the weight is wrong, naming it and the values that disagree
   * @throws OutOfMemoryError if there is no memory for them
   * @throws IllegalStateException if the scope of the weight is closed
   */
  public static Packed of(Tensor weight) {
    Named.present("weight", weight);
    return made(weight, null);
  }

  private static Packed made(Tensor weight, BlockFormat format) {
    Native.require();
    long[] bytes = new long[1];
    Image.call(params(weight, format), block -> exeunt.exn_pack_size(block, bytes));
    Scope scope = Scope.open();
    boolean done = false;
    try {
      Tensor image = scope.allocate(Device.CPU, DType.U8, bytes[0]);
      Image.call(params(weight, format).tensor("image", image), exeunt::exn_pack_build);
      Packed made = new Packed(scope, image);
      done = true;
      return made;
    } finally {
      if (!done) {
        scope.close();
      }
    }
  }

  private static Params params(Tensor weight, BlockFormat format) {
    return new Params(exn_pack_params.class)
        .tensor("weight", weight)
        .int32("weight_blocks", BlockFormat.tagOf(format));
  }

  /**
   * Maps a file that {@link #save} wrote, and reads it once to check it.
   *
   * @param file its path, below 2 GiB; must not change while the rows are in use
   * @return the rows, whose memory is the file's pages
   * @throws IOException if the file cannot be read or mapped
   * @throws IllegalArgumentException if it holds no packed rows, those of another version, or is
   *     damaged
   * @throws UnsupportedOperationException if the instruction set in use cannot read its rows
   */
  public static Packed open(Path file) throws IOException {
    return new Packed(null, Image.map(file));
  }

  /**
   * Writes the rows to a file: beside it first, then renamed, so that no one sees half of it.
   *
   * @param file the path; what is there is replaced
   * @throws IOException if it cannot be written; Windows replaces no file that is mapped ({@link
   *     #open}), which it is until the garbage collector has found that its rows are out of use
   * @throws IllegalStateException if this is closed
   */
  public void save(Path file) throws IOException {
    Image.save(image(), file);
  }

  private Tensor image() {
    Tensor now = image;
    if (now == null) {
      throw new IllegalStateException("the packed rows are closed");
    }
    return now;
  }

  /**
   * The rows, as ops take them with {@link #format}.
   *
   * @return [N, bytes of a row], U8; valid until this closes
   * @throws IllegalStateException if this is closed
   */
  public Tensor rows() {
    image();
    return rows;
  }

  /**
   * Elements of a row.
   *
   * @return their number
   */
  public long columns() {
    return columns;
  }

  /**
   * What the rows are made of.
   *
   * @return the format, packed or as it was, or that of panels
   */
  public BlockFormat format() {
    return format;
  }

  /**
   * Frees the memory of rows that were packed. That of a mapped file is its file's pages, and goes
   * with the garbage collector. Closing twice is allowed.
   *
   * @throws IllegalStateException if an op that uses them is running, or they are being saved
   */
  @Override
  public void close() {
    if (scope != null) {
      scope.close();
    }
    image = null;
  }
}
