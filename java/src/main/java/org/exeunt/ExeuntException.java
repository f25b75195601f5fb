// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * A native call failed for a reason that has no exception of the Java library: the backend is not
 * there, or it failed while queueing or running work. Outputs of the failed call are undefined when
 * the status is {@link Status#RUNTIME_FAILURE} or {@link Status#DEVICE_LOST}; otherwise nothing was
 * written.
 */
public class ExeuntException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final Status status;

  ExeuntException(Status status, String message) {
    super(message);
    this.status = status;
  }

  /**
   * What the native call returned.
   *
   * @return the status, never {@link Status#OK}
   */
  public Status status() {
    return status;
  }
}
