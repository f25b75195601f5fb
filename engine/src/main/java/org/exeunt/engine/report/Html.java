// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import java.util.Base64;

/** A page that needs nothing else, in light and in dark; sound XML too. */
public final class Html {
  private static final String STYLE = """
      :root { color-scheme: light dark; --text: #1b1f24; --faint: #59636e; --line: #d0d7de;
        --page: #ffffff; --0: #0057a8; --1: #b34700; --2: #00734f; --3: #a3005c; --4: #5a4fcf;
        --5: #6b5900; }
      @media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --faint: #9aa5b1;
        --line: #3a434d; --page: #10151b; --0: #6cb6ff; --1: #ffa657; --2: #4cd39b; --3: #ff8cc6;
        --4: #b8a9ff; --5: #e3c94a; } }
      body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
        max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
      h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
      figure { margin: 1.5rem 0; max-width: 40rem; } figcaption { font-weight: 600; }
      figure.wide { max-width: none; }
      figure:has(+ figure:not(.wide)), figure:not(.wide) + figure { display: inline-block;
        width: min(100%, 29rem); margin-right: .5rem; vertical-align: top; }
      svg { display: block; width: 100%; max-width: 40rem; height: auto; }
      svg text { fill: var(--faint); font-size: 14px; }
      .grid { stroke: var(--line); }
      .s0 { --own: var(--0); } .s1 { --own: var(--1); } .s2 { --own: var(--2); }
      .s3 { --own: var(--3); } .s4 { --own: var(--4); } .s5 { --own: var(--5); }
      .curve { fill: none; stroke: var(--own); stroke-width: 1.8px; }
      .dot, .mark { fill: var(--own); }
      .keys { display: flex; flex-wrap: wrap; gap: 0 1.5rem; margin: .25rem 0; }
      .key { display: inline-block; width: 30px; height: 12px; vertical-align: baseline; }
      .panels { display: flex; flex-wrap: wrap; gap: 1rem; }
      .panels svg { width: 18rem; }
      .panels text { fill: var(--text); font-size: 15px; }
      .panels .count { text-anchor: middle; font-weight: 600; paint-order: stroke;
        stroke: var(--page); stroke-width: 4px; }
      .cut { fill: none; stroke: var(--page); stroke-width: 3px; }
      .scroll { overflow-x: auto; } table { border-collapse: collapse; }
      td, th { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
        white-space: nowrap; }
      td:first-child, th:first-child { text-align: left; padding-left: 0; }
      @media (max-width: 30rem) { svg text { font-size: 17px; } }
      """;

  private Html() {}

  /** Text that is no markup; what no page may contain becomes the sign for that. */
  public static String escaped(String text) {
    return text.replaceAll("[\\p{Cntrl}&&[^\\t\\n]]", "\uFFFD")
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("\"", "&quot;")
        .replace("'", "&#39;");
  }

  /** A whole page around a body, which may have pictures in it and fetches nothing. */
  static String page(String title, CharSequence body) {
    return "<!DOCTYPE html>\n<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
        + "<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
        + "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
        + "<meta http-equiv=\"Content-Security-Policy\""
        + " content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"/>\n<title>"
        + escaped(title) + "</title>\n<style>\n" + STYLE + "</style></head><body>\n<h1>"
        + escaped(title) + "</h1>\n" + body + "</body></html>\n";
  }

  /** A paragraph; what stands between backticks is code. */
  static String paragraph(String text) {
    return "<p>" + escaped(text.strip()).replaceAll("`([^`]*)`", "<code>$1</code>") + "</p>\n";
  }

  /** What an image may name as its source. */
  public static String source(Png png) {
    return "data:image/png;base64," + Base64.getEncoder().encodeToString(png.bytes());
  }
}
