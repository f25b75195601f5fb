// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * A case of an op: its inputs, what a right result is, and what must be moved and computed.
 *
 * @param <R> what a run delivers
 */
public abstract class Problem<R> {
  private final String op;

  protected Problem(String op) {
    this.op = op;
  }

  /** The name under which contenders offer the op. */
  public final String op() {
    return op;
  }

  /** Throws unless the result is right. */
  public abstract void check(R result);

  /** Bytes that must be read and written. */
  public abstract long bytes();

  /** Of them those that are written elsewhere as they were read, once; they count twice. */
  public long moved() {
    return 0;
  }

  /** Multiply-adds that must be done; 0 for an op that does few for each byte. */
  public long multiplyAdds() {
    return 0;
  }
}
