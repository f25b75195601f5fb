// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.io.IOException;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.io.ModelFormatException;

/**
 * The chat formats of SmolLM2 ({@code <|im_start|>role}, a line break, the content,
 * {@code <|im_end|>}, a line break, with a default system message first unless the caller brings
 * one) and of Gemma ({@code <start_of_turn>} and {@code <end_of_turn>}, an assistant called model,
 * and a system message at the head of the first turn).
 *
 * <p>The file's template is a program; this class sees which of the two it is, reads the default
 * system message from it and knows the rest.
 */
public final class ChatTemplate {
  private static final String KEY = "tokenizer.chat_template";
  private static final Pattern SYSTEM =
      Pattern.compile("<\\|im_start\\|>system\n(.*?)<\\|im_end\\|>\n", Pattern.DOTALL);

  private final String defaultSystem; // null: Gemma's format

  /** One turn of a conversation. */
  public record Message(String role, String content) {}

  /** Whether {@code file} has a template; a model without one goes on with texts. */
  public static boolean in(GgufFile file) {
    return file.metadata().containsKey(KEY);
  }

  /** Reads {@code file}'s template. */
  public ChatTemplate(GgufFile file) throws IOException {
    String template = file.string(KEY);
    if (template.contains("<start_of_turn>")) {
      defaultSystem = null;
      return;
    }
    Matcher system = SYSTEM.matcher(template);
    if (!system.find()) {
      throw new ModelFormatException(file.path(),
          "metadata '" + KEY
              + "' is not the template of SmolLM2 or Gemma: it has no default system message and "
              + "no <start_of_turn>.");
    }
    defaultSystem = system.group(1);
  }

  /** The prompt for {@code messages}, up to where the assistant's answer begins. */
  public String render(List<Message> messages) {
    return defaultSystem == null ? renderGemma(messages) : renderSmolLm(messages);
  }

  private String renderSmolLm(List<Message> messages) {
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

  private static String renderGemma(List<Message> messages) {
    StringBuilder prompt = new StringBuilder();
    String system = "";
    for (Message message : messages) {
      if (message.role().equals("system")) {
        system = message.content() + "\n\n";
        continue;
      }
      prompt.append("<start_of_turn>")
          .append(message.role().equals("assistant") ? "model" : message.role())
          .append('\n')
          .append(system)
          .append(message.content().strip())
          .append("<end_of_turn>\n");
      system = "";
    }
    return prompt.append("<start_of_turn>model\n").toString();
  }
}
