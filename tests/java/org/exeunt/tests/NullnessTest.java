// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.exeunt.Statistics;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/**
 * The Javadoc of the public API and its annotations agree: what is said to be optional, or null in
 * some case, is @Nullable, and nothing else is.
 */
@Tag("any-jdk")
class NullnessTest {
  private static final Pattern DECLARED = Pattern.compile("\\s*((?:public|protected)\\b[^{;=]*)");

  private static final Pattern TAG =
      Pattern.compile("@(param|return) (.*?)(?= @(?:param|return|throws|see|since)\\b|$)");

  /** Not of the argument itself: a cache whose values may be left out. */
  private static final Pattern SAYS = Pattern.compile("\\boptional\\b|(?<!\\bv may be )\\bnull\\b");

  private static List<Path> sources() throws IOException {
    List<Path> sources = new ArrayList<>();
    for (String folder : List.of("java/src/main/java", "java/target/generated-sources/builders")) {
      try (Stream<Path> files = Files.walk(Setup.root().resolve(folder))) {
        files.filter(file -> file.toString().endsWith(".java")).forEach(sources::add);
      }
    }
    return sources;
  }

  @Test
  void whatMayBeNullIsAnnotated() throws IOException {
    List<String> wrong = new ArrayList<>();
    int annotated = 0;
    for (Path source : sources()) {
      String text = Files.readString(source);
      String type = source.getFileName().toString().replace(".java", "");
      if (!text.matches("(?s).*\\bpublic [\\w ]*(class|record|enum|interface) " + type + "\\b.*")) {
        continue;
      }
      for (int at = text.indexOf("/**"); at >= 0; at = text.indexOf("/**", at + 3)) {
        int end = text.indexOf("*/", at);
        Matcher declared = DECLARED.matcher(text).region(end + 2, text.length());
        if (!declared.lookingAt()) {
          continue;
        }
        String declaration = declared.group(1).replaceAll("\\s+", " ");
        Matcher tag =
            TAG.matcher(text.substring(at + 3, end).replaceAll("\\s*\\n\\s*\\*?\\s*", " "));
        while (tag.find()) {
          boolean isReturn = tag.group(1).equals("return");
          String name = isReturn ? "" : tag.group(2).split(" ", 2)[0];
          boolean says = SAYS.matcher(tag.group(2)).find();
          boolean is = isNullable(declaration, isReturn, name);
          annotated += is ? 1 : 0;
          if (says != is && !name.startsWith("<")) {
            wrong.add(type + ", " + tag.group() + "\n    " + declaration);
          }
        }
      }
    }
    assertEquals("", String.join("\n", wrong));
    assertTrue(annotated > 150, annotated + " are annotated");
  }

  private static boolean isNullable(String declaration, boolean isReturn, String name) {
    String head = declaration.substring(0, Math.max(declaration.indexOf('('), 0));
    return isReturn
        ? head.contains("@Nullable ")
        : Pattern.compile("[(,] ?(final )?[^(),]*@Nullable [^(),]*\\b" + name + " ?[,)]")
              .matcher(declaration.substring(Math.max(declaration.indexOf('('), 0)))
              .find();
  }

  /** As tools see it, which read class files. */
  @Test
  void classFilesHaveTheAnnotations() throws Exception {
    Path file =
        Path.of(Statistics.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    try (var loader = new java.util.zip.ZipFile(file.toFile())) {
      byte[] bytes =
          loader.getInputStream(loader.getEntry("org/exeunt/Statistics.class")).readAllBytes();
      assertTrue(new String(bytes, "ISO-8859-1").contains("Lorg/jspecify/annotations/Nullable;"));
      bytes =
          loader.getInputStream(loader.getEntry("org/exeunt/package-info.class")).readAllBytes();
      assertTrue(new String(bytes, "ISO-8859-1").contains("Lorg/jspecify/annotations/NullMarked;"));
    }
  }
}
