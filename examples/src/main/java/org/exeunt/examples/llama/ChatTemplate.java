// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.IOException;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.io.ModelFormatException;

/**
 * The chat format of SmolLM2: {@code <|im_start|>role}, a line break, the content,
 * {@code <|im_end|>}, a line break, with a default system message first unless the caller brings
 * one.
 *
 * <p>The file's template is a program; this class reads the default system message from it and
 * knows the rest.
 */
public final class ChatTemplate {
  private static final String KEY = "tokenizer.chat_template";
  private static final Pattern SYSTEM =
      Pattern.compile("<\\|im_start\\|>system\n(.*?)<\\|im_end\\|>\n", Pattern.DOTALL);

  private final String defaultSystem;

  /** One turn of a conversation. */
  public record Message(String role, String content) {}

  /** Reads {@code file}'s template. */
  public ChatTemplate(GgufFile file) throws IOException {
    Matcher system = SYSTEM.matcher(file.string(KEY));
    if (!system.find()) {
      throw new ModelFormatException(file.path(),
          "metadata '" + KEY
              + "' is not the template of SmolLM2: it has no default system message.");
    }
    defaultSystem = system.group(1);
  }

  /** The prompt for {@code messages}, up to where the assistant's answer begins. */
  public String render(List<Message> messages) {
    StringBuilder prompt = new StringBuilder();
    if (!messages.isEmpty() && !messages.get(0).role().equals("system")) {
      append(prompt, new Message("system", defaultSystem));
    }
    messages.forEach(message -> append(prompt, message));
    return prompt.append("<|im_start|>assistant\n").toString();
  }

  private static void append(StringBuilder prompt, Message message) {
    prompt.append("<|im_start|>")
        .append(message.role())
        .append('\n')
        .append(message.content())
        .append("<|im_end|>\n");
  }
}
