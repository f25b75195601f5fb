// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.safetensors.DType;
import java.io.IOException;
import java.net.URI;
import java.net.URL;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * {@link Generation} and {@link Embedding} in processes of their own, with and without exeunt on
 * the class path.
 */
final class Peers {
  private static final Pattern SPEED = Pattern.compile("(?m)^(?:tokens|sentences)/s ([0-9.]+)");

  /** What computes. */
  enum Kind {
    /** Jlama's operations over Java's Vector API. */
    VECTOR_API("jlama"),
    /** Jlama's own natives. */
    NATIVE("jlama"),
    /** The class that takes the place of these. */
    PRODUCTS("jlama"),
    /** The model class. */
    MODEL("exeunt"),
    /** The same; tokens leave at a probability of 0.9. */
    EXIT("0.9");

    private final String model;

    Kind(String model) {
      this.model = model;
    }
  }

  /** What a process printed: operations, tokens or sentences per second, and the last text. */
  record Answer(String operations, List<Double> speeds, String text) {
    double best() {
      return speeds.stream().mapToDouble(Double::doubleValue).max().orElseThrow();
    }
  }

  private Peers() {}

  static Answer run(Kind kind, Path folder, String quantisation, int threads, int tokens,
      int rounds, String prompt) throws IOException, InterruptedException {
    String output = output(kind, Generation.class, folder.toString(), "F32", quantisation,
        String.valueOf(threads), String.valueOf(tokens), String.valueOf(rounds), kind.model,
        prompt);
    return new Answer(line(output, "operations "), speeds(output), line(output, "text "));
  }

  private static Answer embed(Kind kind, Path folder, String quantisation, int threads, int rounds)
      throws IOException, InterruptedException {
    String output = output(kind, Embedding.class, folder.toString(), quantisation,
        String.valueOf(threads), String.valueOf(rounds));
    return new Answer(line(output, "operations "), speeds(output), "");
  }

  private static List<Double> speeds(String output) {
    List<Double> speeds = new ArrayList<>();
    for (Matcher matcher = SPEED.matcher(output); matcher.find();) {
      speeds.add(Double.valueOf(matcher.group(1)));
    }
    return speeds;
  }

  /** What a program prints in a process of its own. */
  static String output(Kind kind, Class<?> program, String... arguments)
      throws IOException, InterruptedException {
    return output(List.of(), kind, program, arguments);
  }

  /** The same with more options of the JVM. */
  static String output(List<String> options, Kind kind, Class<?> program, String... arguments)
      throws IOException, InterruptedException {
    boolean with = kind.compareTo(Kind.NATIVE) > 0;
    List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java",
        "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow",
        "--add-modules", "jdk.incubator.vector", "-Xmx2g", "-cp", classPath(with)));
    if (kind == Kind.VECTOR_API) {
      command.add("-Djlama.force_panama_tensor_operations=true");
    }
    command.addAll(options);
    command.add(program.getName());
    command.addAll(List.of(arguments));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes());
    if (process.waitFor() != 0) {
      throw new IOException(kind + " failed:\n" + output);
    }
    return output;
  }

  static String line(String output, String begin) {
    return output.lines()
        .filter(line -> line.startsWith(begin))
        .reduce((first, last) -> last)
        .orElseThrow(() -> new IllegalStateException("no '" + begin + "' in:\n" + output))
        .substring(begin.length());
  }

  /** Without exeunt: what a user of Jlama had before. */
  private static String classPath(boolean with) {
    String whole = System.getProperty("java.class.path");
    URL location = Products.class.getProtectionDomain().getCodeSource().getLocation();
    Path own = Path.of(URI.create(location.toString())); // blanks of it are %20
    return Arrays.stream(whole.split(":"))
        .filter(part -> with || !Path.of(part).equals(own) && !part.contains("/exeunt-"))
        .collect(Collectors.joining(":"));
  }

  /**
   * {@code Peers FOLDER|f32|bf16|q4|minilm QUANTISATION|- TOKENS ROUNDS}: a table of tokens per
   * second, or of MiniLM's sentences, with one thread and with two.
   */
  public static void main(String[] arguments) throws IOException, InterruptedException {
    if (arguments.length != 4
        || !(arguments[2] + " " + arguments[3]).matches("[1-9][0-9]{0,5} [1-9][0-9]{0,5}")) {
      System.err.println("usage: Peers FOLDER|f32|bf16|q4|minilm QUANTISATION|- TOKENS ROUNDS");
      System.exit(2);
    }
    boolean embeds = arguments[0].equals("minilm");
    Path folder = switch (arguments[0]) {
      case "f32", "bf16", "q4" ->
        SmolLm.folder(DType.valueOf(arguments[0].toUpperCase(Locale.ROOT)));
      case "minilm" -> MiniLm.folder();
      default -> Path.of(arguments[0]);
    };
    System.out.printf("%-12s %10s %10s   %s%n", "", "1 thread", "2 threads", "operations");
    for (Kind kind : Kind.values()) {
      if (embeds && kind.compareTo(Kind.PRODUCTS) > 0) {
        break; // the model class is a Llama's
      }
      Answer[] answers = new Answer[2];
      for (int threads = 1; threads <= 2; threads++) {
        int rounds = Integer.parseInt(arguments[3]);
        answers[threads - 1] = embeds
            ? embed(kind, folder, arguments[1], threads, 10 * rounds)
            : run(kind, folder, arguments[1], threads, Integer.parseInt(arguments[2]), rounds,
                  "The capital of France is");
      }
      System.out.printf("%-12s %10.1f %10.1f   %s%n", kind.name().toLowerCase(Locale.ROOT),
          answers[0].best(), answers[1].best(), answers[1].operations());
      if (!embeds) {
        System.out.printf("  %.90s%n", answers[1].text());
      }
    }
  }
}
