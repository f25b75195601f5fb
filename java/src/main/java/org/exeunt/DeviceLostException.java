// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * The device context is lost (a kernel faulted, the device was reset). Nothing works on that device
 * until the process restarts; the CPU backend is not affected.
 */
public final class DeviceLostException extends ExeuntException {
  private static final long serialVersionUID = 1L;

  DeviceLostException(String message) {
    super(Status.DEVICE_LOST, message);
  }
}
