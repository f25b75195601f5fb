// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.TestData;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.exeunt.engine.model.io.StrictJson;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestData.NeedsModel.class)
class TokenizerTest {
  private static Tokenizer tokenizer;
  private static ChatTemplate template;

  @BeforeAll
  static void load() throws IOException {
    try (GgufFile file = GgufFile.open(TestData.model())) {
      tokenizer = new Tokenizer(file);
      template = new ChatTemplate(file);
    }
  }

  private static List<Map<?, ?>> recorded(String kind) throws IOException {
    Map<?, ?> root =
        (Map<?, ?>) StrictJson.parse(Files.readString(TestData.golden("model/tokenizer.json")));
    List<Map<?, ?>> cases = new ArrayList<>();
    for (Object entry : (List<?>) root.get(kind)) {
      cases.add((Map<?, ?>) entry);
    }
    assertTrue(cases.size() > 3, cases.size() + " cases of " + kind);
    return cases;
  }

  private static int[] ids(Map<?, ?> entry) {
    return ((List<?>) entry.get("ids")).stream().mapToInt(id -> ((Long) id).intValue()).toArray();
  }

  @Test
  void encodesAsRecorded() throws IOException {
    for (Map<?, ?> entry : recorded("encode")) {
      String text = (String) entry.get("text");
      assertArrayEquals(ids(entry), tokenizer.encode(text), text);
      assertEquals(text, tokenizer.decode(ids(entry)));
    }
  }

  @Test
  void rendersChatsAsRecorded() throws IOException {
    for (Map<?, ?> entry : recorded("chat")) {
      List<ChatTemplate.Message> messages = new ArrayList<>();
      for (Object message : (List<?>) entry.get("messages")) {
        Map<?, ?> m = (Map<?, ?>) message;
        messages.add(new ChatTemplate.Message((String) m.get("role"), (String) m.get("content")));
      }
      String prompt = template.render(messages);
      assertEquals(entry.get("prompt"), prompt);
      assertArrayEquals(ids(entry), tokenizer.encodeChat(prompt));
    }
  }

  /** The recorded tokens of the essay are those after collapsing white space. */
  @Test
  void encodesTheRecordedEssay() throws IOException {
    String text =
        Files.readString(TestData.golden("model/text.txt")).strip().replaceAll("\\s+", " ");
    try (SafetensorsFile golden =
             SafetensorsFile.open(TestData.golden("model/exit_stats.safetensors"))) {
      int[] recorded = golden.ints("ids");
      assertArrayEquals(recorded, Arrays.copyOf(tokenizer.encode(text), recorded.length));
    }
  }

  @Test
  void longRunsTakeLinearTimeAndStack() {
    for (String unit : List.of("a", " ", "\n", "!", "1", "é", "<|im_", "\ud83d\udc69")) {
      String text = unit.repeat(200_000);
      int[] ids = assertTimeoutPreemptively(Duration.ofSeconds(60), () -> tokenizer.encode(text));
      assertEquals(text, tokenizer.decode(ids));
    }
  }
}
