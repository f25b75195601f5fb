// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Where a tensor's memory lies.
 *
 * @param backend the backend that runs ops on it
 * @param id its number, 0-based; always 0 for the CPU
 */
public record Device(Backend backend, int id) {
  /** The host's memory. */
  public static final Device CPU = new Device(Backend.CPU, 0);

  /**
   * Checks the number.
   *
   * @param backend the backend that runs ops on it
   * @param id its number, 0-based; always 0 for the CPU
   * @throws IllegalArgumentException if {@code id} is negative, or not 0 for the CPU
   */
  public Device {
    Named.present("backend", backend);
    if (id < 0 || backend == Backend.CPU && id != 0) {
      throw new IllegalArgumentException("device id " + id + " is not one of " + backend);
    }
  }

  /**
   * A CUDA device. Opens nothing; memory is asked for when a {@link Scope} allocates there.
   *
   * <p>Calls run in the CUDA context that is current in the calling thread, if it is one of the
   * device, however it was made; else in the device's primary context. Streams, events, graphs and
   * memory belong to it, so a program with a context of its own makes it current in each thread
   * that calls.
   *
   * @param id device number as the CUDA runtime counts
   * @return the device
   */
  public static Device cuda(int id) {
    return new Device(Backend.CUDA, id);
  }

  /**
   * The device that {@link Scope#allocate(DType, long...)} uses: the CPU, or {@code cuda:0} under
   * {@code -Dexeunt.backend=cuda}.
   *
   * @return the default device
   */
  public static Device defaultDevice() {
    return Backend.defaultBackend() == Backend.CUDA ? cuda(0) : CPU;
  }

  // By hand: those that a record brings are put together at run time, which takes a JVM that has
  // just started longer than its first op.

  @Override
  public boolean equals(Object other) {
    return other instanceof Device device && device.backend == backend && device.id == id;
  }

  @Override
  public int hashCode() {
    return 31 * backend.hashCode() + id;
  }

  @Override
  public String toString() {
    return backend == Backend.CPU ? "cpu" : "cuda:" + id;
  }
}
