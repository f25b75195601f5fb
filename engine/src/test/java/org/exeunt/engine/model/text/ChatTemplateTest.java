// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.ChatTemplate.Message;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Templates that are written as those of well-known models are, with their constructs. That of
 * SmolLM2 itself is {@link TokenizerTest}'s.
 */
class ChatTemplateTest {
  private static final Message SYSTEM = new Message("system", " Be kind. ");
  private static final Message USER = new Message("user", "Why?\n");
  private static final Message ASSISTANT = new Message("assistant", "So.");

  @TempDir static Path folder;

  private static GgufFile file(String template) throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("tokenizer.ggml.bos_token_id", 1);
    metadata.remove("tokenizer.chat_template");
    if (template != null) {
      metadata.put("tokenizer.chat_template", template);
    }
    return GgufFile.open(TinyModel.write(folder.resolve("chat.gguf"), metadata, null));
  }

  private static String render(String template, Message... messages) throws IOException {
    try (GgufFile file = file(template)) {
      return new ChatTemplate(file).render(List.of(messages));
    }
  }

  private static void assertRefused(String expected, String template, Message... messages) {
    String message =
        assertThrows(ModelFormatException.class, () -> render(template, messages)).getMessage();
    assertTrue(message.contains("chat.gguf: metadata 'tokenizer.chat_template', line "), message);
    assertTrue(message.contains(expected), message);
    assertEquals(1, message.lines().count(), message);
  }

  /** Headers around roles; a system turn that is always there, with a date. */
  @Test
  void rendersHeaders() throws IOException {
    String template = """
        {{- bos_token }}
        {%- if custom_tools is defined %}
            {%- set tools = custom_tools %}
        {%- endif %}
        {%- if not date_string is defined %}
            {%- if strftime_now is defined %}
                {%- set date_string = "in " + strftime_now("%Y")[:2] %}
            {%- endif %}
        {%- endif %}
        {%- if not tools is defined %}
            {%- set tools = none %}
        {%- endif %}

        {#- The system turn comes first. #}
        {%- if messages[0]['role'] == 'system' %}
            {%- set system_message = messages[0]['content']|trim %}
            {%- set messages = messages[1:] %}
        {%- else %}
            {%- set system_message = "" %}
        {%- endif %}
        {{- "<|start|>system<|end|>\\n\\n" }}
        {%- if tools is not none %}
            {{- "Tools: " + tools | tojson(indent=4) }}
        {%- endif %}
        {{- "Today: " + date_string + "\\n" }}
        {{- system_message }}
        {{- "<|eot|>" }}
        {%- for message in messages %}
            {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
                {{- '<|start|>' + message['role'] + '<|end|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
            {%- elif 'tool_calls' in message %}
                {{- raise_exception("no tools here") }}
            {%- endif %}
        {%- endfor %}
        {%- if add_generation_prompt %}
            {{- '<|start|>assistant<|end|>\\n\\n' }}
        {%- endif %}
        """;
    assertEquals("a<|start|>system<|end|>\n\nToday: in 20\nBe kind.<|eot|>"
            + "<|start|>user<|end|>\n\nWhy?<|eot|><|start|>assistant<|end|>\n\nSo.<|eot|>"
            + "<|start|>user<|end|>\n\nWhy?<|eot|><|start|>assistant<|end|>\n\n",
        render(template, SYSTEM, USER, ASSISTANT, USER));
    assertEquals("a<|start|>system<|end|>\n\nToday: in 20\n<|eot|>"
            + "<|start|>user<|end|>\n\nWhy?<|eot|><|start|>assistant<|end|>\n\n",
        render(template, USER));
  }

  /** ChatML in one line, and with a system turn of its own. */
  @Test
  void rendersChatMl() throws IOException {
    String plain = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
        + "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
        + "{{ '<|im_start|>assistant\n' }}{% endif %}";
    String expected = "<|im_start|>system\n Be kind. <|im_end|>\n<|im_start|>user\nWhy?\n<|im_end|>"
        + "\n<|im_start|>assistant\n";
    assertEquals(expected, render(plain, SYSTEM, USER));
    assertEquals(expected, render(null, SYSTEM, USER), "what a file without a template gets");
    String usual = plain.replace("{{'<|im",
        "{% if loop.first and messages[0]['role'] != 'system' %}"
            + "{{ '<|im_start|>system\nUsual.<|im_end|>\n' }}{% endif %}{{'<|im");
    assertEquals("<|im_start|>system\nUsual.<|im_end|>\n<|im_start|>user\nWhy?\n<|im_end|>\n"
            + "<|im_start|>assistant\n",
        render(usual, USER));
    assertEquals(expected, render(usual, SYSTEM, USER));
  }

  /** Turns of a model, with the system message in front of the first one. */
  @Test
  void rendersTurns() throws IOException {
    String template = """
        {{ bos_token }}
        {%- if messages[0]['role'] == 'system' -%}
            {%- if messages[0]['content'] is string -%}
                {%- set prefix = messages[0]['content'] + '\n\n' -%}
            {%- else -%}
                {%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
            {%- endif -%}
            {%- set loop_messages = messages[1:] -%}
        {%- else -%}
            {%- set prefix = "" -%}
            {%- set loop_messages = messages -%}
        {%- endif -%}
        {%- for message in loop_messages -%}
            {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
                {{ raise_exception("Roles must take turns") }}
            {%- endif -%}
            {%- if (message['role'] == 'assistant') -%}
                {%- set role = "model" -%}
            {%- else -%}
                {%- set role = message['role'] -%}
            {%- endif -%}
            {{ '<turn>' + role + '\n' + (prefix if loop.first else "") }}
            {{- message['content'] | trim -}}
            {{ '<end>\n' }}
        {%- endfor -%}
        {%- if add_generation_prompt -%}
            {{'<turn>model\n'}}
        {%- endif -%}
        """;
    assertEquals("a<turn>user\n Be kind. \n\nWhy?<end>\n<turn>model\nSo.<end>\n"
            + "<turn>user\nWhy?<end>\n<turn>model\n",
        render(template, SYSTEM, USER, ASSISTANT, USER));
    assertRefused("Roles must take turns", template, USER, USER);
  }

  /** Instructions in brackets, no system turn, and an end after each answer. */
  @Test
  void rendersInstructions() throws IOException {
    String template = "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' "
        + "%}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == "
        + "'assistant' %}{{ ' ' + message['content'] + eos_token }}{% else %}{{ "
        + "raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
        + "{% endfor %}";
    assertEquals("a[INST] Why?\n [/INST] So.<end>[INST] Why?\n [/INST]",
        render(template, USER, ASSISTANT, USER));
    assertRefused("Only user and assistant roles are supported!", template, SYSTEM, USER);
  }

  /** Namespaces, loops from the end, and thoughts that older answers lose. */
  @Test
  void rendersThoughts() throws IOException {
    String template = """
        {%- if messages[0].role == 'system' %}
            {{- '<s>' + messages[0].content + '</s>\\n' }}
        {%- endif %}
        {%- set ns = namespace(multi_step_tool=true, last=messages|length - 1) %}
        {%- for message in messages[::-1] %}
            {%- set index = (messages|length - 1) - loop.index0 %}
            {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
                {%- set ns.multi_step_tool = false %}
                {%- set ns.last = index %}
            {%- endif %}
        {%- endfor %}
        {%- for message in messages %}
            {%- set content = message.content if message.content is string else '' %}
            {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
                {{- '<' ~ message.role ~ '>' + content + '\\n' }}
            {%- elif message.role == "assistant" %}
                {%- if '</think>' in content and loop.index0 <= ns.last %}
                    {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
                {%- endif %}
                {{- '<a>' + content + '\\n' }}
            {%- endif %}
        {%- endfor %}
        {%- if add_generation_prompt %}
            {{- '<a>' }}
            {%- if enable_thinking is defined and enable_thinking is false %}
                {{- '<think>\\n\\n</think>\\n\\n' }}
            {%- endif %}
        {%- endif %}
        """;
    assertEquals("<s> Be kind. </s>\n<user>Why?\n\n<a>Yes.\n<user>Why?\n\n<a>",
        render(
            template, SYSTEM, USER, new Message("assistant", "<think>hm</think>\n\nYes."), USER));
  }

  @Test
  void whatIsNoTemplateIsSaid() throws IOException {
    assertRefused("'no' is undefined", "{{ no.thing }}", USER);
    assertRefused("stands where '{%' is expected", "{% for m in messages %}", USER);
    try (GgufFile file = file(null)) {
      assertFalse(ChatTemplate.in(file));
    }
  }

  /** The template's own first token is not doubled, and one that it lacks is put there. */
  @Test
  void oneTokenBegins() throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("tokenizer.ggml.bos_token_id", 0);
    metadata.put("tokenizer.ggml.add_bos_token", true);
    try (GgufFile file =
             GgufFile.open(TinyModel.write(folder.resolve("bos.gguf"), metadata, null))) {
      Tokenizer tokenizer = new Tokenizer(file);
      assertArrayEquals(new int[] {0, 1, 2}, tokenizer.encodeChat("<end>ab"));
      assertArrayEquals(new int[] {0, 1, 2}, tokenizer.encodeChat("ab"));
      assertArrayEquals(new int[] {0, 0, 1}, tokenizer.encodePrompt("<end>a"));
    }
  }
}
