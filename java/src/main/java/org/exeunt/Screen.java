// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import org.exeunt.jni.exn_screen_info;
import org.exeunt.jni.exn_screen_params;
import org.exeunt.jni.global.exeunt;
import org.jspecify.annotations.Nullable;

/**
 * A form of an LM head that takes about a third of its BF16 bytes and tells which few rows of it
 * may hold the largest logit, with a proof: an {@link ExitHead} reads it in place of the head, then
 * the rows that remain of the head itself, and has the full head's argmax.
 *
 * <p>It is made once per model from the head and calibration states, as the head sees them (after
 * the final norm): at least D of them, and one more for each level. A level is what the states of a
 * place have in common, such as the depth of an exit. The rows are rotated into the states'
 * principal directions and quantised there, more finely where that counts, and beside them lie the
 * exact norms of what that lost. The header {@code screen.h} has the bounds and their proof.
 *
 * <p>A screen is kept as a file with digests of its head and of itself. {@link #open} reads and
 * checks it, and {@link #map} takes it on trust but for its header. Whether it was made of a certain
 * head only {@link #check} tells, which reads both once; a screen of another head gives wrong
 * answers. It is made and checked on the CPU; an exit head on CUDA takes a copy of its {@link
 * #image} in device memory.
 *
 * <p>Thread-safe.
 */
public final class Screen implements AutoCloseable {
  /** How an exit head bounds the errors of the screen's logits. */
  public enum Bounds {
    /** As is proven: what it says is certain. */
    PROVEN(exeunt.EXN_SCREEN_PROVEN),
    /**
     * By a number of standard deviations ({@link ExitHead.Builder#screenFactor}): fewer rows to
     * read, and likely. {@link Screen#worstRatio} is what was seen.
     */
    CALIBRATED(exeunt.EXN_SCREEN_CALIBRATED);

    final int code;

    Bounds(int code) {
      this.code = code;
    }
  }

  private final Scope scope; // null: a file is mapped
  private volatile Tensor image; // null: closed
  private final long vocabulary;
  private final long dim;
  private final long states;
  private final int levelCount;
  private final float bitsPerWeight;
  private final float worstRatio;

  private Screen(Scope scope, Tensor image, Params params) {
    this.scope = scope;
    this.image = image;
    int size = Params.offset(exn_screen_info.class, "sizeof");
    long at = Memory.allocate(Memory.Use.WORKSPACE, Device.CPU, size);
    try {
      Image.call(params.tensor("image", image), block -> exeunt.exn_screen_check(block, at));
      ByteBuffer info = Memory.view(at, size);
      vocabulary = info.getLong(of("vocabulary"));
      dim = info.getLong(of("dim"));
      states = info.getLong(of("states"));
      levelCount = info.getInt(of("level_count"));
      bitsPerWeight = info.getFloat(of("bits_per_weight"));
      worstRatio = info.getFloat(of("worst_ratio"));
    } finally {
      Memory.free(Memory.Use.WORKSPACE, Device.CPU, at, size);
    }
  }

  private static Params headerOnly() {
    return new Params(exn_screen_params.class).int32("header_only", 1);
  }

  private static Params madeOf(Tensor weight, BlockFormat blocks) {
    return new Params(exn_screen_params.class)
        .tensor("weight", Named.present("weight", weight))
        .int32("weight_blocks", BlockFormat.tagOf(blocks));
  }

  private static int of(String field) {
    return Params.offset(exn_screen_info.class, field);
  }

  /**
   * Starts building: one level, 5 bits per weight.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Reads a file that {@link #save} wrote, and checks all of it.
   *
   * @param file its path, below 2 GiB; may change afterwards
   * @return the screen, to close when done
   * @throws IOException if the file cannot be read
   * @throws IllegalArgumentException if it is no screen, of another version, or damaged
   * @throws OutOfMemoryError if there is no memory for it
   */
  public static Screen open(Path file) throws IOException {
    return open(file, new Params(exn_screen_params.class));
  }

  /**
   * Reads a file that {@link #save} wrote, and checks all of it, and that it was made of a head, as
   * {@link #check} does: everything is read once.
   *
   * @param file its path, below 2 GiB; may change afterwards
   * @param weight [V,D], F32, F16 or BF16, or blocks in a U8 tensor, on the CPU
   * @param blocks what blocks its rows are made of; null: elements of its type
   * @return the screen, to close when done
   * @throws IOException if the file cannot be read
   * @throws IllegalArgumentException if it is no screen, of another version, damaged, or of another
   *     head
   * @throws OutOfMemoryError if there is no memory for it
   */
  public static Screen open(Path file, Tensor weight, @Nullable BlockFormat blocks)
      throws IOException {
    return open(file, madeOf(weight, blocks));
  }

  private static Screen open(Path file, Params params) throws IOException {
    Native.require();
    Scope scope = Scope.open();
    boolean done = false;
    try {
      Screen opened = new Screen(scope, Image.read(scope, file), params);
      done = true;
      return opened;
    } finally {
      if (!done) {
        scope.close();
      }
    }
  }

  /**
   * Maps a file that {@link #save} wrote, and looks at its header alone, in microseconds: for files
   * that were checked when they came. Numbers that are damaged make wrong answers, no stray reads.
   *
   * @param file its path, below 2 GiB; must not change while the screen is in use
   * @return the screen, whose memory is the file's pages
   * @throws IOException if the file cannot be read or mapped
   * @throws IllegalArgumentException if it does not begin as a screen, or is not as long as it says
   */
  public static Screen map(Path file) throws IOException {
    return new Screen(null, Image.map(file), headerOnly());
  }

  /**
   * Writes the screen to a file: beside it first, renamed once it is on the disk, so that no one ever
   * sees half of it, whatever else writes it at the same time. What a process that was killed at this
   * has left is removed; where it fails, nothing is left.
   *
   * @param file the path; what is there is replaced
   * @throws IOException if it cannot be written
   * @throws IllegalStateException if this screen is closed
   */
  public void save(Path file) throws IOException {
    Image.save(image(), file);
  }

  /**
   * Checks that this screen was made of a head, by its shape, type and content; reads both once.
   *
   * @param weight [V,D], F32, F16 or BF16, or blocks in a U8 tensor, on the CPU
   * @param blocks what blocks its rows are made of; null: elements of its type
   * @throws IllegalArgumentException if it was not, or is damaged, with the reason
   * @throws IllegalStateException if this screen is closed
   */
  public void check(Tensor weight, @Nullable BlockFormat blocks) {
    Image.call(madeOf(weight, blocks).tensor("image", image()),
        block -> exeunt.exn_screen_check(block, 0));
  }

  /**
   * The bytes, as {@link ExitHead.Builder#screenImage} takes them.
   *
   * @return [bytes], U8; valid until this screen closes
   * @throws IllegalStateException if this screen is closed
   */
  public Tensor image() {
    Tensor now = image;
    if (now == null) {
      throw new IllegalStateException("the screen is closed");
    }
    return now;
  }

  /**
   * Rows of the head.
   *
   * @return V
   */
  public long vocabulary() {
    return vocabulary;
  }

  /**
   * Columns of the head.
   *
   * @return D
   */
  public long dim() {
    return dim;
  }

  /**
   * States it was calibrated with.
   *
   * @return their number
   */
  public long states() {
    return states;
  }

  /**
   * Levels of hidden states.
   *
   * @return 1 or more
   */
  public int levelCount() {
    return levelCount;
  }

  /**
   * Bits for each element of the head.
   *
   * @return the bits, scales included
   */
  public float bitsPerWeight() {
    return bitsPerWeight;
  }

  /**
   * The evidence for {@link Bounds#CALIBRATED}: the largest error seen with calibration states and
   * all rows.
   *
   * @return in standard deviations
   */
  public float worstRatio() {
    return worstRatio;
  }

  /**
   * Frees the screen's memory. That of a mapped file is its file's pages, and goes with the garbage
   * collector. Closing twice is allowed.
   *
   * @throws IllegalStateException if an op that uses it is running, or it is being saved
   */
  @Override
  public void close() {
    if (scope != null) {
      scope.close();
    }
    image = null;
  }

  /** Arguments of a {@link Screen}. */
  public static final class Builder {
    private Tensor weight;
    private BlockFormat weightBlocks;
    private Tensor states;
    private Tensor levels;
    private int levelCount = 1;
    private float bitsPerWeight;

    private Builder() {}

    /**
     * The LM head.
     *
     * @param tensor in, [V,D], F32, F16 or BF16, or blocks in a U8 tensor ({@link #weightBlocks}),
     *     last stride 1, finite; D up to 16384
     * @return this
     */
    public Builder weight(Tensor tensor) {
      weight = tensor;
      return this;
    }

    /**
     * What blocks the rows of the LM head are made of.
     *
     * @param format the format; null, the default: elements of the weight's type
     * @return this
     */
    public Builder weightBlocks(@Nullable BlockFormat format) {
      weightBlocks = format;
      return this;
    }

    /**
     * Hidden states after the final norm, of all levels.
     *
     * @param tensor in, [N,D], F32, last stride 1, finite; N at least D and one more for each level
     * @return this
     */
    public Builder states(Tensor tensor) {
      states = tensor;
      return this;
    }

    /**
     * The level of each state.
     *
     * @param tensor in, [N], I32, compact, entries from 0 to {@code count - 1}, each of which occurs;
     *     null: all are of level 0
     * @param count levels, 1 to 1024
     * @return this
     */
    public Builder levels(@Nullable Tensor tensor, int count) {
      levels = tensor;
      levelCount = count;
      return this;
    }

    /**
     * How finely the rows are stored.
     *
     * @param bits 4.5 to 8.5, scales included; 0, the default, means 5
     * @return this
     */
    public Builder bitsPerWeight(float bits) {
      bitsPerWeight = bits;
      return this;
    }

    /**
     * Makes the screen: in seconds for a head of 262144 rows of 640 columns.
     *
     * @return a screen to close when done
     * @throws IllegalArgumentException if an argument is wrong, naming it and the values that
     *     disagree
     * @throws OutOfMemoryError if there is no memory for it
     * @throws IllegalStateException if the scope of a tensor is closed
     */
    public Screen build() {
      Native.require();
      long[] bytes = new long[1];
      Image.call(params(), block -> exeunt.exn_screen_size(block, bytes));
      Scope scope = Scope.open();
      boolean done = false;
      try {
        Tensor image = scope.allocate(Device.CPU, DType.U8, bytes[0]);
        Image.call(
            params().tensor("states", states).tensor("levels", levels).tensor("image", image),
            exeunt::exn_screen_build);
        Screen made = new Screen(scope, image, headerOnly());
        done = true;
        return made;
      } finally {
        if (!done) {
          scope.close();
        }
      }
    }

    private Params params() {
      return new Params(exn_screen_params.class)
          .tensor("weight", weight)
          .int32("weight_blocks", BlockFormat.tagOf(weightBlocks))
          .int32("level_count", levelCount)
          .float32("bits_per_weight", bitsPerWeight);
    }
  }
}
