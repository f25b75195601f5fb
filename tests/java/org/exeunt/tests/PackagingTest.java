// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.zip.ZipFile;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The jars as a user gets them: what is in them, and that they work as modules. */
class PackagingTest {
  private static final String PLATFORM = "linux-x86_64";

  @TempDir Path folder;

  private static Optional<Path> jar(String pattern) {
    return Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
        .filter(entry -> entry.matches(".*/" + pattern + "\\.jar"))
        .map(Path::of)
        .findFirst();
  }

  private static Path requireJar(String pattern) {
    Optional<Path> jar = jar(pattern);
    Assumptions.assumeTrue(jar.isPresent(), pattern + " is not packaged in this run");
    return jar.orElseThrow();
  }

  private static TreeSet<String> natives(Path jar) throws IOException {
    try (ZipFile zip = new ZipFile(jar.toFile())) {
      return zip.stream()
          .map(entry -> entry.getName())
          .filter(name -> name.endsWith(".so"))
          .collect(Collectors.toCollection(TreeSet::new));
    }
  }

  @Test
  void nativesLieInTheirClassifierJars() throws IOException {
    assertEquals(new TreeSet<>(), natives(requireJar("exeunt-jni-[0-9.]+(-SNAPSHOT)?")));
    assertEquals(new TreeSet<>(), natives(requireJar("exeunt-[0-9.]+(-SNAPSHOT)?")));
    String folder = "org/exeunt/" + PLATFORM + "/";
    assertEquals(new TreeSet<>(List.of(folder + "libexeunt.so", folder + "libjniexeunt.so")),
        natives(requireJar("exeunt-jni-.*" + PLATFORM)));
    TreeSet<String> cuda = natives(requireJar("exeunt-jni-.*" + PLATFORM + "-cuda"));
    boolean built = Files.exists(Setup.libraries().resolve("libexeunt_cuda.so"));
    assertEquals(built
            ? new TreeSet<>(List.of("org/exeunt/" + PLATFORM + "-cuda/libexeunt_cuda.so"))
            : new TreeSet<>(),
        cuda);
  }

  /** A build folder in RUNPATH would let a library of the build machine in. */
  @Test
  void runpathIsTheLibrarysOwnFolder() throws IOException, InterruptedException {
    Path jar = requireJar("exeunt-jni-.*" + PLATFORM);
    Path library = folder.resolve("libjniexeunt.so");
    try (ZipFile zip = new ZipFile(jar.toFile())) {
      Files.copy(
          zip.getInputStream(zip.getEntry("org/exeunt/" + PLATFORM + "/libjniexeunt.so")), library);
    }
    Process readelf = new ProcessBuilder("readelf", "-d", library.toString()).start();
    List<String> paths =
        new String(readelf.getInputStream().readAllBytes())
            .lines()
            .filter(line -> line.contains("RUNPATH") || line.contains("RPATH"))
            .map(line -> line.replaceAll(".*\\[(.*)].*", "$1"))
            .toList();
    assertEquals(0, readelf.waitFor());
    assertTrue(paths.isEmpty() || paths.equals(List.of("$ORIGIN/")), paths.toString());
  }

  private static List<Path> modules() {
    return List.of(requireJar("exeunt-[0-9.]+(-SNAPSHOT)?"),
        requireJar("exeunt-jni-[0-9.]+(-SNAPSHOT)?"), requireJar("exeunt-jni-.*" + PLATFORM),
        requireJar("javacpp-[0-9.]+"), requireJar("javacpp-[0-9.]+-" + PLATFORM));
  }

  /** The program of the README, as a module that requires org.exeunt alone; a module path. */
  private String module() throws IOException {
    Matcher program =
        Pattern.compile("(?ms)^```java\n(.*?)^```")
            .matcher(Files.readString(Path.of(Setup.root().toString(), "README.md")));
    assertTrue(program.find());
    Path source = Files.createDirectories(folder.resolve("source/user"));
    Path module = Files.writeString(
        source.resolveSibling("module-info.java"), "module user { requires org.exeunt; }");
    Path main =
        Files.writeString(source.resolve("Snippet.java"), "package user;\n" + program.group(1));
    Path classes = folder.resolve("classes");
    String path =
        modules().stream().map(Path::toString).collect(Collectors.joining(File.pathSeparator));
    int status = ToolProvider.getSystemJavaCompiler().run(
        null, null, null, "-p", path, "-d", classes.toString(), module.toString(), main.toString());
    assertEquals(0, status);
    return path + File.pathSeparator + classes;
  }

  /** The libraries are found on the module path, as the binding uses a service of their module. */
  @Test
  void worksAsAModule() throws IOException {
    String output =
        Subprocess.java("-p", module(), "-m", "user/user.Snippet")
            .option("--enable-native-access=org.exeunt.jni")
            .run();
    assertEquals("token 0, p 0.7413\n", output);
  }

  /** An image for this platform, in which there is no JDK Flight Recorder either. */
  @Test
  void worksInAnImage() throws Exception {
    Path image = link(module(), "user,org.exeunt.jni." + PLATFORM.replace('-', '.'));
    assertEquals("token 0, p 0.7413\n", run(image, 0));
    assertFalse(Files.readString(image.resolve("release")).contains("jdk.jfr"));
  }

  @Test
  void anImageWithoutLibrariesNamesTheirModule() throws Exception {
    String output = run(link(module(), "user"), 1);
    assertTrue(output.contains("(in no module of this program: is org.exeunt.jni."
                   + PLATFORM.replace('-', '.') + ", the jar of exeunt-jni with classifier "),
        output);
  }

  private Path link(String modulePath, String roots) {
    Path image = folder.resolve("image");
    StringWriter said = new StringWriter();
    PrintWriter out = new PrintWriter(said);
    int status = java.util.spi.ToolProvider.findFirst("jlink").orElseThrow().run(out, out,
        "--module-path", modulePath, "--add-modules", roots, "--output", image.toString());
    assertEquals(0, status, said::toString);
    return image;
  }

  private static String run(Path image, int status) throws Exception {
    Process process =
        new ProcessBuilder(image.resolve("bin/java").toString(), "-m", "user/user.Snippet")
            .redirectErrorStream(true)
            .start();
    String output = new String(process.getInputStream().readAllBytes());
    assertEquals(status, process.waitFor(), output);
    // JDK 25 warns of native access, and leaves a line blank after that.
    return output.replaceAll("(?m)^(WARNING: .*)?\\R", "");
  }
}
