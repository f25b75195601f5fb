// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import jdk.jfr.FlightRecorder;

/**
 * Whether JDK Flight Recorder has been started. A class of events takes a new JVM a quarter of a
 * second, so none is loaded before; a program may also run without the module {@code jdk.jfr}.
 */
final class Jfr {
  private static final boolean PRESENT = present();

  private static final int UNUSED = 0;
  private static final int READY = 1;
  private static final int FAILED = 2;

  private static volatile int state = UNUSED;

  private Jfr() {}

  /** True if {@link Records} may be used; costs a comparison where nobody records. */
  static boolean records() {
    return PRESENT && FlightRecorder.isInitialized() && ready();
  }

  private static boolean ready() {
    return state == READY || state == UNUSED && prepare();
  }

  private static synchronized boolean prepare() {
    if (state == UNUSED) {
      try {
        Records.prepare();
        state = READY;
      } catch (RuntimeException | LinkageError | StackOverflowError e) {
        state = FAILED; // ops run all the same
      }
    }
    return state == READY;
  }

  private static boolean present() {
    try {
      FlightRecorder.isInitialized();
      return true;
    } catch (LinkageError e) {
      return false;
    }
  }
}
