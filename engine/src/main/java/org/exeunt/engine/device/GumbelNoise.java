// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device;

import java.nio.FloatBuffer;
import java.util.SplittableRandom;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;

/**
 * Noise that turns an argmax into a draw (the Gumbel-max trick): with independent g of the standard
 * Gumbel distribution, argmax(z + T g) is a draw from softmax(z / T). It does not depend on what is
 * drawn, so the host makes the next token's while the device is busy with this one's.
 */
public final class GumbelNoise {
  private final double temperature;
  private final SplittableRandom random;

  /**
   * @param temperature divides the logits; positive
   * @param seed of the draws
   */
  public GumbelNoise(double temperature, long seed) {
    if (!(temperature > 0)) {
      throw new IllegalArgumentException("temperature " + temperature + " must be above 0");
    }
    this.temperature = temperature;
    random = new SplittableRandom(seed);
  }

  /** T g for each logit. */
  void fill(FloatBuffer noise) {
    for (int i = 0; i < noise.capacity(); i++) {
      double open = random.nextDouble() + 0x1p-54; // 53 bits, moved off 0; rounds to 1 at most
      noise.put(i, (float) (-temperature * Math.log(-Math.log(Math.min(open, 1 - 0x1p-53)))));
    }
  }

  /**
   * The same for the next tokens of some sequences: a round of drafts takes up as many as turn out
   * to be right, and the next round begins after them.
   */
  public static final class Lanes {
    private final GumbelNoise[] noise;
    private final int rows;
    private final Tensor there;
    private final Tensor[] written; // of each sequence a ring
    private final FloatBuffer[] floats;
    private final long[] made;
    private final long[] next;

    /** @param rows of a round, for each sequence */
    public Lanes(Scope scope, Device device, int vocabulary, int rows, GumbelNoise... noise) {
      this.noise = noise;
      this.rows = rows;
      int ring = 2 * rows;
      there = scope.allocate(device, DType.F32, (long) noise.length * rows, vocabulary);
      written = new Tensor[noise.length * ring];
      floats = new FloatBuffer[written.length];
      for (int i = 0; i < written.length; i++) {
        written[i] = scope.allocatePinned(device, DType.F32, vocabulary);
        floats[i] = written[i].floatBuffer();
      }
      made = new long[noise.length];
      next = new long[noise.length];
    }

    /** [S*rows,V] */
    public Tensor tensor() {
      return there;
    }

    /** A sequence has so many more tokens; the copies that were queued before are done. */
    public void took(int sequence, int tokens) {
      next[sequence] += tokens;
    }

    /** Queues the copy of the next tokens' noise. */
    public void send(int sequence, Stream stream) {
      for (int i = 0; i < rows; i++) {
        send(sequence, i, sequence * rows + i, stream);
      }
    }

    /** Queues the copy of one token's noise to the first row. */
    public void sendFirst(int sequence, Stream stream) {
      send(sequence, 0, 0, stream);
    }

    private void send(int sequence, int ahead, int row, Stream stream) {
      long token = next[sequence] + ahead;
      make(sequence, token + 1);
      there.row(row).copyFrom(written[place(sequence, token)], stream);
    }

    /** Makes more, meanwhile: that of no token which may be sent is overwritten. */
    public void prepare(int sequence) {
      make(sequence, next[sequence] + 2L * rows);
    }

    private void make(int sequence, long tokens) {
      for (; made[sequence] < tokens; made[sequence]++) {
        noise[sequence].fill(floats[place(sequence, made[sequence])]);
      }
    }

    private int place(int sequence, long token) {
      int ring = 2 * rows;
      return sequence * ring + (int) (token % ring);
    }
  }

  /** Where a device reads it, and two places to write it, in turn. */
  static final class Lane {
    private final GumbelNoise noise;
    private final Tensor there;
    private final Tensor[] written = new Tensor[2];
    private final FloatBuffer[] floats = new FloatBuffer[2];
    private int turn;
    private boolean prepared;

    Lane(Scope scope, Device device, int vocabulary, GumbelNoise noise) {
      this.noise = noise;
      there = scope.allocate(device, DType.F32, 1, vocabulary);
      for (int i = 0; i < written.length; i++) {
        written[i] = scope.allocatePinned(device, DType.F32, 1, vocabulary);
        floats[i] = written[i].floatBuffer();
      }
    }

    /** [1,V] */
    Tensor tensor() {
      return there;
    }

    /** Makes the next token's; the copy before the last must be done. */
    void prepare() {
      noise.fill(floats[turn]);
      prepared = true;
    }

    /** Queues the copy of the next token's. */
    void send(Stream stream) {
      if (!prepared) {
        prepare();
      }
      there.copyFrom(written[turn], stream);
      turn ^= 1;
      prepared = false;
    }
  }
}
