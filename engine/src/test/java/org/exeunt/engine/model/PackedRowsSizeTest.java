// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.exeunt.engine.model.gguf.GgufBuilder;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PackedRowsSizeTest {
  private static final int Q4_0 = 2; // GGUF's number of it

  @TempDir Path folder;

  /** In a sparse file. */
  @Test
  void aMatrixAboveWhatIsMappedAtOnceIsNotPacked() throws IOException {
    Path model =
        GgufBuilder.start(1, 0)
            .tensor("m", Q4_0, 0, 1 << 20, 1 << 12)
            .pad(32)
            .write(folder.resolve("big.gguf"));
    try (RandomAccessFile file = new RandomAccessFile(model.toFile(), "rw")) {
      file.setLength(3L << 30);
    }
    Path place = folder.resolve("big.packed");
    try (GgufFile file = GgufFile.open(model)) {
      assertTrue(file.tensors().get("m").bytes() > ModelFile.MOST_AT_ONCE);
      assertNull(PackedRows.of(file, List.of("m"), place, null));
    }
    assertFalse(Files.exists(place));
  }
}
