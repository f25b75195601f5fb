// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.exeunt.Op;
import org.exeunt.cases.Facade;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The Javadoc of a setter names the shape and the types that the header's comment names. Which
 * setter takes which field is read from what fills a builder of a params struct, where every field
 * goes through its setter. Setters of one field are made of those comments; others are by hand.
 */
class JavadocTest {
  private static final String MADE = "java/target/generated-sources/builders/";
  private static final String CALLS = "ops/target/generated-sources/calls/org/exeunt/cases/";

  private static final Pattern SHAPE = Pattern.compile("\\[[^\\]]*\\]");
  private static final Pattern TYPES = Pattern.compile("\\b(f64|f32|f16|bf16|i32|i64|u8)\\b");

  static Stream<String> ops() {
    return Facade.ops().stream();
  }

  @ParameterizedTest
  @MethodSource("ops")
  void namesTheSameShapesAndTypes(String op) throws IOException {
    String door = read(CALLS + "Calls.java", op) + read("ops/java/org/exeunt/cases/Forms.java", op);
    door = door.replaceAll("\\.then\\(\\s*b\\s*->\\s*b\\.", "."); // the setters alone
    String file = "org/exeunt/" + className(op) + ".java";
    boolean byHand = Files.exists(Setup.root().resolve("java/src/main/java/" + file));
    String source = read((byHand ? "java/src/main/java/" : MADE) + file);
    List<String> wrong = new ArrayList<>();
    int compared = 0;
    List<Structs.Field> fields = new ArrayList<>(Structs.fields("exn_" + op + "_params"));
    if (Structs.fields("exn_" + op + "_tensor") != null) { // of which the params have several
      fields.addAll(Structs.fields("exn_" + op + "_tensor"));
    }
    for (Structs.Field field : fields) {
      Setter setter = field.tensor() ? setterOf(field.name(), door) : null;
      if (setter == null || setter.method.equals("fixed")) { // which takes an array
        continue;
      }
      String javadoc = setter.javadoc(source);
      if (!shape(field.comment()).equals(shape(javadoc))
          || !types(field.comment()).equals(types(javadoc))) {
        wrong.add(field.name() + ": header '" + field.comment() + "', Javadoc '" + javadoc + "'");
      }
      compared++;
    }
    assertTrue(compared > 0, "no tensor of " + op + " was compared");
    assertEquals(List.of(), wrong);
  }

  private static String shape(String text) {
    Matcher shape = SHAPE.matcher(text);
    // The one writes S*W where the other writes S W, and each has its own name of a constant.
    return shape.find()
        ? shape.group().replaceAll("\\{@(?:value|link) \\w*#|EXN_\\w*?(?=STATE|PLAN)|\\W", "")
        : "";
  }

  private static Set<String> types(String text) {
    Set<String> types = new TreeSet<>();
    Matcher type = TYPES.matcher(text.toLowerCase());
    while (type.find()) {
      types.add(type.group());
    }
    return types;
  }

  /** A method of the builder, and which of its parameters takes the field. */
  private record Setter(String method, int parameter) {
    /** Of overloads, the shortest with a parameter there. */
    String javadoc(String source) {
      List<String> shortest = null;
      Matcher found =
          Pattern
              .compile(
                  "/\\*\\*((?:(?!\\*/).)*?)\\*/\\s*(?:@\\w+\\s*)*public (?:final )?B(?:uilder)? "
                      + method + "\\(",
                  Pattern.DOTALL)
              .matcher(source);
      while (found.find()) {
        String[] parts =
            found.group(1).replaceAll("\\s*\\n\\s*\\*", " ").split("@(?=param|return)");
        List<String> params = new ArrayList<>();
        for (String part : parts) {
          if (part.startsWith("param ")) {
            params.add(part.strip());
          }
        }
        boolean fits = parameter < params.size();
        if (fits && (shortest == null || params.size() < shortest.size())) {
          shortest = params;
        }
      }
      if (shortest == null) {
        throw new AssertionError("no Javadoc of " + method + ", parameter " + parameter);
      }
      return shortest.get(parameter);
    }
  }

  /** Walks back from the field to the call that takes it; null where no tensor does. */
  private static Setter setterOf(String field, String door) {
    Matcher use =
        Pattern.compile("tensor\\((?:p|item)(?:\\." + field + "\\(\\)|, \"" + field + "\")\\)")
            .matcher(door);
    if (!use.find()) {
      return null;
    }
    int depth = 0;
    int parameter = 0;
    for (int i = use.start() - 1; i >= 0; i--) {
      char c = door.charAt(i);
      if (c == ')') {
        depth++;
      } else if (c == '(' && depth-- == 0) {
        Matcher name = Pattern.compile("\\.(\\w+)$").matcher(door.substring(0, i));
        return name.find() ? new Setter(name.group(1), parameter) : null;
      } else if (c == ',' && depth == 0) {
        parameter++;
      } else if (c == ';' || c == '=') {
        return viaVariable(door, i, c);
      }
    }
    return null;
  }

  /** Tensor table = tensor(p.rope_table()): the setter that takes the variable. */
  private static Setter viaVariable(String door, int at, char c) {
    Matcher variable = Pattern.compile("(\\w+) $").matcher(door.substring(0, at));
    if (c != '=' || !variable.find()) {
      return null;
    }
    Matcher use = Pattern.compile("\\.(\\w+)\\(([^;:{]*?)\\b" + variable.group(1) + "\\b(?! =)")
                      .matcher(door.substring(at));
    return use.find()
        ? new Setter(use.group(1), (int) use.group(2).chars().filter(x -> x == ',').count())
        : null;
  }

  /** The method of a file that fills the op's builder; empty if it has none. */
  private static String read(String path, String op) throws IOException {
    String source = read(path);
    int from = source.indexOf(" " + camel(op) + "(exn_" + op + "_params p)");
    return from < 0 ? "" : source.substring(from, source.indexOf("\n  }\n", from));
  }

  /** The page of the package has each type that it exports, once, and all ops among the families. */
  @Test
  void thePackagePageHasEveryType() throws IOException {
    String page =
        read("java/src/main/java/org/exeunt/package-info.java").replaceAll("\\s+\\*", " ");
    List<String> linked = links(page.substring(page.indexOf("<h2>")));
    List<String> types = new ArrayList<>();
    for (String folder : List.of("java/src/main/java/org/exeunt",
             "java/target/generated-sources/builders/org/exeunt")) {
      try (Stream<Path> files = Files.list(Setup.root().resolve(folder))) {
        for (Path file : files.toList()) {
          String name = file.getFileName().toString().replace(".java", "");
          if (Files.readString(file).matches(
                  "(?s).*\\npublic [\\w ]*(class|record|enum|interface) " + name + "\\b.*")) {
            types.add(name);
          }
        }
      }
    }
    assertEquals(types.stream().sorted().toList(), linked.stream().sorted().toList());
    String families = page.substring(page.indexOf("<h2>Ops"), page.indexOf("<h2>What"));
    assertEquals(
        Arrays.stream(Op.class.getPermittedSubclasses())
            .map(Class::getSimpleName)
            .sorted()
            .toList(),
        links(families).stream().sorted().toList());
  }

  private static List<String> links(String text) {
    return Pattern.compile("\\{@link\\s+(\\w+)}")
        .matcher(text)
        .results()
        .map(link -> link.group(1))
        .toList();
  }

  private static String read(String path) throws IOException {
    return Files.readString(Path.of(Setup.root().toString(), path));
  }

  private static String camel(String op) {
    String name = className(op);
    return Character.toLowerCase(name.charAt(0)) + name.substring(1);
  }

  private static String className(String op) {
    if (op.equals("stablemax")) {
      return "StableMax";
    }
    StringBuilder name = new StringBuilder();
    for (String word : op.split("_")) {
      name.append(Character.toUpperCase(word.charAt(0))).append(word.substring(1));
    }
    return name.toString();
  }
}
