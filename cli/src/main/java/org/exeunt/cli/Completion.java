// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cli;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.AutoComplete;
import picocli.CommandLine;
import picocli.CommandLine.Model.CommandSpec;

/**
 * Prints what a shell sources to complete the launcher's commands and their options. Standard input
 * is the launcher's help, and the arguments are the help pages of commands that have one.
 */
public final class Completion {
  private static final Pattern COMMAND = Pattern.compile("(?m)^  \\./exeunt ([a-z]+)(.*)$");
  private static final Pattern OPTION = Pattern.compile("(--[a-z]+)(?: ([A-Z]+))?");

  private Completion() {}

  /** Prints the script. */
  public static void main(String[] pages) throws IOException {
    String help = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
    Map<String, String> all = new TreeMap<>();
    for (String page : pages) {
      String program = Path.of(page).getFileName().toString().replaceFirst("[-.].*", "");
      all.merge(program, HelpPage.page(Files.readString(Path.of(page))), String::concat);
    }
    System.out.print(script(help, all));
  }

  /** The script; {@code pages} has the help pages of commands by their names. */
  static String script(String help, Map<String, String> pages) {
    CommandSpec launcher = CommandSpec.create().name("exeunt");
    Matcher command = COMMAND.matcher(help);
    while (command.find()) {
      String name = command.group(1);
      launcher.addSubcommand(name,
          new CommandLine(pages.containsKey(name)
                  ? HelpPage.spec(name, pages.get(name))
                  : brief(name, command.group(2))));
    }
    return AutoComplete.bash("exeunt", new CommandLine(launcher))
        .replaceAll("(?m)^ *(#(?!!).*)?\\R", ""); // a shell needs no comments
  }

  /** A command whose options stand beside it. */
  private static CommandSpec brief(String name, String usage) {
    CommandSpec spec = CommandSpec.create().name(name);
    Matcher option = OPTION.matcher(usage);
    while (option.find()) {
      spec.addOption(
          HelpPage.option(option.group(1), option.group(2) == null ? "" : option.group(2)));
    }
    return spec;
  }
}
