// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.global.exeunt;

/** What a call of the C ABI returned, in the order of its codes. */
public enum Status {
  /** Done, or on CUDA: queued. */
  OK,
  /** An argument is wrong: {@link IllegalArgumentException}. */
  INVALID_ARGUMENT,
  /** The backend has no kernel for these sound arguments: {@link UnsupportedOperationException}. */
  UNSUPPORTED,
  /** The host or the device has not enough memory: {@link OutOfMemoryError}. */
  OUT_OF_MEMORY,
  /** The device's backend is not there: {@link ExeuntException}. */
  BACKEND_UNAVAILABLE,
  /** The backend failed while queueing or running work: {@link ExeuntException}. */
  RUNTIME_FAILURE,
  /** The device context is lost: {@link DeviceLostException}. */
  DEVICE_LOST;

  private static final Status[] BY_CODE = values();

  /** Throws what a status other than 0 stands for, with the native library's sentence about it. */
  static void check(int code) {
    if (code != exeunt.EXN_OK) {
      fail(code, exeunt.exn_last_error());
    }
  }

  /** The same with a sentence that was asked for earlier. */
  static void check(int code, String sentence) {
    if (code != exeunt.EXN_OK) {
      fail(code, sentence);
    }
  }

  private static void fail(int code, String sentence) {
    Status status = code > 0 && code < BY_CODE.length ? BY_CODE[code] : RUNTIME_FAILURE;
    switch (status) {
      case INVALID_ARGUMENT:
        throw new IllegalArgumentException(sentence);
      case UNSUPPORTED:
        throw new UnsupportedOperationException(sentence);
      case OUT_OF_MEMORY:
        throw new OutOfMemoryError(sentence);
      case DEVICE_LOST:
        throw new DeviceLostException(sentence);
      default:
        throw new ExeuntException(status, sentence);
    }
  }
}
