// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.TreeSet;
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

  /** A program that is a module itself, on the module path, with no other module exported to it. */
  @Test
  void worksAsAModule() throws IOException {
    String modulePath =
        List.of(requireJar("exeunt-[0-9.]+(-SNAPSHOT)?"),
                requireJar("exeunt-jni-[0-9.]+(-SNAPSHOT)?"),
                requireJar("exeunt-jni-.*" + PLATFORM), requireJar("javacpp-[0-9.]+"),
                requireJar("javacpp-[0-9.]+-" + PLATFORM))
            .stream()
            .map(Path::toString)
            .collect(Collectors.joining(File.pathSeparator));
    Path source = Files.createDirectories(folder.resolve("source/user"));
    Path module = Files.writeString(
        source.getParent().resolve("module-info.java"), "module user { requires org.exeunt; }");
    Path program = Files.writeString(source.resolve("Main.java"),
        "package user; import org.exeunt.*; public class Main { public static void"
            + " main(String[] args) { try (Scope scope = Scope.open()) { Tensor a ="
            + " scope.copyOf(new float[] {1, 2}, 1, 2); Tensor out = scope.allocate(DType.F32,"
            + " 1); Cosine.compute(a, a, out); System.out.println(Scope.class.getModule() + \""
            + " \" + out.toFloatArray()[0]); } } }");
    Path classes = folder.resolve("classes");
    int status = ToolProvider.getSystemJavaCompiler().run(null, null, null, "-p", modulePath, "-d",
        classes.toString(), module.toString(), program.toString());
    assertEquals(0, status);
    String output =
        Subprocess
            .java("-p", modulePath + File.pathSeparator + classes, "--add-modules",
                "ALL-MODULE-PATH", "-m", "user/user.Main")
            .option("--enable-native-access=org.exeunt.jni")
            .run();
    assertTrue(output.contains("module org.exeunt"), output);
  }
}
