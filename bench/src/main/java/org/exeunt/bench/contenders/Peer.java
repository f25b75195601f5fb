// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

/** A contender with results of its own; what is not asked of it, flags and counts, is exeunt's. */
public interface Peer extends Contender {
  /** Copies what the last run gave into the outputs of the problem, where it is judged. */
  void deliver();

  /** How far a result may be off, beside {@link Problem#PEERS} times the bound of exeunt. */
  default double more() {
    return 0;
  }
}
