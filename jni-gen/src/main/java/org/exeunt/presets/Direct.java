// SPDX-License-Identifier: Apache-2.0
package org.exeunt.presets;

import java.nio.Buffer;
import java.nio.ByteBuffer;

/**
 * What JavaCPP does through its class Pointer, without that class, whose initialisation takes
 * longer than all the rest of loading. In libjniexeunt.so ({@code lazy.h}), to be used once the
 * binding's class of functions is initialised.
 */
public final class Direct {
  private Direct() {}

  /**
   * A buffer over memory that somebody else frees.
   *
   * @param address of its first byte, not 0
   * @param bytes its size, at most {@code Integer.MAX_VALUE}
   * @return a direct buffer, big-endian as every new one
   */
  public static native ByteBuffer view(long address, long bytes);

  /**
   * Where a direct buffer begins.
   *
   * @param buffer a direct buffer; its position does not matter
   * @return the address of its first element
   */
  public static native long address(Buffer buffer);

  /**
   * Where a struct of the C ABI has a field.
   *
   * @param type the name of its class in the binding, with slashes
   * @param field the field's name, or {@code sizeof} for the size of the struct
   * @return bytes; -1 if there is none
   */
  public static native int offset(String type, String field);

  /** Bytes of a C string before its end. */
  static native long length(long text);

  /** Does what JavaCPP wants to be done before the first struct; false with an exception. */
  static native boolean structs();
}
