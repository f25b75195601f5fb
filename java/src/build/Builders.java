// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Run by the build: makes the Java ops of the C headers. Each class that Op permits and that has no
 * source of its own gets one of its params struct: fields, setters with their Javadoc, and what
 * hands them to the native library. A class of the same name in java/src/main/partial says what a
 * header cannot: other defaults than 0, enums, setters of several fields. Its members are taken over
 * as they are, and what it has is not made.
 *
 * <pre>
 *   java Builders.java ROOT builders FOLDER   the ops, into FOLDER/org/exeunt
 *   java Builders.java ROOT calls FOLDER      Calls, which fills a builder as a params struct says
 *   java Builders.java ROOT check             reads all, writes nothing
 *   java Builders.java ROOT docs FILE         a section an op, after the last line of FILE that is by
 *                                             hand
 *   java Builders.java ROOT lists             the ops in exeunt.h, Op and EXN_FOR_EACH_OP
 * </pre>
 *
 * A field's comment is its contract (in, out or in-out, optional, shape, types, values), then one or
 * more sentences that say what it is. In the partial class
 * <ul>
 *   <li>a field gives its type and default; after it stands in a comment the C field's name where
 *       that is another, or the C fields that its own write(Params) writes;
 *   <li>a C field whose Java field is assigned by a method gets no setter;
 *   <li>a boxed field is needed, unless there is a method xOrDefault();
 *   <li>writeRest(Params) writes the C fields whose names stand in it;
 *   <li>{@code @param x {field}} stands for the field's contract, {struct.field} for another's.
 * </ul>
 */
public final class Builders {
  private static final int COLUMNS = 100;
  private static final String MARK =
      "<!-- Made by java/src/build/Builders.java; what is above is by hand. -->\n";

  /** A number's type in Java, and what writes it. */
  private record Number(String java, String writer) {}

  private static final Map<String, Number> NUMBERS = Map.of("int32_t", new Number("int", "int32"),
      "int64_t", new Number("long", "int64"), "float", new Number("float", "float32"), "double",
      new Number("double", "float64"));

  /** Fields whose names are methods of every JavaCPP pointer. */
  private static final Set<String> POINTERS = Set.of("address", "capacity", "limit", "position");

  private static final Pattern STRUCT = Pattern.compile(
      "(?:/\\*\\*\\n((?: \\*[^\\n]*\\n)*) \\*/\\n)?typedef struct (exn_\\w+) \\{"
          + "(.*?)\\n\\} \\2;",
      Pattern.DOTALL);
  private static final Pattern FIELD = Pattern.compile(
      "(?:^|\\n)\\s*((?:const )?\\w+\\*?)\\s+(\\w+);(?:\\s*/\\*\\*<(.*?)\\*/)?", Pattern.DOTALL);
  private static final Pattern PARTIAL_FIELD =
      Pattern.compile("^    private (final )?([\\w.<>]+) (\\w+)( = .*?)?;(?: // (.*))?$");
  private static final Pattern METHOD = Pattern.compile("^    (?:[\\w.<>\\[\\]]+ )+(\\w+)\\($?.*");
  private static final Pattern CONSTANT =
      Pattern.compile("\\b([A-Z][A-Z0-9_]*)(?:\\(| = )exeunt\\.(EXN_\\w+)\\b");

  /** A field of a struct of the C ABI. */
  private record Field(String type, String name, String comment) {
    /** Up to the first sentence's end. */
    String contract() {
      int end = end();
      return end < 0 ? comment : comment.substring(0, end);
    }

    /** What it is; empty if the header does not say. */
    String meaning() {
      int end = end();
      return end < 0 ? "" : comment.substring(end + 1).strip();
    }

    private int end() {
      Matcher end = Pattern.compile("(?<!\\.)\\.(?= [A-Z`])").matcher(comment);
      return end.find() ? end.start() : -1;
    }

    boolean isTensor() {
      return type.equals("const DLTensor*");
    }

    boolean isWritten() {
      return comment.matches("(in-)?out\\b.*");
    }

    Number number() {
      return NUMBERS.get(type);
    }
  }

  /** A struct, what is said of it, and what its header says of all its ops. */
  private record Struct(Path header, String text, String top, List<Field> fields) {}

  /** A field of a Java builder. */
  private record Slot(String type, String name, String line, boolean constant, String value) {
    boolean boxed() {
      return Set.of("Integer", "Long", "Float", "Double").contains(type);
    }

    boolean isEnum() {
      return !boxed() && Character.isUpperCase(type.charAt(0))
          && !Set.of("Tensor", "KvCache", "Selection", "BlockFormat").contains(type);
    }
  }

  private final Path root;
  private final Map<String, Struct> structs = new LinkedHashMap<>();
  private final Map<String, Integer> paramsOf = new HashMap<>(); // of a header
  private final Map<String, String> constants = new HashMap<>(); // EXN_X to Class.Enum#X
  private final Map<String, String> classes = new TreeMap<>(); // exeunt's op to its class
  private final List<String> problems = new ArrayList<>();

  private Builders(Path root) throws IOException {
    this.root = root;
    for (Path header : files(root.resolve("native/include/exeunt"), "*.h")) {
      readHeader(header);
    }
    String permits = group("\\bpermits\\b(.*?)\\{", Files.readString(source("Op")));
    for (String name : permits.strip().split("\\W+")) {
      String op =
          structs.keySet()
              .stream()
              .filter(
                  s -> s.replace("_", "").equals("exn" + name.toLowerCase(Locale.ROOT) + "params"))
              .map(s -> s.substring(4, s.length() - 7))
              .findAny()
              .orElse(null);
      if (op == null) {
        problems.add("Op permits " + name + ", but no header has its params struct");
      } else {
        classes.put(op, name);
      }
    }
    for (String folder : List.of("java/src/main/java/org/exeunt", "java/src/main/partial")) {
      for (Path file : files(root.resolve(folder), "*.java")) {
        readConstants(file);
      }
    }
  }

  public static void main(String[] args) throws IOException {
    Builders builders = new Builders(Path.of(args[0]));
    Map<String, String> made = new TreeMap<>();
    if (args[1].equals("docs")) {
      Path file = Path.of(args[2]);
      String byHand = Files.readString(file).replaceFirst("(?s)" + MARK + ".*", "");
      Files.writeString(file, byHand + MARK + builders.page());
      return;
    }
    if (args[1].equals("lists")) {
      builders.lists();
      return;
    }
    if (args[1].equals("calls")) {
      made.put("org/exeunt/cases/Calls.java", builders.calls());
    } else {
      for (Map.Entry<String, String> op : builders.classes.entrySet()) {
        if (!Files.exists(builders.source(op.getValue()))) {
          made.put("org/exeunt/" + op.getValue() + ".java",
              builders.new Maker(op.getKey(), op.getValue()).source());
        }
      }
    }
    if (!builders.problems.isEmpty()) {
      builders.problems.forEach(System.err::println);
      System.exit(1);
    }
    if (!args[1].equals("check")) {
      write(Path.of(args[2]), made);
    }
  }

  /** Leaves alone what is as it should be, and removes what is no longer made. */
  private static void write(Path folder, Map<String, String> made) throws IOException {
    for (Map.Entry<String, String> file : made.entrySet()) {
      Path path = folder.resolve(file.getKey());
      Files.createDirectories(path.getParent());
      if (!Files.exists(path) || !Files.readString(path).equals(file.getValue())) {
        Files.writeString(path, file.getValue());
      }
    }
    try (Stream<Path> found = Files.walk(folder)) {
      for (Path path : found.filter(Files::isRegularFile).toList()) {
        if (!made.containsKey(folder.relativize(path).toString())) {
          Files.delete(path);
        }
      }
    }
  }

  // ---- reading ----------------------------------------------------------------------------------

  private void readHeader(Path header) throws IOException {
    String text = Files.readString(header);
    String top = group("\\n/\\*\\n(.*?)\\n \\*/\\n", text);
    Matcher struct = STRUCT.matcher(text);
    while (struct.find()) {
      List<Field> fields = new ArrayList<>();
      Matcher field = FIELD.matcher(struct.group(3));
      while (field.find()) {
        String comment = field.group(3) == null ? "" : field.group(3);
        fields.add(
            new Field(field.group(1), field.group(2), comment.replaceAll("\\s+", " ").strip()));
      }
      boolean params = struct.group(2).endsWith("_params");
      boolean alone = text.split("\\} exn_\\w+_params;", -1).length == 2;
      String prose = params && alone ? top : struct.group(1);
      structs.put(struct.group(2), new Struct(root.relativize(header), prose, top, fields));
    }
  }

  private void readConstants(Path file) throws IOException {
    String text = Files.readString(file);
    String type = file.getFileName().toString().replace(".java", "");
    String inner = "";
    for (String line : text.split("\n")) {
      Matcher begin = Pattern.compile("^(  )?public enum (\\w+)").matcher(line);
      if (begin.find()) {
        inner = begin.group(1) == null ? "" : "." + begin.group(2);
      }
      Matcher constant = CONSTANT.matcher(line);
      if (constant.find()) {
        String owner = line.contains(" static final ") ? type : type + inner;
        constants.putIfAbsent(constant.group(2), owner + "#" + constant.group(1));
      }
    }
  }

  private Path source(String type) {
    return root.resolve("java/src/main/java/org/exeunt/" + type + ".java");
  }

  private static List<Path> files(Path folder, String names) throws IOException {
    try (DirectoryStream<Path> found = Files.newDirectoryStream(folder, names)) {
      List<Path> files = new ArrayList<>();
      found.forEach(files::add);
      files.sort(null);
      return files;
    }
  }

  private static String group(String pattern, String text) {
    Matcher found = Pattern.compile(pattern, Pattern.DOTALL).matcher(text);
    return found.find() ? found.group(1) : "";
  }

  private static String camel(String name) {
    return Pattern.compile("_(\\w)").matcher(name).replaceAll(
        m -> m.group(1).toUpperCase(Locale.ROOT));
  }

  // ---- one class --------------------------------------------------------------------------------

  /** Makes a class of its struct and of what its partial class says. */
  private final class Maker {
    private final String op;
    private final String type;
    private final Struct struct;
    private final String partial;
    private final String members; // of the class, in the partial one
    private final String extended; // what the builder extends
    private final Map<String, Slot> slots = new LinkedHashMap<>(); // by the C field's name
    private final List<String> ownFields = new ArrayList<>(); // that stand for no field of C
    private final List<String> objects = new ArrayList<>(); // that write several fields of C
    private final Set<String> written = new LinkedHashSet<>(); // fields of C that others write
    private final String methods; // of the builder, in the partial class
    private final Map<String, String> bodies = new LinkedHashMap<>(); // of those, by name
    private boolean inBuilder = true; // where links are made

    Maker(String op, String type) throws IOException {
      this.op = op;
      this.type = type;
      struct = structs.get("exn_" + op + "_params");
      Path path = root.resolve("java/src/main/partial/" + type + ".java");
      partial = Files.exists(path) ? Files.readString(path) : "";
      members = group("\\n(?:public )?final class " + type + " extends Op \\{\\n"
              + "(.*?)(?=\\n*(?:  /\\*\\*[^\\n]*\\*/\\n)?  public static final class Builder|\\n\\}\\n$)",
          partial);
      String builder = group("(  public static final class Builder .*)\\n\\}\\n$", partial);
      String parent = group("extends (.*?) \\{", builder);
      extended = parent.isEmpty() ? "Op.Builder<" + type + ">" : parent;
      methods = readBuilder(group("\\{\\n(.*)\\n?  \\}$", builder));
      if (extended.startsWith("StatisticsBuilder")) {
        written.addAll(List.of("normalizer", "temperature", "softcap", "out"));
      }
      Matcher quoted = Pattern.compile("\"(\\w+)\"").matcher(bodies.getOrDefault("writeRest", ""));
      while (quoted.find()) {
        written.add(quoted.group(1));
      }
      for (Field field : struct.fields) {
        if (!field.name.matches("struct_size|reserved\\w*") && !slots.containsKey(field.name)
            && (!written.contains(field.name) || restTakes(field))) {
          makeSlot(field);
        }
      }
      fields().filter(f -> setter(f) != null).forEach(this::check);
    }

    /** Whether writeRest(Params) writes a field of the builder that has the C field's name. */
    private boolean restTakes(Field field) {
      return bodies.getOrDefault("writeRest", "")
          .contains("\"" + field.name + "\", " + camel(field.name));
    }

    /** Takes the fields out of the partial builder; what is left. */
    private String readBuilder(String body) {
      StringBuilder rest = new StringBuilder();
      String method = null;
      for (String line : body.split("\n")) {
        Matcher field = PARTIAL_FIELD.matcher(line);
        if (field.matches()) {
          readField(field);
          continue;
        }
        rest.append(line).append('\n');
        if (!line.startsWith("     ") && METHOD.matcher(line).matches()) {
          method = group("(\\w+)\\(", line);
        }
        if (method != null) {
          bodies.merge(method, line + "\n", String::concat);
        }
      }
      return rest.toString().strip();
    }

    private void readField(MatchResult field) {
      String note = field.group(5);
      String line = field.group().replaceFirst(" // .*", "");
      if (note != null && note.contains(",")) {
        written.addAll(List.of(note.split(", ")));
        objects.add(field.group(3));
        ownFields.add(line);
        return;
      }
      String name = note != null
          ? note
          : struct.fields.stream()
                .map(Field::name)
                .filter(f -> camel(f).equals(field.group(3)))
                .findAny()
                .orElse(null);
      if (name == null) {
        ownFields.add(line);
      } else {
        slots.put(name,
            new Slot(field.group(2), field.group(3), line, field.group(1) != null,
                field.group(4) == null ? "" : field.group(4).substring(3)));
      }
    }

    private void makeSlot(Field field) {
      String java;
      if (field.isTensor()) {
        java = "Tensor";
      } else if (field.type.equals("exn_kv_cache")) {
        java = "KvCache";
      } else if (field.type.equals("exn_selection")) {
        java = "Selection";
      } else if (field.name.endsWith("_blocks")) {
        java = "BlockFormat";
      } else if (field.comment.matches("(0:|0 or 1\\b|0 = |1:).*")
          && field.type.equals("int32_t")) {
        java = "boolean";
      } else if (field.number() == null || field.comment.startsWith("EXN_")) {
        problem(field,
            "is of " + field.type + " and says '" + field.contract() + "', which partial/" + type
                + ".java has to give a Java field for");
        return;
      } else {
        java = field.number().java;
      }
      String name = camel(field.name);
      slots.put(
          field.name, new Slot(java, name, "    private " + java + " " + name + ";", false, ""));
    }

    private void check(Field field) {
      if ((field.isTensor() || field.type.equals("exn_kv_cache")) && !restTakes(field)
          && !field.comment.matches("(in|out|in-out)\\b.*")) {
        problem(field, "does not begin with in, out or in-out: '" + field.comment + "'");
      }
      if (field.contract().isEmpty()) {
        problem(field, "has no comment");
      } else if (field.meaning().isEmpty()) {
        problem(field, "has no sentence after '" + field.contract() + ".' that says what it is");
      }
    }

    private void problem(Field field, String what) {
      problems.add(struct.header + ": exn_" + op + "_params, field " + field.name + ": " + what);
    }

    private Stream<Field> fields() {
      return struct.fields.stream().filter(f -> slots.containsKey(f.name));
    }

    /** The slot of a field that gets a setter; else null. */
    Slot setter(Field field) {
      Slot slot = slots.get(field.name);
      return slot == null || slot.constant || assigner(slot) != null ? null : slot;
    }

    /** The method of the partial builder that assigns a slot; null if none does. */
    private String assigner(Slot slot) {
      Pattern assignment = Pattern.compile("(?<![\\w.\"] )\\b(this\\.)?" + slot.name + " = ");
      return bodies.entrySet()
          .stream()
          .filter(m -> assignment.matcher(m.getValue()).find())
          .map(Map.Entry::getKey)
          .findFirst()
          .orElse(null);
    }

    String source() {
      StringBuilder out = new StringBuilder("// SPDX-License-Identifier: Apache-2.0\n");
      out.append("// Made by java/src/build/Builders.java of ").append(struct.header);
      out.append(partial.isEmpty() ? "" : "\n// and java/src/main/partial/" + type + ".java");
      out.append(".\npackage org.exeunt;\n\n");
      Stream<String> needed = Stream.of("import org.exeunt.jni.exn_" + op + "_params;",
          "import org.exeunt.jni.global.exeunt;", "import org.jspecify.annotations.Nullable;");
      Stream.concat(needed, partial.lines().filter(l -> l.startsWith("import ")))
          .distinct()
          .sorted()
          .forEach(i -> out.append(i).append('\n'));
      out.append('\n').append(classDoc());
      out.append("public final class ").append(type).append(" extends Op {\n");
      if (!members.isBlank()) {
        out.append(substituted(members.stripTrailing())).append("\n\n");
      }
      out.append(fill("""
            private TYPE(Params params, Place place) {
              super(params, place);
            }

          """));
      if (!bodies.containsKey("Builder") && !members.contains(" Builder builder()")) {
        out.append("""
              /**
               * Starts building.
               *
               * @return an empty builder
               */
              public static Builder builder() {
                return new Builder();
              }

            """);
      }
      out.append(fill("""
            @Override
            int supported(long params) {
              return exeunt.exn_OP_supported(params);
            }

            @Override
            int workspaceSize(long params, long[] bytes) {
              return exeunt.exn_OP_workspace_size(params, bytes);
            }

            @Override
            int launch(long params, long workspace, long workspaceBytes, long stream) {
              return exeunt.exn_OP(params, workspace, workspaceBytes, stream);
            }

            /** Arguments of {@link TYPE}. */
            public static final class Builder extends EXTENDED {
          """));
      Set<String> lines = new LinkedHashSet<>();
      fields().forEach(f -> lines.add(slots.get(f.name).line));
      lines.addAll(ownFields);
      lines.forEach(l -> out.append(l).append('\n'));
      if (!bodies.containsKey("Builder")) {
        out.append("\n    private Builder() {}\n");
      }
      fields().filter(f -> setter(f) != null).forEach(f -> setter(out, f));
      if (!methods.isEmpty()) {
        out.append("\n    ").append(substituted(methods)).append('\n');
      }
      create(out);
      return out.append("  }\n}\n").toString();
    }

    private String fill(String template) {
      return template.replace("TYPE", type).replace("EXTENDED", extended).replace("OP", op);
    }

    private void setter(StringBuilder out, Field field) {
      Slot slot = slots.get(field.name);
      String parameter = slot.type.equals("Tensor") ? "tensor" : "value";
      String declared = slot.type.equals("Integer") ? "int"
          : slot.boxed()
          ? slot.type.toLowerCase(Locale.ROOT)
          : slot.type;
      String doc = doc("    ", java(field.meaning()),
          List.of("@param " + parameter + " " + described(field, slot), "@return this"));
      out.append('\n').append(doc);
      out.append("    public Builder ").append(slot.name).append('(');
      boolean object = Character.isUpperCase(declared.charAt(0)) && !slot.isEnum();
      boolean optional = object && doc.matches("(?s).*\\b(optional|(?<!v may be )null)\\b.*");
      out.append(optional ? "@Nullable " : "").append(declared);
      out.append(' ').append(parameter).append(") {\n");
      String value =
          slot.isEnum() ? "Named.present(\"" + slot.name + "\", " + parameter + ")" : parameter;
      out.append("      ").append(slot.name).append(" = ").append(value).append(";\n");
      out.append("      return this;\n    }\n");
    }

    /** The contract in Java's words, with the default. */
    private String described(Field field, Slot slot) {
      String contract = field.contract();
      if (slot.type.equals("BlockFormat")) {
        return "the format; null, the default: elements of the tensor's dtype";
      }
      if (slot.type.equals("boolean")) {
        contract =
            contract.replaceAll("\\b0(?=:| =)", "false")
                .replaceAll("\\b1(?=:| =)", "true")
                .replace("0 or 1", "true or false");
        return java(contract) + "; left out, false";
      }
      if (slot.isEnum() && !slot.value.isEmpty()) {
        return java(contract) + "; left out, {@link " + slot.value.replaceFirst("\\.(\\w+)$", "#$1")
            + "}";
      }
      if (bodies.containsKey(slot.name + "OrDefault")) {
        return java(contract.replace("usually ", "left out, "));
      }
      boolean says = slot.value.isEmpty() || contract.matches(".*\\bleft out\\b.*");
      return java(contract) + (says ? "" : "; left out, " + slot.value.replaceFirst("f$", ""));
    }

    private void create(StringBuilder out) {
      out.append("\n    @Override\n    ").append(type).append(" create(Place place) {\n");
      out.append("      Params params =\n          new Params(exn_").append(op);
      out.append("_params.class)");
      StringBuilder after = new StringBuilder();
      fields().filter(f -> !written.contains(f.name)).forEach(f -> {
        Slot slot = slots.get(f.name);
        if (slot.type.equals("KvCache")) {
          after.append("      KvCache.write(" + slot.name + ", params, \"" + f.name + "\", "
              + f.isWritten() + ");\n");
        } else if (slot.type.equals("Selection")) {
          after.append("      Selection.write(" + slot.name + ", params);\n");
        } else {
          String writer = f.isTensor() ? f.isWritten() ? "written" : "tensor" : f.number().writer;
          out.append("\n              .").append(writer).append("(\"").append(f.name);
          out.append("\", ").append(value(slot)).append(')');
        }
      });
      out.append(";\n").append(after);
      objects.forEach(o -> out.append("      " + o + ".write(params);\n"));
      if (bodies.containsKey("writeRest")) {
        out.append("      writeRest(params);\n");
      }
      String all = extended.startsWith("StatisticsBuilder") ? "write(params)" : "params";
      out.append("      return new " + type + "(" + all + ", place);\n    }\n");
    }

    private String value(Slot slot) {
      if (bodies.containsKey(slot.name + "OrDefault")) {
        return slot.name + "OrDefault()";
      }
      if (slot.boxed()) {
        String by = assigner(slot);
        return "given(\"" + (by == null ? slot.name : by) + "\", " + slot.name + ")";
      }
      return switch (slot.type) {
        case "boolean" -> slot.name + " ? 1 : 0";
        case "BlockFormat" -> "BlockFormat.tagOf(" + slot.name + ")";
        default -> slot.name + (slot.isEnum() ? ".code" : "");
      };
    }

    // ---- words ----------------------------------------------------------------------------------

    /** Of the class: the partial one's, or what the header says of the op. */
    private String classDoc() {
      inBuilder = false;
      String own = group("(/\\*\\*\\n(?: \\*[^\\n]*\\n)* \\*/\\n)public final class", partial);
      if (!own.isEmpty()) {
        return own;
      }
      if (struct.text == null || struct.text.isBlank()) {
        problems.add(struct.header + ": exn_" + op + "_params: has no comment that says what " + op
            + " does, as a header of several ops needs");
        return "";
      }
      List<String> paragraphs = new ArrayList<>();
      String name = struct.text.replaceFirst("^ \\* " + op + ": *", " * ");
      for (String paragraph : name.replaceAll("(?m)^ \\*", "").split("\n\\s*\n")) {
        paragraphs.add(paragraph);
      }
      StringBuilder out = new StringBuilder("/**\n");
      boolean first = true;
      for (String paragraph : paragraphs) {
        if (paragraph.startsWith("   ") && !first) {
          out.append(" *\n * <pre>\n");
          paragraph.lines().forEach(l -> out.append(" * " + escaped(l.substring(1)) + "\n"));
          out.append(" * </pre>\n");
        } else {
          String text = linked(paragraph.replaceAll("\\s+", " ").strip());
          text = text.matches("\\w+ = .*")
              ? text
              : Character.toUpperCase(text.charAt(0)) + text.substring(1);
          out.append(first ? "" : " *\n")
              .append(wrapped(" * ", " * ", (first ? "" : "<p>") + text));
        }
        first = false;
      }
      inBuilder = true;
      return out + " *\n * <p>Errors, threads, alignment, aliasing: {@link Op}.\n */\n";
    }

    private String doc(String indent, String text, List<String> tags) {
      String star = indent + " * ";
      StringBuilder out = new StringBuilder(indent + "/**\n" + wrapped(star, star, text));
      out.append(indent).append(" *\n");
      tags.forEach(t -> out.append(wrapped(star, star + "    ", t)));
      return out + indent + " */\n";
    }

    /** Puts contracts in the place of {field} after a parameter's name. */
    private String substituted(String text) {
      Pattern asked = Pattern.compile(
          "(?m)^( +\\* )(@param \\w+ )\\{([\\w.]+)\\}((?:[^@\\n]|\\{@)*(?:\\n +\\*     .*)*)$");
      return asked.matcher(text).replaceAll(m -> {
        String name = m.group(3);
        int dot = name.indexOf('.');
        Struct in = dot < 0 ? struct : structs.get("exn_" + name.substring(0, dot));
        Field field = in == null
            ? null
            : in.fields.stream()
                  .filter(f -> f.name.equals(name.substring(dot + 1)))
                  .findAny()
                  .orElse(null);
        if (field == null) {
          problems.add("partial/" + type + ".java: no struct has what {" + name + "} asks for");
          return "";
        }
        String rest = m.group(4).replaceAll("\\s*\\n +\\*\\s+", " ");
        String all = m.group(2) + java(field.contract()) + rest;
        return Matcher.quoteReplacement(
            wrapped(m.group(1), m.group(1) + "    ", all).stripTrailing());
      });
    }

    private String java(String text) {
      String out =
          Pattern.compile("\\b(?:f64|f32|f16|bf16|i32|i64|u8)(?: \\| \\w+)*\\b")
              .matcher(text)
              .replaceAll(m -> types(m.group()));
      out = out.replaceAll("^> 0\\b", "positive").replaceAll("(^|[a-z:] )>= 0\\b", "$10 or more");
      out = out.replaceAll("([\\w\\]]) >= (?=\\w)", "$1 at least ")
                .replaceAll("([\\w\\]]) <= (?=\\w)", "$1 at most ")
                .replaceAll("([\\w\\]]) < (?=\\w)", "$1 below ");
      out = out.replace("NULL: ", "left out, ").replaceAll("\\bNULL\\b", "null");
      out = out.replaceAll("^in-out\\b", "in and out");
      return linked(out);
    }

    /** Names of C as Javadoc links them. */
    private String linked(String text) {
      return Pattern
          .compile("`([^`]*)`|\\bEXN_\\w+\\*?(?:(?:,| or|, or) _[A-Z]\\w*)*|"
              + "\\b[a-z]+[a-z0-9]*(?:_[a-z0-9]+)+(?:\\.h)?\\b")
          .matcher(escaped(text))
          .replaceAll(m -> Matcher.quoteReplacement(name(m)));
    }

    private String types(String list) {
      List<String> types = List.of(list.toUpperCase(Locale.ROOT).split(" \\| "));
      int last = types.size() - 1;
      return last == 0
          ? types.get(0)
          : String.join(", ", types.subList(0, last)) + " or " + types.get(last);
    }

    /** A name of C as Javadoc links it. */
    private String name(MatchResult m) {
      String name = m.group(1) == null ? m.group() : m.group(1);
      if (name.startsWith("EXN_")) {
        String first = group("(EXN_\\w+\\*?)", name);
        StringBuilder out = new StringBuilder();
        String last = first;
        for (String part : name.split("(?<=,|or) (?=_)|(?= or _)|(?=,)|(?<= or )")) {
          String word = part.strip().replaceFirst("^or ", "");
          if (word.startsWith("_")) {
            out.append(' ').append(part.contains("or ") ? "or " : "");
            last = expanded(first, word);
            out.append(constant(last));
          } else if (word.startsWith("EXN_")) {
            out.append(constant(word));
          } else {
            out.append(part);
          }
        }
        return out.toString();
      }
      String stem = name.replaceFirst("\\.h$", "");
      if (classes.containsKey(stem) && !hasField(stem)) {
        return stem.equals(op) ? "{@code " + type + "}" : "{@link " + classes.get(stem) + "}";
      }
      if (hasField(stem)) {
        String camel = camel(stem);
        String by = slots.containsKey(stem) ? assigner(slots.get(stem)) : null;
        if (by != null && methods.contains("public Builder " + by + "(")) {
          camel = by;
        }
        boolean linked = methods.contains("public Builder " + camel + "(")
            || fields().anyMatch(f -> f.name.equals(stem) && setter(f) != null);
        return linked
            ? "{@link " + (inBuilder ? "#" : "Builder#") + camel + "}"
            : "{@code " + camel + "}";
      }
      return m.group(1) == null
          ? name
          : "{@code " + name.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") + "}";
    }

    private boolean hasField(String name) {
      return struct.fields.stream().anyMatch(f -> f.name.equals(name));
    }

    private String expanded(String first, String tail) {
      for (int end = first.length(); end > 3; end = first.lastIndexOf('_', end - 1)) {
        if (constants.containsKey(first.substring(0, end) + tail)) {
          return first.substring(0, end) + tail;
        }
      }
      return first;
    }

    private String constant(String name) {
      String link = constants.get(name);
      if (name.endsWith("*")) { // all that begin so, which one enum has
        link =
            constants.entrySet()
                .stream()
                .filter(c -> c.getKey().startsWith(name.substring(0, name.length() - 1)))
                .map(c -> c.getValue().replaceFirst("#.*", ""))
                .findFirst()
                .orElse(null);
      }
      if (name.equals("EXN_INVALID_ARGUMENT")) {
        return "an {@link IllegalArgumentException}";
      }
      if (name.equals("EXN_UNSUPPORTED")) {
        return "an {@link UnsupportedOperationException}";
      }
      return link == null
          ? "{@code " + name + "}"
          : "{@link " + link.replaceFirst("^" + type + "(\\.|(?=#))", "") + "}";
    }
  }

  private static String escaped(String text) {
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
  }

  /** The words in lines of at most 100 columns; what braces hold stays together. */
  private static String wrapped(String first, String next, String text) {
    StringBuilder out = new StringBuilder();
    StringBuilder line = new StringBuilder(first);
    boolean empty = true;
    Matcher words = Pattern.compile("(?:\\{@[^}]*\\}|\\S)+").matcher(text);
    while (words.find()) {
      if (!empty && line.length() + 1 + words.group().length() > COLUMNS) {
        out.append(line).append('\n');
        line = new StringBuilder(next);
        empty = true;
      }
      line.append(empty ? "" : " ").append(words.group());
      empty = false;
    }
    return out.append(line).append('\n').toString();
  }

  // ---- a page -----------------------------------------------------------------------------------

  /** A section an op: what it is, its arguments, types, devices, bytes, errors, an example. */
  private String page() throws IOException {
    StringBuilder out = new StringBuilder("\n# Each op\n");
    Map<Path, String> first = new HashMap<>(); // ops of the headers that were described
    for (Map.Entry<String, String> entry : classes.entrySet()) {
      String op = entry.getKey();
      Struct struct = structs.get("exn_" + op + "_params");
      String stem = struct.header.getFileName().toString().replace(".h", "");
      String described = first.putIfAbsent(struct.header, op);
      out.append("\n## ").append(op).append("\n\n[`").append(stem).append(".h`](../");
      out.append(struct.header).append("), in Java `").append(entry.getValue()).append("`.\n");
      List<String> bytes = new ArrayList<>();
      List<String> errors = new ArrayList<>();
      Map<String, String> parts = parts(struct.top);
      if (!struct.top.equals(struct.text) && !parts.containsKey(op)) {
        out.append(prose(struct.text == null ? "" : plain(op, struct.text), bytes, errors));
      }
      out.append(prose(parts.getOrDefault(op, ""), bytes, errors));
      String shared = prose(plain(stem, parts.get("")), bytes, errors);
      out.append(described == null
              ? shared
              : "\nWhat ops of this header have in common: [" + described + "](#" + described
                  + ").\n");
      out.append("\n| argument | type | contract | what it is |\n| --- | --- | --- | --- |\n");
      rows(out, "", struct);
      out.append("\n**Types.** ").append(types(struct)).append("\n\n**Devices.** ");
      out.append(struct.top.contains("CPU tensors only") ? "CPU." : "CPU and CUDA.").append('\n');
      bytes.forEach(b -> out.append("\n").append(b));
      out.append("\n**Errors.** [Those of every op](#errors-of-every-op).\n");
      errors.forEach(e -> out.append("\n").append(e));
      out.append(example(entry.getValue(), stem, described));
    }
    return out.toString();
  }

  /** What a header says of all its ops, and of each: after a line that begins with its name. */
  private Map<String, String> parts(String top) {
    Map<String, StringBuilder> parts = new HashMap<>(Map.of("", new StringBuilder()));
    String part = "";
    int indent = 2;
    for (String line : top.replaceAll("(?m)^ \\* ?", "").split("\n")) {
      Matcher begin = Pattern.compile("^(\\w+)  +(\\S.*)").matcher(line);
      if (begin.matches() && classes.containsKey(begin.group(1))) {
        part = begin.group(1);
        String formula = begin.group(2).contains(" = ") ? "  " : "";
        parts.put(part, new StringBuilder(formula + begin.group(2) + "\n"));
        indent = formula.isEmpty() ? begin.start(2) : begin.start(2) - 2;
        continue;
      }
      if (!line.isBlank() && !line.startsWith("  ")) {
        part = "";
      }
      int most = line.isBlank() ? 0 : line.length() - line.stripLeading().length();
      indent = line.isBlank() ? 2 : indent;
      parts.get(part)
          .append(part.isEmpty() ? line : line.substring(Math.min(most, indent)))
          .append('\n');
    }
    Map<String, String> texts = new HashMap<>();
    parts.forEach((name, text) -> texts.put(name, text.toString()));
    return texts;
  }

  /** A comment without stars and without the name before its first sentence. */
  private static String plain(String op, String text) {
    return text.replaceAll("(?m)^ \\* ?", "").replaceFirst("^" + op + ": *", "");
  }

  /** A text as Markdown, without what it says of bytes and errors, which are put aside. */
  private static String prose(String all, List<String> bytes, List<String> errors) {
    StringBuilder out = new StringBuilder();
    for (String whole : all.split("\n\\s*\n")) {
      int at = whole.indexOf("Bytes that must move:");
      String paragraph = at < 0 ? whole : whole.substring(0, at);
      if (at >= 0) {
        String said = whole.substring(whole.indexOf(':', at) + 1).replaceAll("\\s+", " ").strip();
        bytes.add(
            wrapped("", "", "**Bytes** that must move: " + said.replaceAll("[*<]", "\\\\$0")));
      }
      if (paragraph.isBlank()) {
        continue;
      }
      if (paragraph.startsWith("  ")) {
        out.append("\n```\n").append(paragraph.stripTrailing().stripIndent()).append("\n```\n");
        continue;
      }
      String markdown = paragraph.strip().replaceAll("[*<]", "\\\\$0") + "\n";
      if (markdown.matches("(?s).*\\bEXN_(?:INVALID_ARGUMENT|UNSUPPORTED)\\b.*")) {
        errors.add(markdown);
      } else {
        boolean begins = out.isEmpty() && !markdown.matches("(?s)\\w+ =.*");
        char capital = Character.toUpperCase(markdown.charAt(0));
        out.append('\n')
            .append(begins ? capital : markdown.charAt(0))
            .append(markdown.substring(1));
      }
    }
    return out.toString();
  }

  /** Which tensors are of which types. */
  private String types(Struct struct) {
    Map<String, List<String>> names = new LinkedHashMap<>();
    types("", struct, names);
    return names.entrySet()
               .stream()
               .map(t -> t.getKey() + ": " + String.join(", ", t.getValue()))
               .collect(Collectors.joining("; "))
        + ".";
  }

  private void types(String path, Struct struct, Map<String, List<String>> names) {
    for (Field field : struct.fields) {
      String types = group(
          "((?:dtype of `?\\w+`?|\\b(?:f64|f32|f16|bf16|i32|i64|u8))(?: \\| \\w+)*)",
          field.contract());
      if (field.isTensor() && !types.isEmpty()) {
        names.computeIfAbsent(types.replace(" |", ","), t -> new ArrayList<>())
            .add("`" + path + field.name + "`");
      } else if (field.type.matches("(?:const )?exn_\\w+\\*?")) {
        String inner = field.type.replaceFirst("^const ", "").replaceFirst("\\*$", "");
        String array = field.type.endsWith("*") ? "[]." : ".";
        types(path + field.name + array, structs.get(inner), names);
      }
    }
  }

  /** The program of the op, or of its header, which the tests run. */
  private String example(String type, String stem, String described) throws IOException {
    String ofHeader = classes.getOrDefault(
        stem, Character.toUpperCase(stem.charAt(0)) + camel(stem).substring(1));
    for (String name : List.of(type, ofHeader)) {
      String path = "examples/src/main/java/org/exeunt/examples/ops/" + name + "Example.java";
      if (!Files.exists(root.resolve(path))) {
        continue;
      }
      String link = "\n**Example.** [`" + name + "Example`](../" + path + ")";
      if (described != null && !name.equals(type)) {
        return link + ".\n";
      }
      String code = group("(  // Prints\n.*?\n  \\}\n)", Files.readString(root.resolve(path)));
      return link + ":\n\n```java\n" + code.stripIndent() + "```\n";
    }
    problems.add("there is no examples/.../ops/" + type + "Example.java");
    return "";
  }

  private void rows(StringBuilder out, String path, Struct struct) {
    for (Field field : struct.fields) {
      String inner = field.type.replaceFirst("^const ", "").replaceFirst("\\*$", "");
      if (!field.name.matches("struct_size|reserved\\w*")) {
        String type = field.isTensor() ? "tensor" : inner.replaceFirst("^exn_", "");
        out.append(String.format(Locale.ROOT, "| `%s%s` | %s | %s | %s |\n", path, field.name, type,
            field.contract().replace("|", "\\|"), field.meaning().replace("|", "\\|")));
        if (field.type.startsWith("const exn_")) { // structs in a row
          rows(out, field.name + "[].", structs.get(inner));
        }
      }
    }
  }

  // ---- lists ------------------------------------------------------------------------------------

  /** Rewrites the lists of ops that are kept in sources: what they name follows from the headers. */
  private void lists() throws IOException {
    String includes =
        files(root.resolve("native/include/exeunt"), "*.h")
            .stream()
            .map(f -> f.getFileName().toString())
            .filter(f -> !Set.of("exeunt.h", "dlpack_abi.h").contains(f))
            .map(f -> "#include <exeunt/" + f + ">\n")
            .collect(Collectors.joining());
    rewrite("native/include/exeunt/exeunt.h", "(?:#include <exeunt/\\w+\\.h>\n)+", includes);
    // Of each op its class. New ones come last: the list is the order of the backends' tables.
    Map<String, String> args = new LinkedHashMap<>();
    Matcher listed =
        Pattern.compile("\\bX\\((\\w+), (\\w+)Args\\)")
            .matcher(Files.readString(root.resolve("native/src/base/ops.h")));
    while (listed.find()) {
      if (structs.containsKey("exn_" + listed.group(1) + "_params")) {
        args.put(listed.group(1), listed.group(2));
      }
    }
    for (Path file : files(root.resolve("native/src/base/args"), "*.h")) {
      Matcher found = Pattern.compile("\nstruct (\\w+)Args \\{").matcher(Files.readString(file));
      while (found.find()) {
        structs.keySet()
            .stream()
            .filter(s
                -> s.replace("_", "").equals(
                    "exn" + found.group(1).toLowerCase(Locale.ROOT) + "params"))
            .forEach(s -> args.put(s.substring(4, s.length() - 7), found.group(1)));
      }
    }
    StringBuilder list = new StringBuilder("#define EXN_FOR_EACH_OP(X)");
    int width =
        args.entrySet()
            .stream()
            .mapToInt(a -> a.getKey().length() + a.getValue().length() + 11)
            .max()
            .orElse(0);
    args.forEach((op, type) -> {
      int last = list.lastIndexOf("\n") + 1;
      list.append(" ".repeat(width + 1 - (list.length() - last))).append("\\\n");
      list.append("  X(").append(op).append(", ").append(type).append("Args)");
    });
    rewrite("native/src/base/ops.h", "#define EXN_FOR_EACH_OP\\(X\\)(?:[^\n]*\\\\\n)+[^\n]*",
        list.toString());
    String permits = String.join(", ", new java.util.TreeSet<>(args.values()));
    rewrite("java/src/main/java/org/exeunt/Op.java", "implements AutoCloseable permits [^{]*\\{",
        wrapped("    ", "               ", "implements AutoCloseable permits " + permits + " {")
            .strip());
  }

  private void rewrite(String file, String part, String by) throws IOException {
    Path path = root.resolve(file);
    String text = Files.readString(path);
    String now = Pattern.compile(part).matcher(text).replaceFirst(Matcher.quoteReplacement(by));
    if (!now.equals(text)) {
      Files.writeString(path, now);
    }
  }

  // ---- calls ------------------------------------------------------------------------------------

  private String calls() throws IOException {
    String forms = Files.readString(root.resolve("ops/java/org/exeunt/cases/Forms.java"));
    StringBuilder list = new StringBuilder();
    StringBuilder bodies = new StringBuilder();
    Set<String> imports = new LinkedHashSet<>();
    for (Map.Entry<String, String> entry : classes.entrySet()) {
      String op = entry.getKey();
      String type = entry.getValue();
      String method = Character.toLowerCase(type.charAt(0)) + type.substring(1);
      String params = "exn_" + op + "_params";
      boolean formed = forms.contains(" " + method + "(" + params + " p)");
      imports.add("org.exeunt.jni." + params);
      list.append("    ALL.put(\"" + op + "\", p -> " + method + "(new " + params + "(at(p))));\n");
      bodies.append("\n  private static Steps<?> " + method + "(" + params + " p) {\n");
      if (!formed) {
        imports.add("org.exeunt." + type);
      }
      bodies.append(
          "    return " + (formed ? "Forms." + method + "(p)" : "Steps.of(" + type + "::builder)"));
      if (!Files.exists(source(type))) {
        Maker maker = new Maker(op, type);
        maker.fields().filter(f -> maker.setter(f) != null).forEach(f -> {
          Slot slot = maker.setter(f);
          bodies.append("\n        .then(b -> b." + slot.name + "("
              + passed(f, slot, type, maker.members, imports) + "))");
        });
        if (maker.extended.startsWith("StatisticsBuilder")) {
          imports.add("org.exeunt.Normalizer");
          bodies.append(
              "\n        .then(b -> b.normalizer(constant(Normalizer.class, p.normalizer())))"
              + "\n        .then(b -> b.temperature(p.temperature()))"
              + "\n        .then(b -> b.softcap(p.softcap()))"
              + "\n        .then(b -> b.labels(tensor(p.out().labels())))"
              + "\n        .then(b -> b.drawKey(tensor(p.out().draw_key())))"
              + "\n        .then(b -> b.drawCounter(tensor(p.out().draw_counter())))"
              + "\n        .then(b -> b.drawTemperature(tensor(p.out().draw_temperature())))"
              + "\n        .then(b -> b.out(statistics(p.out())))");
        }
      }
      bodies.append(";\n  }\n");
    }
    String names =
        imports.stream().sorted().map(i -> "import " + i + ";\n").collect(Collectors.joining());
    return "// SPDX-License-Identifier: Apache-2.0\n"
        + "// Made by java/src/build/Builders.java of the C headers.\n"
        + "package org.exeunt.cases;\n\nimport static org.exeunt.cases.Facade.*;\n\n"
        + "import java.util.LinkedHashMap;\nimport java.util.Map;\n"
        + "import java.util.function.LongFunction;\n" + names
        + "\n/** Fills the builder of each op as its params struct says. */\nfinal class Calls {\n"
        + "  static final Map<String, LongFunction<Steps<?>>> ALL = new LinkedHashMap<>();\n\n"
        + "  static {\n" + list + "  }\n\n  private Calls() {}\n" + bodies + "}\n";
  }

  private static String passed(
      Field field, Slot slot, String type, String members, Set<String> imports) {
    String get = "p." + field.name + "()";
    boolean hidden = POINTERS.contains(field.name);
    switch (slot.type) {
      case "Tensor":
        return hidden ? "tensor(p, \"" + field.name + "\")" : "tensor(" + get + ")";
      case "KvCache":
        return "cache(" + get + ")";
      case "Selection":
        return "selection(" + get + ")";
      case "BlockFormat":
        return "blocks(" + get + ")";
      case "boolean":
        return get + " != 0";
      default:
    }
    if (!slot.isEnum()) {
      return hidden ? "word(p, \"" + field.name + "\")" : get;
    }
    boolean nested = members.contains("enum " + slot.type + " ");
    imports.add("org.exeunt." + (nested ? type : slot.type.replaceFirst("\\..*", "")));
    return "constant(" + (nested ? type + "." : "") + slot.type + ".class, " + get + ")";
  }
}
