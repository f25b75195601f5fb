// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Path;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TextStreamTest {
  /** Bytes as byte-level vocabularies spell them: those of €, a stray one, and two letters. */
  private static final String[] TOKENS = {"<end>", "â", "Ĥ", "¬", "ÿ", "a", "aâĤ"};

  @TempDir Path folder;
  private TextStream stream;

  @BeforeEach
  void open() throws IOException {
    var metadata = TinyModel.metadata();
    metadata.put("tokenizer.ggml.tokens", TOKENS);
    metadata.put("tokenizer.ggml.token_type", new int[] {3, 1, 1, 1, 1, 1, 1});
    try (GgufFile file =
             GgufFile.open(TinyModel.write(folder.resolve("tiny.gguf"), metadata, null))) {
      stream = new TextStream(new Tokenizer(file));
    }
  }

  @Test
  void aCharacterComesOutWhenItIsWhole() {
    assertEquals("", stream.add(1));
    assertEquals("", stream.add(2));
    assertEquals("€", stream.add(3));
    assertEquals("a", stream.add(6));
    assertEquals("€a", stream.add(3) + stream.add(5));
    assertEquals("", stream.finish());
  }

  @Test
  void whatNeverBecomesACharacterIsReplaced() {
    assertEquals("\ufffd", stream.add(4));
    assertEquals("", stream.add(1));
    assertEquals("\ufffda", stream.add(5));
    assertEquals("", stream.add(1) + stream.add(2));
    assertEquals("\ufffd", stream.finish());
    assertEquals("a<end>", stream.add(5) + stream.add(0));
  }
}
