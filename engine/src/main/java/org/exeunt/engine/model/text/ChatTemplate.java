// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.io.IOException;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.gguf.Strings;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.jinja.Template;
import org.exeunt.engine.model.jinja.TemplateException;

/**
 * How a model's conversations are written: by the Jinja template in its file, which is run, or as
 * ChatML where there is none ({@code <|im_start|>role}, a line break, the content,
 * {@code <|im_end|>}, a line break).
 */
public final class ChatTemplate {
  private static final String KEY = "tokenizer.chat_template";
  private static final String CHATML = "{% for message in messages %}"
      + "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
      + "{% endfor %}{{ '<|im_start|>assistant\\n' }}";

  private final GgufFile file;
  private final Template template;
  private final String begin;
  private final String end;

  /** One turn of a conversation. */
  public record Message(String role, String content) {}

  /** Whether {@code file} has a template. */
  public static boolean in(GgufFile file) {
    return file.metadata().containsKey(KEY);
  }

  /**
   * Reads {@code file}'s template, or takes ChatML.
   *
   * @throws ModelFormatException if it is none
   */
  public ChatTemplate(GgufFile file) throws IOException {
    this.file = file;
    begin = token("tokenizer.ggml.bos_token_id");
    end = token("tokenizer.ggml.eos_token_id");
    try {
      template = Template.parse(in(file) ? file.string(KEY) : CHATML);
    } catch (TemplateException e) {
      throw problem(e);
    }
  }

  /** The text of a special token, or nothing. */
  private String token(String key) throws IOException {
    if (!file.metadata().containsKey(key)) {
      return "";
    }
    Strings tokens = file.strings("tokenizer.ggml.tokens");
    return tokens.get(file.integer(key, 0, tokens.size() - 1));
  }

  private ModelFormatException problem(TemplateException e) {
    return new ModelFormatException(file.path(), "metadata '" + KEY + "', " + e.getMessage() + ".");
  }

  /**
   * The prompt for {@code messages}, up to where the assistant's answer begins.
   *
   * @throws ModelFormatException if the template refuses them, or does what it may not
   */
  public String render(List<Message> messages) throws IOException {
    List<Map<String, Object>> conversation = new ArrayList<>();
    for (Message message : messages) {
      conversation.add(Map.of("role", message.role(), "content", message.content()));
    }
    Map<String, Object> variables = new HashMap<>();
    variables.put("messages", conversation);
    variables.put("add_generation_prompt", true);
    variables.put("bos_token", begin);
    variables.put("eos_token", end);
    // Templates ask whether they are none, not whether they are there.
    variables.put("tools", null);
    variables.put("documents", null);
    try {
      return template.render(variables, LocalDateTime.now());
    } catch (TemplateException e) {
      throw problem(e);
    }
  }
}
