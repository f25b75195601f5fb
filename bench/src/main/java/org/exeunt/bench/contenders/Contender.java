// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

/**
 * One implementation of an op, set up on one problem: what a benchmark times.
 *
 * @param <R> what a run delivers
 */
public interface Contender<R> extends AutoCloseable {
  /** Runs the op once. The return value only keeps the compiler from dropping the run. */
  Object run();

  /** What the last run delivered, as the reference checks it. */
  R result();

  @Override
  default void close() {}
}
