// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.jni.global.exeunt;

/**
 * Passes through memory on huge pages that read as many bytes as an op must read and write, or copy
 * as many as it must move, in the way that is the fastest there.
 */
final class Passes {
  /** Less memory than this does not come on huge pages. */
  private static final long HUGE_PAGE = 2 << 20;
  /**
   * The last-level cache takes in what comes by again and again: copies of 4.7 MB on a Zen 4 took
   * 389, 268, 164, 119, 112 and from then on 110 us, after others had been there.
   */
  static final int UNTIL_CACHED = 5;
  /** Of each way so many passes are timed in a row, twice at least and for so long. */
  private static final int PASSES = 3;
  private static final long TRIAL_NANOS = 60_000_000;

  /** Read in the same place at each pass. */
  final Parts near;
  /** Read elsewhere at each pass. */
  final Parts far;
  /** Copied from elsewhere at each pass. */
  final Parts from;
  final Parts to;
  private final int untilCached;
  private final long[] checksum = new long[1];
  private int nearWay;
  private int farWay;
  private int copyWay;

  /**
   * Passes in the given scope; any of them may have no bytes.
   *
   * @param near bytes that are read in the same place each time
   * @param far bytes that are read elsewhere each time
   * @param moved bytes that are copied from elsewhere each time
   * @param cache bytes of the cache that a round must not fit into; 0 if it may
   * @param destinations whether what is moved goes elsewhere each time, too
   */
  Passes(Scope scope, long near, long far, long moved, long cache, boolean destinations) {
    untilCached = cache == 0 ? UNTIL_CACHED : 0;
    this.near = new Parts(scope, near, 0);
    this.far = new Parts(scope, far, cache);
    from = new Parts(scope, moved, cache);
    to = new Parts(scope, moved, destinations ? cache : 0);
  }

  /** Neighbours in memory, so many that they do not fit into the cache, and whose turn it is. */
  static final class Parts {
    final Tensor[] parts;
    private int at;

    private Parts(Scope scope, long bytes, long cache) {
      int count = bytes == 0 ? 0 : Streamed.copies(bytes, cache);
      parts = new Tensor[count];
      if (count == 0) {
        return;
      }
      Tensor memory = scope.allocate(DType.U8, Math.max(HUGE_PAGE, count * bytes));
      byte[] pattern = new byte[1 << 16];
      for (int i = 0; i < pattern.length; i++) {
        pattern[i] = (byte) i;
      }
      // In parallel, because a virtual machine takes seconds to come by gigabytes.
      IntStream.range(0, count).parallel().forEach(i -> {
        parts[i] = memory.rows(i * bytes, (i + 1) * bytes);
        // Untouched pages would all be the one page of zeros.
        var buffer = parts[i].byteBuffer();
        while (buffer.hasRemaining()) {
          buffer.put(pattern, 0, Math.min(pattern.length, buffer.remaining()));
        }
      });
    }

    Tensor next() {
      at = at + 1 < parts.length ? at + 1 : 0;
      return parts[at];
    }

    long bytes() {
      return parts.length == 0 ? 0 : parts.length * parts[0].byteSize();
    }
  }

  /** From now on passes go the fastest way. */
  Passes choose() {
    if (near.bytes() > 0) {
      nearWay = fastest(exeunt.EXN_READ_WAYS, UNTIL_CACHED, way -> read(near, way));
    }
    if (far.bytes() > 0) {
      farWay = fastest(exeunt.EXN_READ_WAYS, 0, way -> read(far, way));
    }
    if (from.bytes() > 0) {
      copyWay = fastest(exeunt.EXN_COPY_WAYS, untilCached, this::copy);
    }
    return this;
  }

  /** The way of the shortest median; all take turns, each so often before it is timed. */
  static int fastest(int ways, int untimed, IntConsumer pass) {
    Samples[] samples = Stream.generate(Samples::new).limit(ways).toArray(Samples[] ::new);
    long deadline = System.nanoTime() + TRIAL_NANOS;
    for (int trial = 0; trial < 2 || System.nanoTime() < deadline; trial++) {
      for (int way = 0; way < ways; way++) {
        for (int i = -untimed; i < PASSES; i++) {
          long start = System.nanoTime();
          pass.accept(way);
          if (i >= 0) {
            samples[way].add(System.nanoTime() - start);
          }
        }
      }
    }
    int best = 0;
    for (int way = 1; way < ways; way++) {
      best = samples[way].quantile(0.5) < samples[best].quantile(0.5) ? way : best;
    }
    return best;
  }

  /** One pass. */
  void next() {
    if (near.bytes() > 0) {
      read(near, nearWay);
    }
    if (far.bytes() > 0) {
      read(far, farWay);
    }
    if (from.bytes() > 0) {
      copy(copyWay);
    }
  }

  private void read(Parts parts, int way) {
    Tensor part = parts.next();
    require(exeunt.exn_read_probe(part.address(), part.byteSize(), way, checksum));
  }

  private void copy(int way) {
    Tensor source = from.next();
    long target = to.next().address();
    require(exeunt.exn_copy_probe(target, source.address(), source.byteSize(), way));
  }

  private static void require(int status) {
    if (status != exeunt.EXN_OK) {
      throw new IllegalStateException(exeunt.exn_last_error());
    }
  }

  /** Bytes of the memory of a round. */
  long round() {
    return near.bytes() + far.bytes() + from.bytes() + to.bytes();
  }
}
