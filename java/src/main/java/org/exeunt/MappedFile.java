// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.io.IOException;
import java.lang.ref.Cleaner;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import org.exeunt.jni.global.exeunt;
import org.exeunt.presets.Direct;

/**
 * Part of a file, mapped for reading: weights, say, that ops read in place.
 *
 * <p>Where another process cuts the file meanwhile, a read of what is gone would end this one. Here
 * it finds zeros instead, in ops and through buffers, and {@link #isWhole} is false from then on:
 * ask after a run, and before its results are used. What is overwritten in the file changes here,
 * without a notice; who has to know compares the file's date. The header {@code mapping.h} says how
 * it works: by a handler of SIGBUS in front of the JVM's, which {@code -Xcheck:jni} reports. Where
 * {@code libjsig} puts it after, what Java code itself reads in vain is an {@link InternalError}, as
 * in every mapped buffer.
 *
 * <p>The pages are given back when neither this object nor its tensor, nor one that was made of it,
 * is reachable any more. Thread-safe.
 */
public final class MappedFile {
  private final Tensor tensor;

  private MappedFile(Tensor tensor) {
    this.tensor = tensor;
  }

  /** Ends the guard before the pages go: it holds the buffer that they go with. */
  private record Release(ByteBuffer mapped) implements Runnable {
    private static final Cleaner CLEANER = Cleaner.create();

    @Override
    public void run() {
      exeunt.exn_mapping_release(Direct.address(mapped));
    }
  }

  /**
   * Maps some bytes of a file.
   *
   * @param channel open for reading; may be closed afterwards
   * @param offset the first of them
   * @param bytes how many, 1 to 2<sup>31</sup> - 1
   * @return the mapping
   * @throws IllegalArgumentException if {@code channel} is null, or the bytes do not lie inside the
   *     file
   * @throws IOException if they cannot be mapped
   * @throws OutOfMemoryError if there is no room for them in memory
   */
  public static MappedFile of(FileChannel channel, long offset, long bytes) throws IOException {
    Native.require();
    long size = Named.present("channel", channel).size();
    if (offset < 0 || bytes < 1 || bytes > Integer.MAX_VALUE || offset > size - bytes) {
      throw new IllegalArgumentException("bytes is " + bytes + " and offset " + offset
          + ", which is not 1 to " + Integer.MAX_VALUE + " bytes of the " + size
          + " that the file has");
    }
    ByteBuffer mapped = channel.map(FileChannel.MapMode.READ_ONLY, offset, bytes);
    Status.check(exeunt.exn_mapping_guard(Direct.address(mapped), bytes));
    ByteBuffer given = mapped.duplicate(); // what tensors keep reachable
    Release.CLEANER.register(given, new Release(mapped));
    return new MappedFile(Tensor.of(given, DType.U8, bytes));
  }

  /**
   * The bytes.
   *
   * @return [bytes], U8, read-only; keeps them mapped
   */
  public Tensor tensor() {
    return tensor;
  }

  /**
   * Whether every read so far has found what the file holds. Takes nanoseconds.
   *
   * @return false once a read has found bytes missing
   */
  public boolean isWhole() {
    return exeunt.exn_mapping_check(tensor.address()) == exeunt.EXN_OK;
  }
}
