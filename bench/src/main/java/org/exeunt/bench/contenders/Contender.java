// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

/** One implementation of an op, set up on one problem: what a benchmark times. */
public interface Contender extends AutoCloseable {
  /** Runs the op once. The return value only keeps the compiler from dropping the run. */
  Object run();

  @Override
  default void close() {}
}
