// SPDX-License-Identifier: Apache-2.0
package org.exeunt.presets;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.URI;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import org.bytedeco.javacpp.ClassProperties;
import org.bytedeco.javacpp.Loader;

/**
 * Loads the native libraries of the jars from a folder that nobody but this user can write to, as
 * the files that were packed.
 *
 * <p>JavaCPP alone would take a file that lies in its cache for the packed one if its size and its
 * time are the same; the times of a repeatable build always are. And where the user's cache folder
 * cannot be written, it would look in a folder under the shared temporary directory that anybody
 * may have put there. So this class unpacks: into a folder named by the library's SHA-256, which
 * the build has recorded in a resource beside it, below one of the {@link PrivateFolder}s. The
 * SHA-256 is verified when a file is unpacked; when it is found unpacked, its size and its CRC-32
 * are, since hashing six megabytes in a JVM that has just started would take longer than all the
 * rest of loading.
 */
public final class LibraryFiles {
  private static final String PATHS_FIRST = "org.bytedeco.javacpp.pathsFirst";

  private static final String LOADS = "org.bytedeco.javacpp.loadLibraries";

  private static Path core;
  private static boolean loaded;
  private static boolean prepared;

  private LibraryFiles() {}

  /**
   * Loads the libraries for the binding's class of functions. What JavaCPP would do besides takes a
   * JVM that has just started longer than all the rest, and waits for the first struct.
   */
  static void load() {
    if (!loadPacked()) {
      try {
        Loader.load(Class.forName("org.exeunt.jni.global.exeunt"));
      } catch (ClassNotFoundException e) {
        throw new IllegalStateException(e);
      }
      prepareStructs();
    }
  }

  /**
   * Called by JavaCPP before it looks for the libraries of a class of the binding: loads them
   * first.
   */
  static void load(ClassProperties properties) {
    if (loadPacked()) {
      prepareStructs();
      // JavaCPP looks for nothing, and is content with that, where a name ends so.
      properties.get("platform.link").clear();
      properties.setProperty("platform.library", "exeunt_is_loaded#");
    }
  }

  /** False if JavaCPP is to load them: from the library path, or not at all. */
  private static synchronized boolean loadPacked() {
    if (!loaded) {
      String platform = Loader.Detector.getPlatform();
      if (System.getProperty(LOADS) != null || System.getProperty(LOADS.toLowerCase()) != null
          || find(platform, fileName("jniexeunt")) == null) {
        return false;
      }
      try {
        PrivateFolder.forJavacpp();
        Path file = load(platform, "exeunt");
        core = onLibraryPath("exeunt") == null ? file : null;
        load(platform, "jniexeunt");
      } catch (IOException e) {
        throw(UnsatisfiedLinkError) new UnsatisfiedLinkError(e.getMessage()).initCause(e);
      }
      loaded = true;
    }
    return true;
  }

  private static synchronized void prepareStructs() {
    if (Loader.isLoadLibraries() && !prepared) {
      if (!Direct.structs()) {
        throw new UnsatisfiedLinkError("JavaCPP's part of libjniexeunt.so could not be prepared");
      }
      prepared = true;
    }
  }

  /**
   * The file that libexeunt.so was loaded from if it came out of a jar.
   *
   * @return its path; null if it came from the library path, or was not loaded yet
   */
  public static synchronized Path core() {
    return core;
  }

  /**
   * Unpacks a library, unless its file is there.
   *
   * @param folder folder of the resource below org/exeunt, which is the platform and perhaps a
   *     suffix
   * @param library name without prefix and suffix, as in {@link System#loadLibrary}
   * @return a file of the packed bytes, which only this user can change; null if no jar has it
   * @throws IOException with the reason if there is no place for it, or the jar is damaged
   */
  public static Path unpacked(String folder, String library) throws IOException {
    return unpacked(folder, fileName(library), fileName(library));
  }

  private static Path unpacked(String platform, String resource, String name) throws IOException {
    // The library itself is looked for where it is needed: each look goes through every jar.
    URL digest = find(platform, resource.concat(".digest"));
    if (digest == null) {
      URL packed = find(platform, resource);
      if (packed == null) {
        return null;
      }
      throw new IOException(packed + " has no digest beside it: use a jar as the build made it");
    }
    Digest expected = Digest.read(digest);
    PrivateFolder.Use use = new PrivateFolder.Use() {
      @Override
      public Path in(PrivateFolder folder) throws IOException {
        return place(folder, name, platform, resource, expected);
      }
    };
    return PrivateFolder.first(expected.sha256.substring(0, 32), use);
  }

  private static Path load(String platform, String library) throws IOException {
    Path listed = onLibraryPath(library);
    for (int copy = 0;; copy++) {
      String resource = fileName(library);
      Path file = listed != null
          ? listed
          : unpacked(platform, resource, copy == 0 ? resource : fileName(library + copy));
      if (file == null) {
        throw new IOException(
            "no jar holds org/exeunt/" + platform + "/" + resource + ": use jars of one release");
      }
      try {
        System.load(file.toString());
        return file;
      } catch (UnsatisfiedLinkError e) {
        // The JVM gives a file to one class loader alone. Its symbols are there for all, but native
        // methods are bound per loader: they need a file of their own.
        if (!says(e, "already loaded in another classloader") || listed != null || copy == 99) {
          throw e;
        }
        if (library.equals("exeunt")) {
          return file;
        }
      }
    }
  }

  private static boolean says(Throwable failure, String text) {
    for (Throwable t = failure; t != null; t = t.getCause()) {
      if (t.getMessage() != null && t.getMessage().contains(text)) {
        return true;
      }
    }
    return false;
  }

  /** The library in java.library.path if JavaCPP was told to look there first, else null. */
  private static Path onLibraryPath(String library) {
    String first = System.getProperty(PATHS_FIRST, System.getProperty(PATHS_FIRST.toLowerCase()));
    if (first == null || !(first.isEmpty() || first.toLowerCase().matches("t|true"))) {
      return null;
    }
    for (String folder : System.getProperty("java.library.path", "").split(File.pathSeparator)) {
      File file = new File(folder, fileName(library));
      if (!folder.isEmpty() && file.isFile()) {
        return file.getAbsoluteFile().toPath();
      }
    }
    return null;
  }

  private static String fileName(String library) {
    return System.mapLibraryName(library);
  }

  private static URL find(String folder, String name) {
    // The first + of a process takes it several milliseconds.
    String resource = String.join("/", "org/exeunt", folder, name);
    // A module's own class finds what its module holds, a class loader what lies beside it.
    URL url = LibraryFiles.class.getResource("/".concat(resource));
    return url != null ? url : LibraryFiles.class.getClassLoader().getResource(resource);
  }

  /** The file `name` in `folder`, unpacked if it is not there or not what it should be. */
  private static Path place(PrivateFolder folder, String name, String platform, String resource,
      Digest expected) throws IOException {
    Path file = folder.path().resolve(name);
    folder.use();
    if (!(folder.owns(file) && expected.fits(file))) {
      URL packed = find(platform, resource);
      if (packed == null) {
        throw new PrivateFolder.Hopeless("no jar holds " + resource + ", whose digest one has");
      }
      folder.makeRoom();
      Path part = folder.newPart(name);
      try {
        copy(packed, part, expected);
        // Never written in place: a process that has the old file loaded keeps it.
        Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
      } finally {
        Files.deleteIfExists(part);
      }
      if (!(folder.owns(file) && expected.fits(file))) {
        throw new IOException(file + " does not hold what was just unpacked to it");
      }
    }
    return file;
  }

  private static void copy(URL packed, Path file, Digest expected) throws IOException {
    MessageDigest sha256 = sha256();
    try (InputStream in = packed.openStream(); OutputStream out = Files.newOutputStream(file)) {
      byte[] buffer = new byte[1 << 16];
      for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
        sha256.update(buffer, 0, n);
        out.write(buffer, 0, n);
      }
    }
    if (!hex(sha256.digest()).equals(expected.sha256)) {
      throw new PrivateFolder.Hopeless(packed + " is not the file that its digest was made of");
    }
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e); // every JDK has it
    }
  }

  private static String hex(byte[] bytes) {
    StringBuilder text = new StringBuilder();
    for (byte b : bytes) {
      text.append(Character.forDigit(b >> 4 & 15, 16)).append(Character.forDigit(b & 15, 16));
    }
    return text.toString();
  }

  /** What the build has recorded of a library. */
  private static final class Digest {
    final String sha256;
    final long crc32;
    final long bytes;

    private Digest(String sha256, long crc32, long bytes) {
      this.sha256 = sha256;
      this.crc32 = crc32;
      this.bytes = bytes;
    }

    static Digest read(URL resource) throws IOException {
      String text;
      try (InputStream in = open(resource)) {
        text = new String(in.readAllBytes(), StandardCharsets.US_ASCII).trim();
      }
      String[] parts = text.split(" ");
      if (parts.length == 3 && parts[0].length() == 64) {
        try {
          return new Digest(parts[0], Long.parseLong(parts[1], 16), Long.parseLong(parts[2]));
        } catch (NumberFormatException e) {
          // None of ours.
        }
      }
      throw new PrivateFolder.Hopeless(resource + " holds no digest");
    }

    /** As the class loader does: a JarURLConnection is a dozen classes that no JVM has at hand. */
    private static InputStream open(URL resource) throws IOException {
      String file = resource.getFile();
      int entry = file.indexOf("!/");
      if (resource.getProtocol().equals("jar") && file.startsWith("file:/")
          && file.indexOf("!/", entry + 1) < 0) {
        try (ZipFile jar = new ZipFile(URI.create(file.substring(0, entry)).getPath())) {
          ZipEntry packed = jar.getEntry(file.substring(entry + 2));
          return new ByteArrayInputStream(jar.getInputStream(packed).readAllBytes());
        } catch (IllegalArgumentException | IOException e) {
          // A name that this loader writes in another way, which it can read itself.
        }
      }
      return resource.openStream();
    }

    boolean fits(Path file) throws IOException {
      if (Files.size(file) != bytes) {
        return false;
      }
      CRC32 crc = new CRC32();
      byte[] buffer = new byte[1 << 16];
      try (InputStream in = new FileInputStream(file.toFile())) {
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
          crc.update(buffer, 0, n);
        }
      }
      return crc.getValue() == crc32;
    }
  }
}
