// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import java.util.List;
import org.exeunt.engine.model.io.ModelFile;

/**
 * Where a tensor lies in its file.
 *
 * @param name its name
 * @param type how its elements are stored
 * @param rows all dimensions but the fastest, multiplied
 * @param columns the fastest dimension, i.e. the length of a row
 * @param dimensions the file's dimensions, fastest first
 * @param offset first byte, from the start of the file
 */
public record GgufTensor(
    String name, GgmlType type, long rows, long columns, List<Long> dimensions, long offset) {
  /** Bytes of one row. */
  public long rowBytes() {
    return columns / type.blockElements() * type.blockBytes();
  }

  /** Bytes of the whole tensor. */
  public long bytes() {
    return rows * rowBytes();
  }

  /** Where it lies. */
  ModelFile.Range range() {
    return new ModelFile.Range(offset, offset + bytes());
  }
}
