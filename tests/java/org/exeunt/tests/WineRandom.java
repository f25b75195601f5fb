// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.nio.ByteBuffer;
import java.security.Provider;
import java.security.SecureRandomSpi;
import java.util.SplittableRandom;

/**
 * Random names of temporary files for a Windows JDK under Wine, whose own generator asks the network
 * adapters for entropy, by a function that Wine 8 lacks. For tests alone (platform_test.py).
 */
public final class WineRandom extends Provider {
  private static final long serialVersionUID = 1;

  public WineRandom() {
    super("WineRandom", "1", "random names of temporary files");
    put("SecureRandom.WineRandom", Generator.class.getName());
  }

  /** Anything but secure. */
  public static final class Generator extends SecureRandomSpi {
    private static final long serialVersionUID = 1;

    private final transient SplittableRandom random =
        new SplittableRandom(System.nanoTime() ^ ProcessHandle.current().pid() << 40);

    @Override
    protected void engineSetSeed(byte[] seed) {}

    @Override
    protected void engineNextBytes(byte[] bytes) {
      ByteBuffer left = ByteBuffer.wrap(bytes);
      while (left.remaining() >= Long.BYTES) {
        left.putLong(random.nextLong());
      }
      while (left.hasRemaining()) {
        left.put((byte) random.nextInt());
      }
    }

    @Override
    protected byte[] engineGenerateSeed(int bytes) {
      byte[] seed = new byte[bytes];
      engineNextBytes(seed);
      return seed;
    }
  }
}
