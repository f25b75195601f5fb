// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cli;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine;
import picocli.CommandLine.MissingParameterException;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.UnmatchedArgumentException;

/**
 * The options of programs. A program's help page, {@code /help/PROGRAM.txt} on the class path, is
 * the one place that says which there are: the launcher goes by it before anything is built, and
 * here picocli does. A row of it is two blanks, the option, a blank and a label for each value it
 * takes, and after two more blanks or in lines with a deeper indent what it means.
 */
public final class HelpPage {
  private static final Pattern ROW =
      Pattern.compile("^  (--[a-z-]+)((?: [^ \\n]+)*)(?:  .*)?$", Pattern.MULTILINE);
  private static final Pattern FILE = Pattern.compile("FILE|FOLDER|DIR");
  private static final Pattern CHOICE = Pattern.compile("[a-z0-9.-]+(\\|[a-z0-9.-]+)+");

  /** Nothing that an argument can hold: picocli's signs for what our programs do not have. */
  private static final String NEVER = "\0";

  /**
   * An option that was given.
   *
   * @param values all of them, in the order in which they were given; none of one that takes none
   */
  public record Given(String name, List<String> values) {
    /** The value of one that counts as it was given last. */
    public String value() {
      return values.get(values.size() - 1);
    }
  }

  private HelpPage() {}

  /** The help page of a program. */
  public static String text(String program) {
    try (InputStream page = HelpPage.class.getResourceAsStream("/help/" + program + ".txt")) {
      return page(new String(page.readAllBytes(), StandardCharsets.UTF_8));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** A page without what is not for its readers. */
  static String page(String file) {
    return file.replaceAll("(?m)^#.*\\R", "");
  }

  /**
   * The options among the arguments of a program, each once.
   *
   * @throws IllegalArgumentException if one is unknown or lacks a value; the message is a sentence
   */
  public static List<Given> parse(String program, String... arguments) {
    CommandLine line = new CommandLine(spec(program, text(program)));
    line.setAllowOptionsAsOptionParameters(true);
    line.setOverwrittenOptionsAllowed(true); // given twice, one without a value says no more
    line.setExpandAtFiles(false);
    line.setPosixClusteredShortOptionsAllowed(false);
    line.setSeparator(NEVER);
    line.setEndOfOptionsDelimiter(NEVER);
    try {
      return line.parseArgs(arguments)
          .matchedOptions()
          .stream()
          .distinct()
          .map(option
              -> new Given(option.longestName(),
                  option.arity().max() == 0 ? List.of() : option.originalStringValues()))
          .toList();
    } catch (UnmatchedArgumentException e) {
      throw new IllegalArgumentException(unknown(e), e);
    } catch (MissingParameterException e) {
      throw new IllegalArgumentException(lacking((OptionSpec) e.getMissing().get(0)), e);
    } catch (ParameterException e) { // a name that no file can have
      throw new IllegalArgumentException(e.getMessage(), e);
    }
  }

  /** Whether an option is among those that were given. */
  public static boolean has(List<Given> given, String name) {
    return given.stream().anyMatch(option -> option.name().equals(name));
  }

  private static String unknown(UnmatchedArgumentException e) {
    String argument = e.getUnmatched().get(0);
    if (!argument.startsWith("--")) {
      return "'" + argument + "' is not an option";
    }
    List<String> alike = e.getSuggestions();
    return "unknown option '" + argument + "'"
        + (alike.isEmpty() ? "" : "; did you mean " + alike.get(0) + "?");
  }

  private static String lacking(OptionSpec option) {
    int values = option.arity().min();
    return option.longestName() + " needs " + (values == 1 ? "a value" : values + " values");
  }

  /** The options that pages name. */
  static CommandSpec spec(String program, String page) {
    CommandSpec spec = CommandSpec.create().name(program);
    Matcher row = ROW.matcher(page);
    while (row.find()) {
      if (!spec.optionsMap().containsKey(row.group(1))) { // two pages of one command may share some
        spec.addOption(option(row.group(1), row.group(2).strip()));
      }
    }
    return spec;
  }

  static OptionSpec option(String name, String labels) {
    int values = labels.isEmpty() ? 0 : labels.split(" ").length;
    OptionSpec.Builder option =
        OptionSpec.builder(name).arity(Integer.toString(values)).paramLabel(labels);
    if (values == 0) {
      return option.type(boolean.class).build();
    }
    option.type(List.class)
        .auxiliaryTypes(FILE.matcher(labels).matches() ? Path.class : String.class);
    if (CHOICE.matcher(labels).matches()) {
      option.completionCandidates(Arrays.asList(labels.split("\\|")));
    }
    return option.build();
  }
}
