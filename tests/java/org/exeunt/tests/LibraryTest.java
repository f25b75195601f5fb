// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.JarURLConnection;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.Deflater;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.bytedeco.javacpp.Loader;
import org.exeunt.Backend;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * Which files are loaded as native libraries: those that were packed, and no others. What a file
 * system holds is the same for every JDK, how a library is loaded is not.
 */
class LibraryTest {
  private static final String PLATFORM = Loader.Detector.getPlatform();
  private static final String CORE = System.mapLibraryName("exeunt");
  private static final String BINDING = System.mapLibraryName("jniexeunt");

  // A disk of its own for the command that follows: SIZE FOLDER COMMAND...
  private static final String SMALL_DISK =
      "mount -t tmpfs -o \"size=$1\" none \"$2\" && shift 2 && exec \"$@\"";
  // The same folder, but only to read: FOLDER COMMAND...
  private static final String READ_ONLY =
      "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && shift && exec \"$@\"";

  @TempDir Path folder;
  private Path home;
  private Path temporary;

  /** Prints what was loaded, or why nothing was. */
  static final class Report {
    public static void main(String[] arguments) {
      try (Scope scope = Scope.open()) {
        Tensor a = scope.copyOf(new float[] {1, 0}, 1, 2);
        Cosine.compute(a, a, scope.allocate(DType.F32, 1));
        System.out.println("ran: " + Backend.lastPath());
        System.out.println("library: " + Backend.library());
        System.out.println("linked: " + exeunt.exn_library_path());
        System.out.println("cuda: " + (arguments.length > 0 ? Backend.CUDA.reason() : ""));
      } catch (RuntimeException | LinkageError e) {
        System.out.println("failed: " + e.getMessage());
      }
    }
  }

  @BeforeEach
  void makeFolders() throws IOException {
    // JUnit's folder lies in the shared one, which is sticky.
    home = Files.createDirectory(folder.resolve("home"));
    temporary = Files.createDirectory(folder.resolve("tmp"));
  }

  private Subprocess report(String... arguments) {
    return with(Subprocess.of(Report.class, arguments));
  }

  private Subprocess with(Subprocess process) {
    return process.soon()
        .option("-Duser.home=" + home)
        .option("-Djava.io.tmpdir=" + temporary)
        .variable("EXEUNT_CUDA_LIBRARY", "");
  }

  private static String line(String output, String what) {
    return output.lines()
        .filter(line -> line.startsWith(what + ": "))
        .map(line -> line.substring(what.length() + 2))
        .findFirst()
        .orElseThrow(() -> new AssertionError("no '" + what + "' in: " + output));
  }

  /** The library that a process says it has loaded, which is the packed one. */
  private static Path loaded(String output) throws Exception {
    Path library = Path.of(line(output, "library"));
    assertTrue(line(output, "ran").startsWith("cpu/"), output);
    assertEquals(library.toString(), line(output, "linked"));
    return library;
  }

  private static void assertPacked(Path library) throws Exception {
    byte[] packed = packed(CORE);
    assertArrayEquals(packed, Files.readAllBytes(library));
    String sha = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(packed));
    assertEquals(sha.substring(0, 32), library.getParent().getFileName().toString());
    if (File.separatorChar == '/') {
      assertEquals("rwx------", mode(library.getParent()));
      assertEquals("rwx------", mode(library.getParent().getParent()));
    }
  }

  private static String mode(Path path) throws IOException {
    return PosixFilePermissions.toString(
        Files.getPosixFilePermissions(path, LinkOption.NOFOLLOW_LINKS));
  }

  private static byte[] packed(String name) throws IOException {
    try (InputStream in = resource(name).openStream()) {
      return in.readAllBytes();
    }
  }

  private static URL resource(String name) {
    return exeunt.class.getResource("/org/exeunt/" + PLATFORM + "/" + name);
  }

  private Path cache() {
    return home.resolve(".javacpp/cache/exeunt");
  }

  private static List<Path> files(Path folder) throws IOException {
    try (Stream<Path> all = Files.walk(folder)) {
      return all.filter(Files::isRegularFile).collect(Collectors.toList());
    }
  }

  /** Where libraries go that have no other place. */
  private Path fallback() throws IOException {
    return temporary.resolve(
        "exeunt-" + (File.separatorChar == '/' ? uid() : System.getProperty("user.name")));
  }

  private static int uid() throws IOException {
    Path file = Files.createTempFile("exeunt", null);
    try {
      return (Integer) Files.getAttribute(file, "unix:uid");
    } finally {
      Files.delete(file);
    }
  }

  @Test
  void thisProcessUsesThePackedLibrary() throws Exception {
    assertPacked(Backend.library());
    assertEquals(Backend.library().toString(), exeunt.exn_library_path());
  }

  @Test
  void unpacksToTheUsersCache() throws Exception {
    Path library = loaded(report().run());
    assertEquals(cache(), library.getParent().getParent());
    assertPacked(library);
    assertEquals(library, loaded(report().run()));
    assertEquals(Set.of(), Set.copyOf(files(temporary)));
  }

  /** Files of the right size and time that hold something else, as another build left them. */
  @Test
  @Tag("any-jdk")
  void staleFilesAreReplaced() throws Exception {
    Path library = loaded(report().run());
    List<Path> unpacked = files(cache());
    assertEquals(2, unpacked.size());
    for (Path file : unpacked) {
      byte[] sound = Files.readAllBytes(file);
      for (int cut : new int[] {0, 1, sound.length}) {
        FileTime time = Files.getLastModifiedTime(file);
        byte[] stale = Arrays.copyOf(sound, sound.length - cut);
        if (cut == 0) {
          stale[sound.length / 2] ^= 1;
        }
        Files.write(file, stale);
        Files.setLastModifiedTime(file, time);
        assertEquals(library, loaded(report().run()));
        assertArrayEquals(sound, Files.readAllBytes(file), file + " less " + cut);
      }
    }
  }

  /** Writable by others: what lies there might be theirs. */
  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "gives the owners and modes of POSIX")
  void filesThatOthersMayWriteToAreReplaced() throws Exception {
    Path library = loaded(report().run());
    Object before = Files.getAttribute(library, "unix:ino");
    Files.setPosixFilePermissions(library, PosixFilePermissions.fromString("rw-rw-rw-"));
    assertEquals(library, loaded(report().run()));
    assertEquals("rw-------", mode(library));
    assertNotEquals(before, Files.getAttribute(library, "unix:ino"));

    Path other = Files.move(library, folder.resolve("other.so"));
    Files.createSymbolicLink(library, other);
    assertEquals(library, loaded(report().run()));
    assertFalse(Files.isSymbolicLink(library));
  }

  /** A library of another, in the place where JavaCPP would look, with the size and the time. */
  private void plant(Path cache, URL resource, String marker) throws Exception {
    JarURLConnection connection = (JarURLConnection) resource.openConnection();
    Path place = cache.resolve(Path.of(connection.getJarFile().getName()).getFileName())
                     .resolve(connection.getEntryName());
    Files.createDirectories(place.getParent());
    SharedLibrary.of("#include <stdio.h>\n__attribute__((constructor)) static void run(void)"
            + " { FILE* f = fopen(\"" + folder.resolve(marker) + "\", \"w\"); fclose(f); }",
        place);
    long size = connection.getJarEntry().getSize();
    assertTrue(Files.size(place) < size, "the packed one is larger");
    Files.write(place, Arrays.copyOf(Files.readAllBytes(place), (int) size));
    Files.setLastModifiedTime(place, FileTime.fromMillis(connection.getJarEntry().getTime()));
  }

  private void plantAll(Path cache) throws Exception {
    Assumptions.assumeTrue(resource(CORE).getProtocol().equals("jar"), "no jars in this run");
    plant(cache, resource(CORE), "core was run");
    plant(cache, resource(BINDING), "binding was run");
  }

  private void assertNothingForeignRan() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      assertEquals(0, all.filter(path -> path.toString().endsWith("was run")).count());
    }
  }

  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "has the GCC of this machine build a library")
  void whatJavacppWouldTakeIsNotTaken() throws Exception {
    plantAll(home.resolve(".javacpp/cache"));
    assertPacked(loaded(report().run()));
    assertNothingForeignRan();
  }

  /** Without a home folder JavaCPP would take what lies in the shared temporary folder. */
  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "has the GCC of this machine build a library")
  void whatLiesInTheTemporaryFolderIsNotTaken() throws Exception {
    Path shared = temporary.resolve(".javacpp-" + System.getProperty("user.name")).resolve("cache");
    plantAll(shared);
    plant(shared,
        Loader.class.getResource(
            "/org/bytedeco/javacpp/" + PLATFORM + "/" + System.mapLibraryName("jnijavacpp")),
        "javacpp was run");
    Files.delete(home);
    Files.createFile(home);
    Path library = loaded(report().run());
    assertEquals(fallback(), library.getParent().getParent());
    assertPacked(library);
    assertNothingForeignRan();
  }

  @Test
  @Tag("any-jdk")
  void aHomeThatIsNoneIsNotUsed() throws Exception {
    for (String none : new String[] {"?", "", "/proc/none", "relative/home"}) {
      Path library = loaded(report().option("-Duser.home=" + none).run());
      assertEquals(fallback(), library.getParent().getParent());
    }
    assertFalse(new File("?").exists() || new File("relative").exists());
  }

  /** Others could put a library of their own where this one lies. */
  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "gives the owners and modes of POSIX")
  void foldersThatOthersMayWriteToAreNotUsed() throws Exception {
    for (String open : new String[] {"home", "home/.javacpp", "home/.javacpp/cache"}) {
      Path path = Files.createDirectories(folder.resolve(open));
      Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rwxrwxrwx"));
      assertEquals(fallback(), loaded(report().run()).getParent().getParent(), open);
      Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rwxr-xr-x"));
    }
    Files.createDirectories(cache());
    Files.setPosixFilePermissions(cache(), PosixFilePermissions.fromString("rwxrwx---"));
    assertEquals(fallback(), loaded(report().run()).getParent().getParent(), "the folder itself");
  }

  /** Somebody has been there before: a folder, a link, a file. */
  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "gives the owners and modes of POSIX")
  void aTakenTemporaryFolderIsNotUsed() throws Exception {
    Files.delete(home);
    Files.createFile(home);
    Path taken = fallback();
    List<Callable<Object>> takers = new ArrayList<>();
    takers.add(()
                   -> Files.setPosixFilePermissions(
                       Files.createDirectory(taken), PosixFilePermissions.fromString("rwxrwxrwx")));
    takers.add(() -> Files.createSymbolicLink(taken, Files.createDirectory(folder.resolve("x"))));
    takers.add(() -> Files.createFile(taken));
    if (uid() == 0) {
      takers.add(() -> Files.setAttribute(Files.createDirectory(taken), "unix:uid", 4711));
    }
    for (Callable<Object> taker : takers) {
      taker.call();
      Path library = loaded(report().run());
      assertNotEquals(taken, library.getParent().getParent());
      assertEquals(temporary, library.getParent().getParent().getParent());
      assertEquals(List.of(), files(temporary).stream().filter(f -> !f.equals(taken)).toList(),
          "removed at the end");
      Files.delete(taken);
    }
  }

  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "gives the owners and modes of POSIX")
  void withoutAPrivateFolderNothingIsLoaded() throws Exception {
    Files.delete(home);
    Files.createFile(home);
    Files.setPosixFilePermissions(temporary, PosixFilePermissions.fromString("rwxrwxrwx"));
    String sentence = line(report().run(), "failed");
    assertTrue(sentence.contains(temporary + " may be written to by others"), sentence);
    assertTrue(sentence.contains("-Dorg.bytedeco.javacpp.cachedir=FOLDER"), sentence);

    // It may be named, though: then the user answers for what is above it.
    Path named = temporary.resolve("named");
    String cache = "-Dorg.bytedeco.javacpp.cachedir=" + named;
    Path library = loaded(report().option(cache).run());
    assertEquals(named.toRealPath().resolve("exeunt"), library.getParent().getParent());
  }

  private Subprocess inNamespace(Subprocess process, String... script) {
    List<String> command =
        new ArrayList<>(List.of("unshare", "--map-root-user", "--mount", "sh", "-c"));
    command.add(script[0]);
    command.add("sh");
    command.addAll(List.of(script).subList(1, script.length));
    return process.in(command.toArray(String[] ::new));
  }

  private void assumeMounts(String script, String... arguments) throws Exception {
    List<String> command =
        new ArrayList<>(List.of("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"));
    command.addAll(List.of(arguments));
    command.add("true");
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes());
    Assumptions.assumeTrue(process.waitFor() == 0, "this user may mount nothing: " + output);
  }

  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "mounts file systems")
  void aCacheThatMayOnlyBeReadServes() throws Exception {
    Path library = loaded(report().run());
    assumeMounts(READ_ONLY, home.toString());
    Subprocess again = inNamespace(report(), READ_ONLY, home.toString());
    assertEquals(library, loaded(again.run()));

    Files.delete(library);
    again = inNamespace(report(), READ_ONLY, home.toString());
    Path elsewhere = loaded(again.run());
    assertEquals(temporary, elsewhere.getParent().getParent().getParent());
  }

  @Test
  @Tag("any-jdk")
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "mounts file systems")
  void aFullDiskIsSaidOrAvoided() throws Exception {
    assumeMounts(SMALL_DISK, "1m", home.toString());
    Subprocess fullHome = inNamespace(report(), SMALL_DISK, "1m", home.toString());
    assertEquals(temporary, loaded(fullHome.run()).getParent().getParent().getParent());

    String both = SMALL_DISK.replace("&& exec",
        "&& mount -t tmpfs -o size=1m none \"$1\" && shift"
            + " && exec");
    Subprocess full = inNamespace(report(), both, "1m", home.toString(), temporary.toString());
    String sentence = line(full.run(), "failed");
    assertTrue(sentence.contains("No space left on device"), sentence);
  }

  @Test
  void processesMayUnpackAtOnce() throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(4);
    try {
      List<Future<String>> outputs = pool.invokeAll(Collections.nCopies(4, () -> report().run()));
      for (Future<String> output : outputs) {
        assertPacked(loaded(output.get()));
      }
    } finally {
      pool.shutdown();
    }
    assertEquals(2, files(cache()).size(), () -> "in " + cache());
  }

  @Test
  @Tag("any-jdk")
  void oldBuildsAndLeftoversAreRemoved() throws Exception {
    Path library = loaded(report().run());
    FileTime old = FileTime.fromMillis(0);
    for (int i = 0; i < 20; i++) {
      Path build = Files.createDirectory(cache().resolve(String.format("%032x", i)));
      Files.createFile(build.resolve(CORE));
      Files.setLastModifiedTime(build, FileTime.fromMillis(1000 * i));
    }
    Path leftover = Files.createFile(library.resolveSibling("libexeunt.so123.part"));
    Files.setLastModifiedTime(leftover, old);
    Path recent = Files.createFile(library.resolveSibling("libexeunt.so456.part"));
    Files.delete(library);
    assertEquals(library, loaded(report().run()));
    assertFalse(Files.exists(leftover));
    assertTrue(Files.exists(recent), "another process may be writing it");
    try (Stream<Path> builds = Files.list(cache())) {
      List<String> names = builds.map(path -> path.getFileName().toString()).toList();
      assertEquals(12, names.size(), names.toString());
      assertTrue(names.contains(String.format("%032x", 19)), names.toString());
      assertFalse(names.contains(String.format("%032x", 0)), names.toString());
    }
  }

  /** The class path of this process with the jar of the libraries changed. */
  private String classPathWith(boolean digests, boolean damaged) throws IOException {
    List<String> entries = new ArrayList<>();
    for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
      entries.add(entry.matches(".*exeunt-jni.*" + PLATFORM + "\\.jar")
              ? changed(Path.of(entry), digests, damaged).toString()
              : entry);
    }
    return String.join(File.pathSeparator, entries);
  }

  private Path changed(Path jar, boolean digests, boolean damaged) throws IOException {
    Path copy = folder.resolve("changed.jar");
    try (ZipFile from = new ZipFile(jar.toFile()); OutputStream file = Files.newOutputStream(copy);
        ZipOutputStream to = new ZipOutputStream(file)) {
      to.setLevel(Deflater.BEST_SPEED);
      for (ZipEntry entry : Collections.list(from.entries())) {
        if (digests || !entry.getName().endsWith(".digest")) {
          byte[] bytes = from.getInputStream(entry).readAllBytes();
          if (damaged && entry.getName().endsWith("/" + CORE)) {
            bytes[bytes.length / 2] ^= 1;
          }
          to.putNextEntry(new ZipEntry(entry.getName()));
          to.write(bytes);
        }
      }
    }
    return copy;
  }

  @Test
  @Tag("any-jdk")
  void jarsThatWereChangedAreRefused() throws Exception {
    Assumptions.assumeTrue(resource(CORE).getProtocol().equals("jar"), "no jars in this run");
    for (boolean digests : new boolean[] {true, false}) {
      String classPath = classPathWith(digests, digests);
      Subprocess process = with(Subprocess.java("-cp", classPath, Report.class.getName()));
      String sentence = line(process.run(), "failed");
      String expected = digests
          ? CORE + " is not the file that its digest was made of"
          : CORE + " has no digest beside it";
      assertTrue(sentence.contains(expected), sentence);
    }
    // Nothing is wrong with a copy as such.
    String classPath = classPathWith(true, false);
    assertPacked(loaded(with(Subprocess.java("-cp", classPath, Report.class.getName())).run()));
  }

  @Test
  void theCudaLibraryIsUnpackedLikeTheOthers() throws Exception {
    URL packed = exeunt.class.getResource("/org/exeunt/" + PLATFORM + "-cuda/libexeunt_cuda.so");
    Assumptions.assumeTrue(packed != null, "no CUDA backend was built");
    String output = report("with CUDA").run();
    byte[] bytes;
    try (InputStream in = packed.openStream()) {
      bytes = in.readAllBytes();
    }
    String sha = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    Path unpacked = cache().resolve(sha.substring(0, 32)).resolve("libexeunt_cuda.so");
    assertArrayEquals(bytes, Files.readAllBytes(unpacked), output);

    assumeMounts(SMALL_DISK, "20m", home.toString());
    String script = SMALL_DISK.replace("&& exec",
        "&& mount -t tmpfs -o size=1m none \"$1\" &&"
            + " shift && exec");
    output = inNamespace(report("with CUDA"), script, "20m", home.toString(), temporary.toString())
                 .run();
    assertTrue(
        line(output, "cuda").startsWith("the CUDA backend's library could not be unpacked: "),
        output);
    assertTrue(line(output, "cuda").contains("No space left on device"), output);
  }

  @Test
  void aLibraryOnThePathIsTakenWhereItIsAskedFor() throws Exception {
    Path built = Setup.libraries().resolve(CORE);
    Assumptions.assumeTrue(Files.exists(built), built + " is not there");
    Path own = Files.copy(built, folder.resolve(CORE));
    String output =
        report()
            .option("-Djava.library.path=/nowhere" + File.pathSeparator + folder)
            .option("-Dorg.bytedeco.javacpp.pathsFirst=true")
            .run();
    assertEquals(own, loaded(output));
    // It is not asked for.
    assertPacked(loaded(report().option("-Djava.library.path=" + folder).run()));
  }

  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "has no LD_PRELOAD")
  void anotherLibraryThatIsThereFirstIsRefused() throws Exception {
    Path built = Setup.libraries().resolve(CORE);
    Assumptions.assumeTrue(Files.exists(built), built + " is not there");
    Path own = Files.copy(built, folder.resolve(CORE));
    String output = report().preloading(own).run();
    String sentence = line(output, "failed");
    assertTrue(sentence.startsWith("this process had loaded " + own + " before "), sentence);
  }

  /** As two web applications in one server do. */
  static final class TwoLoaders {
    public static void main(String[] arguments) throws Exception {
      List<URL> urls = new ArrayList<>();
      for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
        urls.add(Path.of(entry).toUri().toURL());
      }
      for (int i = 0; i < 2; i++) {
        ClassLoader loader =
            new URLClassLoader(urls.toArray(URL[] ::new), ClassLoader.getPlatformClassLoader());
        Class<?> report = Class.forName(Report.class.getName(), true, loader);
        var main = report.getDeclaredMethod("main", String[].class);
        main.setAccessible(true);
        main.invoke(null, (Object) new String[0]);
      }
    }
  }

  @Test
  void twoClassLoadersMayLoadIt() throws Exception {
    String output = with(Subprocess.of(TwoLoaders.class)).run();
    assertEquals(2, output.lines().filter(line -> line.startsWith("ran: cpu/")).count(), output);
    loaded(output);
  }
}
