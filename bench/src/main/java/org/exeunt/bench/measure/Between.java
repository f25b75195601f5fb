// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.Collection;
import java.util.List;
import org.openjdk.jmh.results.Result;

/** What a calling thread does between the calls that JMH times, and what it finds out by that. */
public interface Between extends AutoCloseable {
  /** Comes before the calls of an iteration. */
  default void begin() {}

  /** Comes before each call. */
  default void before() {}

  /** Comes after each call. */
  default void after() {}

  /** What was found out in the iteration that has ended. */
  default Collection<Result<?>> results() {
    return List.of();
  }

  @Override
  default void close() {}
}
