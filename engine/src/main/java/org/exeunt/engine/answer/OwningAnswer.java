// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.io.Closeable;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import org.exeunt.engine.decode.DecodeWork;

/** An answer, and what has to be closed after it. */
public final class OwningAnswer implements Answer {
  private final Answer answer;
  private final List<Closeable> parts;

  /** @param parts closed after the answer, the last one first */
  public OwningAnswer(Answer answer, List<Closeable> parts) {
    this.answer = answer;
    this.parts = List.copyOf(parts);
  }

  /** Closes all of them, the last one first. */
  public static void closeAll(List<Closeable> parts) {
    IOException failure = null;
    for (int i = parts.size() - 1; i >= 0; i--) {
      try {
        parts.get(i).close();
      } catch (IOException e) {
        failure = e;
      }
    }
    if (failure != null) {
      throw new UncheckedIOException(failure);
    }
  }

  @Override
  public void begin(int... prompt) {
    answer.begin(prompt);
  }

  @Override
  public void resume(int... more) {
    answer.resume(more);
  }

  @Override
  public int next() {
    return answer.next();
  }

  @Override
  public void goOn() {
    answer.goOn();
  }

  @Override
  public int position() {
    return answer.position();
  }

  @Override
  public DecodeWork work() {
    return answer.work();
  }

  @Override
  public boolean abstained() {
    return answer.abstained();
  }

  @Override
  public void close() {
    answer.close();
    closeAll(parts);
  }
}
