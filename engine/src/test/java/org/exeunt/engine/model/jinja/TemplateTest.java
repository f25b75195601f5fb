// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.time.LocalDateTime;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What templates write, as Jinja 3.1 does with trim_blocks and lstrip_blocks, and what they may not. */
class TemplateTest {
  private static final LocalDateTime NOW = LocalDateTime.of(2026, 3, 7, 9, 5, 2);

  private static Map<String, Object> variables() {
    Map<String, Object> variables = new HashMap<>();
    variables.put("text", "  One two,\tthree ");
    variables.put("list", List.of("b", "a", "C", "a"));
    variables.put("map", Map.of("k", 1, "items", 2));
    variables.put("nothing", null);
    variables.put("three", 3);
    variables.put("messages",
        List.of(Map.of("role", "system", "content", "s"), Map.of("role", "user", "content", "u"),
            Map.of("role", "assistant", "content", "a")));
    return variables;
  }

  private static String render(String template) throws TemplateException {
    return Template.parse(template).render(variables(), NOW);
  }

  private static void assertRefused(String expected, String template) {
    TemplateException e = assertTimeoutPreemptively(Duration.ofSeconds(20),
        () -> assertThrows(TemplateException.class, () -> render(template)));
    assertTrue(e.getMessage().contains(expected), e.getMessage());
    assertTrue(e.getMessage().matches("(?s)line [0-9]+: .*"), e.getMessage());
  }

  @ParameterizedTest
  @CsvSource(delimiter = '@', quoteCharacter = '`',
      value =
          {
              "{{ 1 + 2 * 3 ** 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 4 / 2 }} @"
                  + " `19 3 -4 2 3.5 2.0 `",
              "{{ 1.5 * 2 }} {{ 2 - 3 - 1 }} {{ -three ** 2 }} {{ 'a' ~ 1 ~ none }} {{ 'ab' * 2 }} @"
                  + " `3.0 -2 9 a1None abab `",
              "{{ true and 'x' or 'y' }} {{ not 0 }} {{ '' or 'z' }} {{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} @"
                  + " `x True z True False `",
              "{{ 'a' in 'cab' }} {{ 'a' not in list }} {{ 'k' in map }} {{ 3 in [1, 3.0] }} @"
                  + " `True False True True `",
              "{{ 'y' if three == 3 else 'n' }} {{ 'y' if three != 3 }}| @ y |",
              "{{ list[0] }} {{ list[-1] }} {{ list[1:3] }} {{ list[::-1] }} {{ list[:-3] }} {{ list[9:] }} @"
                  + " `b a ['a', 'C'] ['a', 'C', 'a', 'b'] ['b'] [] `",
              "{{ 'abcdef'[1:-1:2] }} {{ 'abc'[::-1] }} {{ list[-2:] }} {{ messages[1:][0].role }} @"
                  + " `bd cba ['C', 'a'] user `",
              "{{ map['items'] }} {{ map.k }} {{ map.get('z', 'd') }} {{ map.get('z') }} {{ map.z }}| @"
                  + " 2 1 d None |",
              "{{ messages[0]['content'] + messages[1].content }} @ `su `",
              "{{ text|trim }} {{ text.split()[1] }} {{ 'a,b,c'.split(',', 1) }} {{ 'xax'.strip('x') }} @"
                  + " `One two,\tthree two, ['a', 'b,c'] a `",
              "{{ 'a-b'.replace('-', '+') }} {{ 'aXb'|lower }} {{ 'ab'|upper }} {{ 'ab cd'|title }} @"
                  + " `a+b axb AB Ab Cd `",
              "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abcb'.find('b') }} @"
                  + " `True True 1 `",
              "{{ 'a/b/c'.rsplit('/', 1)[0] }} {{ 'ab'.removeprefix('a') }} {{ 'aXaX'.count('aX') }} @"
                  + " `a/b b 2 `",
              "{{ list|length }} {{ list|join('-') }} {{ list|first }} {{ list|last }} {{ list|sort }} @"
                  + " `4 b-a-C-a b a ['a', 'a', 'b', 'C'] `",
              "{{ list|unique|list }} {{ [3, 1]|min }} {{ [3, 1]|sum }} {{ list|reverse|list }} @"
                  + " `['b', 'a', 'C'] 1 4 ['a', 'C', 'a', 'b'] `",
              "{{ messages|map(attribute='role')|join(' ') }} {{ list|map('upper')|list }} @"
                  + " `system user assistant ['B', 'A', 'C', 'A'] `",
              "{{ messages|selectattr('role', 'equalto', 'user')|list|length }} @ `1 `",
              "{{ messages|rejectattr('role', 'in', ['user', 'system'])|map(attribute='content')|list }} @"
                  + " `['a'] `",
              "{{ no|default('d') }} {{ ''|default('d', true) }} {{ nothing|default('d') }} @ `d d None `",
              "{{ nothing is none }} {{ no is defined }} {{ no is not defined }} {{ text is string }} @"
                  + " `True False True True `",
              "{{ map is mapping }} {{ list is iterable }} {{ three is odd }} {{ 6 is divisibleby 3 }} @"
                  + " `True True True True `",
              "{{ three is number and not three is string }} {{ three is eq 3 }} {{ true is boolean }} @"
                  + " `True True True `",
              "{{ {'a': [1, 'x', none, true], 'b': 1.5}|tojson }} @"
                  + " `{\"a\": [1, \"x\", null, true], \"b\": 1.5} `",
              "{{ 'ä\"\\n\u2028'|tojson }} @ `\"ä\\\"\\n\u2028\" `",
              "{{ [1, {'a': 2}, []]|tojson(indent=2) }} @ `[\n  1,\n  {\n    \"a\": 2\n  },\n  []\n] `",
              "{{ ['it\\'s', 'a', none, 1.0, {'k': false}] }} @"
                  + " `[\"it's\", 'a', None, 1.0, {'k': False}] `",
              "{{ '3'|int + 1 }} {{ 'x'|int }} {{ 3.9|int }} {{ '2.5'|float }} {{ 2.5|round|int }} @"
                  + " `4 0 3 2.5 2 `",
              "{{ strftime_now('%d %b %Y, %H:%M') }} {{ strftime_now('%-d %B %A') }} @"
                  + " `07 Mar 2026, 09:05 7 March Saturday `",
              "{{ range(3)|list }} {{ range(5, 1, -2)|list }} {{ dict(a=1)['a'] }} @"
                  + " `[0, 1, 2] [5, 3] 1 `",
              "{{ 'a' 'b' }} {{ \"\\x41\\u00e4\" }} {{ ('x', 1) }} @ `ab Aä ['x', 1] `",
              "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
                  + "{{ ns.n }} @ `3 `",
              "{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{% endfor %}{{ x }} @ `1 `",
              "{% set a, b = 1, 2 %}{{ a + b }}{% set c %}in {{ a }}{% endset %}{{ c }} @ `3in 1 `",
              "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ loop.first }}{{ loop.last }}"
                  + "{{ loop.length }} {% endfor %} @ `1TrueFalse2 2FalseTrue2  `",
              "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}>"
                  + "{{ loop.revindex0 }}{{ loop.cycle('x', 'y') }} {% endfor %} @"
                  + " `>2x system>1y user>0x  `",
              "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% else %}none{% endfor %} @ `a1b2 `",
              "{% for x in [] %}{{ x }}{% else %}none{% endfor %} @ `none `",
              "{% for x in range(9) %}{% if x == 1 %}{% continue %}{% elif x == 3 %}{% break %}{% endif %}"
                  + "{{ x }}{% endfor %} @ `02 `",
              "{% macro greet(name, word='Hi') %}{{ word }} {{ name }}{% endmacro %}{{ greet('A') }}, "
                  + "{{ greet(name='B', word='Yo') }} @ `Hi A, Yo B `",
              "{% raw %}{{ no }}{% endraw %}{# {{ no }} #}. @ `{{ no }}. `",
              "{% generation %}{{ 1 }}{% endgeneration %} @ `1 `",
              "{% if false %}a{% elif three > 2 %}b{% else %}c{% endif %} @ `b `",
              "{{ {'a': {'b': 1}}['a']['b'] }} @ `1 `",
              "a  {{- ' b ' -}}  c @ `a b c `",
          })
  void writesWhatJinjaWrites(String template, String expected) throws TemplateException {
    assertEquals(expected.strip(), render(template).strip());
  }

  /** Chat templates are written for these rules. */
  @Test
  void tagsTakeWhiteSpaceWithThem() throws TemplateException {
    assertEquals("a\nb\n", render("a\n  {% if true %}\nb\n  {% endif %}\n"));
    assertEquals("a\n  b\n", render("a\n  {%+ if true %}b\n  {% endif %}\n"));
    assertEquals("ab", render("a\n  {%- if true -%}\n  b\n  {%- endif %}"));
    assertEquals("a\n\nb", render("a\n{% if true +%}\nb{% endif %}"));
    assertEquals("a\nb", render("a\n  {# note #}\nb"));
    assertEquals("ab", render("a\n  {#- note -#}\n  b"));
    assertEquals("a  1\n", render("a  {{ 1 }}\n\n"), "what is written keeps its line");
    assertEquals("x 1", render("x {% if true %}1{% endif %}"), "not at the beginning of a line");
    assertEquals("a\nb", render("a\r\nb\r\n"));
    assertEquals("", render(""));
    assertEquals("{ a } {a", render("{ a } {a"));
  }

  @ParameterizedTest
  @CsvSource(delimiter = '@', quoteCharacter = '`',
      value =
          {
              "{{ no.thing }} @ 'no' is undefined",
              "{{ messages[9].role }} @ 'index 9' is undefined",
              "{{ no() }} @ 'no' is undefined",
              "{{ 'a' + no }} @ 'no' is undefined",
              "{{ 'a' + 1 }} @ '+' stands between a string and a number",
              "{{ three() }} @ a number cannot be called",
              "{{ 1 // 0 }} @ no 64-bit integer",
              "{{ 1 / 0 }} @ divides by 0",
              "{{ 9223372036854775807 + 1 }} @ no 64-bit integer",
              "{{ 99999999999999999999 }} @ too large",
              "{{ text|nothing }} @ no filter 'nothing'",
              "{{ text is odder }} @ no test 'odder'",
              "{{ raise_exception('no such roles') }} @ line 1: no such roles",
              "{% for %}{% endfor %} @ '%}' stands where a name is expected",
              "{% for x in list %} @ the end of the template stands where '{%' is expected",
              "{% endif %} @ stands where the end of the template is expected",
              "{{ 1 @ a tag has no end",
              "{# 1 @ a comment has no end",
              "{% raw %} @ raw has no endraw",
              "{{ 'a }} @ a string has no end",
              "{{ 1 ? 2 }} @ '?' has no meaning",
              "{{ ) }} @ ')' closes nothing",
              "{% include '/etc/passwd' %} @ 'include' reads a file",
              "{% import 'x' as y %} @ 'import' reads a file",
              "{% extends 'x' %} @ 'extends' reads a file",
              "{% autoescape true %} @ 'autoescape' is no block",
              "{{ ''.__class__.__mro__ }} @ '__class__' is undefined",
              "{{ ''.getClass().forName('java.lang.Runtime') }} @ 'getClass' is undefined",
              "{{ list.append(1) }} @ 'append' is undefined",
              "{{ range.__globals__.os }} @ '__globals__' is undefined",
              "{{ cycler.__init__ }} @ 'cycler' is undefined",
              "{% break %} @ stands in no loop",
              "{% set three.x = 1 %} @ is no namespace",
              "{% set a, b = [1] %} @ 1 values cannot be unpacked to 2 names",
              "{{ {[]: 1} }} @ cannot be a mapping's key",
              "{{ list|tojson(indent=99) }} @ indented by 99",
              "{{ strftime_now('%Q') }} @ knows no %Q",
          })
  void whatMakesNoSenseIsSaidInASentence(String template, String expected) {
    assertRefused(expected, template);
  }

  @Test
  void problemsNameTheirLine() {
    assertRefused("line 3: 'no' is undefined", "a\n{# \n #}{{ no.a }}");
    assertRefused("line 2: 'x' is undefined", "{% if true %}\n{{ x.y }}\n{% endif %}");
  }

  /** Whatever a template does, it comes to an end, and takes no more memory than it may. */
  @ParameterizedTest
  @ValueSource(
      strings = {"{% for a in range(999999999) %}{% endfor %}",
          "{% for a in range(3000) %}{% for b in range(3000) %}{% endfor %}{% endfor %}",
          "{{ 'a' * 999999999 }}", "{{ 'ab' * 9223372036854775807 }}",
          "{% set n = namespace(s='ab') %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
          "{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
          "{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}"
              + "{{ n.s }}",
          "{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}"
              + "{{ n.s|tojson }}",
          "{% set n = namespace(s=[1], t=[1]) %}{% for a in range(50) %}{% set n.s = [n.s, n.s] %}"
              + "{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.s == n.t }}",
          "{% set n = namespace(s=[]) %}{% for a in range(9999) %}{% set n.s = [n.s] %}{% endfor %}"
              + "{{ n.s }}",
          "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
          "{% macro f(n) %}{{ g(n) }}{{ g(n) }}{% endmacro %}{% macro g(n) %}{{ f(n) }}{% endmacro %}"
              + "{{ f(1) }}",
          "{% set a = 'a' * 900000 %}{% for i in range(99999) %}{{ (a + 'b') in a }}{% endfor %}",
          "{% set a = 'a' * 900000 %}{% set b = 'a' * 400000 + 'b' %}"
              + "{% for i in range(9999) %}{{ b in a }}{% endfor %}",
          "{% set a = 'a' * 900000 %}{% for i in range(99999) %}{% if a.replace('aa', 'a') %}{% endif %}"
              + "{% endfor %}",
          "{% set a = 'a,' * 900000 %}{% for i in range(9999) %}{% set b = a.rsplit(',') %}{% endfor %}",
          "{% set a = range(200000)|list %}{% for i in range(9999) %}{% if a|sort %}{% endif %}"
              + "{% endfor %}",
          "{{ ('a\\n' * 900000)|indent(256) }}",
          "{{ (range(2000)|list)|map('string')|unique|list|length }}"})
  void budgetsEndWhatGoesOn(String template) {
    assertTimeoutPreemptively(Duration.ofSeconds(30), () -> {
      try {
        render(template);
      } catch (TemplateException e) {
        assertTrue(e.getMessage().contains("more than") || e.getMessage().contains("64-bit"),
            e.getMessage());
        return;
      }
      assertTrue(template.contains("unique"), "only what is small comes to its end");
    });
  }

  /** As deep as they like: the stack does not overflow. */
  @Test
  void nestingIsBounded() {
    int many = 20_000;
    assertRefused("levels deep",
        "{{ "
            + "(".repeat(many) + "1"
            + ")".repeat(many) + " }}");
    assertRefused("levels deep",
        "{{ "
            + "[".repeat(many) + "]".repeat(many) + " }}");
    assertRefused("levels deep",
        "{{ "
            + "not ".repeat(many) + "1 }}");
    assertRefused("levels deep",
        "{{ "
            + "-".repeat(many) + "1 }}");
    assertRefused("levels deep", "{% if 1 %}".repeat(many));
    assertRefused("levels deep",
        "{% if 1 %}"
            + "{% elif 1 %}".repeat(many) + "{% endif %}");
    assertRefused("parts in a chain",
        "{{ a"
            + ".b".repeat(many) + " }}");
    assertRefused("parts in a chain",
        "{{ 1"
            + "|int".repeat(many) + " }}");
    assertRefused("levels deep",
        "{{ 1"
            + "+1".repeat(many) + " }}");
    assertRefused("levels deep",
        "{{ 1"
            + " if 1".repeat(many) + " }}");
    assertRefused("levels deep",
        "{{ 1"
            + " and 1".repeat(many) + " }}");
    assertRefused("more than 524288", "a".repeat(1 << 20));
  }

  /** Faults of all kinds, each a sentence or a text. */
  @Test
  void brokenTemplatesAreNoSurprise() {
    String whole =
        "{{- bos_token }}{% set ns = namespace(a=0, b='x') %}\n{%- for m in messages[1:] -%}"
        + "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('a') }}"
        + "{% endif %}{{ '<|' ~ m.role|trim + '|>' }}{% set ns.a = ns.a + 1.5 %}{# c #}"
        + "{%- endfor %}{% macro f(x, y=2) %}{{ x[y:-1] }}{% endmacro %}{{ f('abc', 1)|tojson }}"
        + "{% raw %} {{ {% endraw %}{{ {'a': [1, none]}.items()|list if true else 'b' }}\n";
    String parts = "{}%#-+'\"|()[].,:= \n~*/<>!aA0_\\";
    Random random = new Random(5);
    int sound = 0;
    for (int i = 0; i < 20_000; i++) {
      StringBuilder text = new StringBuilder(whole);
      for (int fault = random.nextInt(3); fault >= 0; fault--) {
        int at = random.nextInt(text.length());
        int length = Math.min(random.nextInt(6), text.length() - at);
        switch (random.nextInt(3)) {
          case 0 -> text.delete(at, at + length);
          case 1 -> text.insert(at, parts.charAt(random.nextInt(parts.length())));
          default -> text.insert(random.nextInt(text.length()), text.substring(at, at + length));
        }
      }
      try {
        render(text.toString());
        sound++;
      } catch (TemplateException e) {
        assertTrue(e.getMessage().startsWith("line "), e.getMessage());
      } catch (RuntimeException | StackOverflowError e) {
        throw new AssertionError(i + ": " + text, e);
      }
    }
    assertTrue(sound > 1000 && sound < 19_000, sound + " were sound");
  }
}
