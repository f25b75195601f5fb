// SPDX-License-Identifier: Apache-2.0

import java.io.File;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.tools.ToolProvider;

/**
 * Run by the build: makes the folder of a classifier jar a module, named as JavaCPP names those of
 * its own: org.exeunt.jni.linux.x86_64. It provides org.exeunt.presets.Natives, a service that
 * org.exeunt.jni uses, so that a program which requires the binding gets the libraries resolved on
 * whatever platform its module path holds.
 *
 * <p>NativesModule.java CLASSIFIER FOLDER MODULE_PATH [FROM]: MODULE_PATH has org.exeunt.jni and
 * JavaCPP; FROM is a folder of classes whose libraries of that classifier, digests and licences are
 * copied first.
 */
public final class NativesModule {
  private NativesModule() {}

  public static void main(String[] args) throws IOException {
    String classifier = args[0];
    Path folder = Path.of(args[1]);
    if (args.length > 3) {
      String libraries = "org/exeunt/" + classifier;
      copy(Path.of(args[3], libraries), folder.resolve(libraries), "*{.so,.dll,.dylib,.digest}");
      copy(Path.of(args[3], "META-INF"), folder.resolve("META-INF"), "{LICENSE,NOTICE}");
    }
    Path images = folder.resolve("META-INF/native-image").resolve(classifier);
    if (Files.isDirectory(images)) {
      try (Stream<Path> files = Files.walk(images)) {
        for (Path file : (Iterable<Path>) files.filter(Files::isRegularFile)::iterator) {
          sort(file);
        }
      }
    }
    compile(classifier, folder, args[2]);
  }

  /** JavaCPP writes classes in the order in which the JVM finds them, another in each build. */
  private static void sort(Path configuration) throws IOException {
    String text = Files.readString(configuration);
    if (text.startsWith("[")) {
      String entries = text.substring(text.indexOf('{'), text.lastIndexOf('}') + 1);
      Files.writeString(configuration,
          Arrays.stream(entries.split("(?<=\\}),\\s*(?=\\{)"))
              .sorted()
              .collect(Collectors.joining(",\n  ", "[\n  ", "\n]\n")));
    }
  }

  private static void copy(Path from, Path to, String pattern) throws IOException {
    Files.createDirectories(to);
    try (DirectoryStream<Path> files = Files.newDirectoryStream(from, pattern)) {
      for (Path file : files) {
        Files.copy(file, to.resolve(file.getFileName()), StandardCopyOption.REPLACE_EXISTING);
      }
    }
  }

  private static void compile(String classifier, Path folder, String modulePath)
      throws IOException {
    String name = "org.exeunt.jni." + classifier.replace('-', '.');
    boolean extension = classifier.indexOf('-') != classifier.lastIndexOf('-');
    // An extension lies beside the libraries of its platform, which need those of JavaCPP.
    String javacpp = "org.bytedeco.javacpp." + classifier.replace('-', '.');
    Path scratch = Files.createTempDirectory("exeunt");
    Path made = scratch.resolve("made");
    try {
      Path module = write(scratch, name + "/module-info.java",
          "module " + name + " {\n  requires transitive org.exeunt.jni;\n"
              + (extension ? "" : "  requires " + javacpp + ";\n")
              + "  provides org.exeunt.presets.Natives with " + name + ".Libraries;\n}\n");
      Path provider = write(scratch, name + "/" + name.replace('.', '/') + "/Libraries.java",
          "package " + name + ";\n"
              + "public final class Libraries implements org.exeunt.presets.Natives {}\n");
      // Stands in for JavaCPP's module of that platform, of which nothing but the name is needed.
      Path stub = write(scratch, javacpp + "/module-info.java", "module " + javacpp + " {}\n");
      List<String> options = List.of("--release", "17", "-proc:none", "-Xlint:-module",
          "--module-path", modulePath, "--module-source-path", scratch.toString(), "-d",
          made.toString(), module.toString(), provider.toString(), stub.toString());
      if (ToolProvider.getSystemJavaCompiler().run(null, null, null, options.toArray(new String[0]))
          != 0) {
        throw new IOException(name + " could not be compiled with the module path " + modulePath);
      }
      copy(made.resolve(name), folder, "module-info.class");
      String classes = name.replace('.', File.separatorChar);
      copy(made.resolve(name).resolve(classes), folder.resolve(classes), "*.class");
    } finally {
      remove(scratch);
    }
  }

  private static Path write(Path root, String name, String text) throws IOException {
    Path file = root.resolve(name);
    Files.createDirectories(file.getParent());
    return Files.writeString(file, text);
  }

  private static void remove(Path path) throws IOException {
    if (Files.isDirectory(path)) {
      try (DirectoryStream<Path> entries = Files.newDirectoryStream(path)) {
        for (Path entry : entries) {
          remove(entry);
        }
      }
    }
    Files.delete(path);
  }
}
