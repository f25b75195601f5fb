// SPDX-License-Identifier: Apache-2.0
package org.exeunt.presets;

import java.io.BufferedReader;
import java.io.File;
import java.io.FileReader;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/**
 * A folder below one of the user's caches, in which nobody but this user (and root) can put or
 * change a file: it is the user's, only the user may write to it, and nobody else can put another
 * in its place, since that holds for the folders above it as well, up to the root.
 */
final class PrivateFolder {
  private static final String CACHE = "org.bytedeco.javacpp.cachedir";

  private static final boolean WINDOWS = File.separatorChar == '\\';

  private static final int KIND = 0170000;
  private static final int DIRECTORY = 0040000;
  private static final int REGULAR = 0100000;
  private static final int STICKY = 01000;
  private static final int GROUP_WRITES = 0020;
  private static final int OTHERS_WRITE = 0022;

  private static final int PLACES = 4;

  // Libraries of so many builds stay.
  private static final int KEPT = 12;

  // Before this class sets it, which is no word of the user's.
  private static final String NAMED_CACHE = namedCache();

  private static int uid = -1;
  private static Path ofThisProcess;

  private final Path path;

  private PrivateFolder(Path path) {
    this.path = path;
  }

  /** Makes something of a folder. */
  interface Use {
    Path in(PrivateFolder folder) throws IOException;
  }

  /** A reason that is the same in every folder. */
  static final class Hopeless extends IOException {
    private static final long serialVersionUID = 1;

    Hopeless(String reason) {
      super(reason);
    }
  }

  /** What `use` makes of the folder `name` in the first place where it can. */
  static synchronized Path first(String name, Use use) throws IOException {
    StringBuilder reasons = new StringBuilder();
    IOException failure = new IOException();
    for (int place = 0; place < PLACES; place++) {
      try {
        Path open = open(place);
        if (open != null) {
          return use.in(new PrivateFolder(mine(open.resolve(name))));
        }
      } catch (Hopeless e) {
        throw e;
      } catch (IOException e) {
        reasons.append(reasons.length() == 0 ? "" : "; ").append(reason(e));
        failure.addSuppressed(e);
      }
    }
    throw(IOException) new IOException(
        "no folder was found to unpack it to that only this user can write to (" + reasons + "); -D"
        + CACHE + "=FOLDER names another")
        .initCause(failure);
  }

  // No lambdas here: a JVM that has just started takes longer for one than for all the rest.
  private static Path open(int place) throws IOException {
    switch (place) {
      case 0:
        return named();
      case 1:
        return usual();
      case 2:
        return temporary();
      default:
        return passing();
    }
  }

  /**
   * Sends JavaCPP's own library to a private folder as well where it would not go to one by itself;
   * in vain if it has been loaded before.
   */
  static synchronized void forJavacpp() throws IOException {
    if (NAMED_CACHE != null) {
      return;
    }
    try {
      if (usual() != null && Files.isWritable(usualCache())) {
        return;
      }
    } catch (IOException e) {
      // It would go to the shared temporary folder.
    }
    Path other = first("javacpp", new Use() {
      @Override
      public Path in(PrivateFolder folder) throws IOException {
        if (!Files.isWritable(folder.path)) {
          throw new AccessDeniedException(folder.path.toString());
        }
        return folder.path;
      }
    });
    System.setProperty(CACHE, other.toString());
  }

  Path path() {
    return path;
  }

  /** A new file, which makeRoom() removes if the process ends before it gets another name. */
  Path newPart(String name) throws IOException {
    return WINDOWS ? WindowsRights.newFile(path, name) : Files.createTempFile(path, name, ".part");
  }

  /** Marks this folder as the one used last. */
  void use() {
    // In vain where it may only be read: then it is never cleared either. Files has a lambda here.
    path.toFile().setLastModified(System.currentTimeMillis());
  }

  /** Whether a file is a regular one of this user's that nobody else can write to. */
  boolean owns(Path file) throws IOException {
    if (WINDOWS) {
      return WindowsRights.owns(file);
    }
    try {
      Map<String, Object> found = attributes(file);
      int mode = (Integer) found.get("mode");
      return (mode & KIND) == REGULAR && (mode & OTHERS_WRITE) == 0
          && (Integer) found.get("uid") == uid();
    } catch (NoSuchFileException e) {
      return false;
    }
  }

  /** Removes what processes that were killed left here, and the folders that were used least. */
  void makeRoom() {
    Instant stale = Instant.now().minus(Duration.ofHours(1));
    for (Path file : list(path, "*.part")) {
      if (used(file).isBefore(stale)) {
        remove(file);
      }
    }
    List<Path> builds = list(path.getParent(), "[0-9a-f]*[0-9a-f]");
    builds.sort(Comparator.comparing(PrivateFolder::used).reversed());
    for (Path build : builds.subList(Math.min(KEPT, builds.size()), builds.size())) {
      list(build, "*").forEach(PrivateFolder::remove);
      remove(build);
    }
  }

  private static List<Path> list(Path folder, String pattern) {
    List<Path> found = new ArrayList<>();
    try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, pattern)) {
      files.forEach(found::add);
    } catch (IOException | RuntimeException e) {
      // Another process is clearing it.
    }
    return found;
  }

  private static Instant used(Path path) {
    try {
      return Files.getLastModifiedTime(path, LinkOption.NOFOLLOW_LINKS).toInstant();
    } catch (IOException e) {
      return Instant.EPOCH;
    }
  }

  private static void remove(Path path) {
    try {
      Files.deleteIfExists(path);
    } catch (IOException e) {
      // Left to the next.
    }
  }

  // ---- the places, in order ---------------------------------------------------------------------

  /** The folder that the user has named. Who may write to those above it is the user's affair. */
  private static Path named() throws IOException {
    return NAMED_CACHE == null
        ? null
        : mine(made(Path.of(NAMED_CACHE)).toRealPath().resolve("exeunt"));
  }

  private static String namedCache() {
    String cache = System.getProperty(CACHE, System.getProperty("org.bytedeco.javacpp.cacheDir"));
    return cache == null || cache.isEmpty() ? null : cache;
  }

  private static Path usualCache() throws IOException {
    try {
      return Path.of(System.getProperty("user.home", ""), ".javacpp", "cache");
    } catch (InvalidPathException e) { // Windows knows letters that no name has
      throw new IOException("the user has no home folder", e);
    }
  }

  private static Path usual() throws IOException {
    Path cache = usualCache();
    if (!cache.isAbsolute()) {
      throw new IOException("the user has no home folder");
    }
    return mine(reachable(made(cache)).resolve("exeunt"));
  }

  private static Path temporary() throws IOException {
    Path shared = reachable(Path.of(System.getProperty("java.io.tmpdir")));
    return mine(shared.resolve("exeunt-" + (WINDOWS ? System.getProperty("user.name") : uid())));
  }

  /** Where somebody else has taken the one above: for this process alone. */
  private static Path passing() throws IOException {
    if (ofThisProcess == null) {
      Path shared = reachable(Path.of(System.getProperty("java.io.tmpdir")));
      Path folder = Files.createTempDirectory(shared, "exeunt-", onlyMine());
      Runtime.getRuntime().addShutdownHook(new Thread(() -> removeAll(folder.toFile())));
      ofThisProcess = mine(WINDOWS ? WindowsRights.close(folder) : folder);
    }
    return ofThisProcess;
  }

  private static void removeAll(File file) {
    File[] content = Files.isSymbolicLink(file.toPath()) ? null : file.listFiles();
    for (File inner : content == null ? new File[0] : content) {
      removeAll(inner);
    }
    file.delete();
  }

  private static Path made(Path folder) throws IOException {
    return Files.isDirectory(folder) ? folder : Files.createDirectories(folder, onlyMine());
  }

  private static FileAttribute<?>[] onlyMine() {
    if (WINDOWS) {
      return new FileAttribute<?>[0];
    }
    return new FileAttribute<?>[] {
        PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"))};
  }

  // ---- who may write ----------------------------------------------------------------------------

  /** The folder itself, made if it is not there, which only this user may write to. */
  private static Path mine(Path folder) throws IOException {
    if (WINDOWS) {
      return WindowsRights.mine(folder);
    }
    if (!Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
      try {
        Files.createDirectory(folder, onlyMine());
      } catch (FileAlreadyExistsException e) {
        // By another process, as whose it is looked at now.
      }
    }
    Map<String, Object> found = attributes(folder);
    int mode = (Integer) found.get("mode");
    if ((mode & KIND) != DIRECTORY) {
      throw new IOException(folder + " is no folder");
    }
    if ((Integer) found.get("uid") != uid()) {
      throw new IOException(folder + " belongs to another user");
    }
    if ((mode & OTHERS_WRITE) != 0) {
      throw new IOException(folder + " may be written to by others");
    }
    return folder;
  }

  /** The folder's real path, if nobody else can put another folder in the place of one in it. */
  private static Path reachable(Path folder) throws IOException {
    Path real = folder.toRealPath();
    if (WINDOWS) {
      return real;
    }
    // Root owns the first folder, unless this is a user namespace in which it has no number.
    int root = (Integer) attributes(real.getRoot()).get("uid");
    for (Path part = real; part != null; part = part.getParent()) {
      Map<String, Object> found = attributes(part);
      int owner = (Integer) found.get("uid");
      int mode = (Integer) found.get("mode");
      if (owner != uid() && owner != 0 && owner != root) {
        throw new IOException(part + " belongs to another user");
      }
      // Where each user has a group of the same number, that is the user's alone.
      boolean ownGroup = (mode & OTHERS_WRITE) == GROUP_WRITES && owner == uid()
          && found.get("gid").equals(found.get("uid"));
      if ((mode & OTHERS_WRITE) != 0 && (mode & STICKY) == 0 && !ownGroup) {
        throw new IOException(part + " may be written to by others");
      }
    }
    return real;
  }

  private static Map<String, Object> attributes(Path path) throws IOException {
    return Files.readAttributes(path, "unix:uid,gid,mode", LinkOption.NOFOLLOW_LINKS);
  }

  /** The user as whom this process makes files. */
  private static int uid() throws IOException {
    if (uid < 0) {
      uid = uidOfStatus();
    }
    return uid;
  }

  private static int uidOfStatus() throws IOException {
    try (BufferedReader status = new BufferedReader(new FileReader("/proc/self/status"))) {
      for (String line = status.readLine(); line != null; line = status.readLine()) {
        if (line.startsWith("Uid:")) {
          return Integer.parseInt(line.split("\t")[4]); // real, effective, saved, file system
        }
      }
    } catch (IOException e) {
      // Not mounted.
    }
    Path file = Files.createTempFile("exeunt", null);
    try {
      return (Integer) attributes(file).get("uid");
    } finally {
      Files.delete(file);
    }
  }

  private static String reason(IOException e) {
    if (e instanceof AccessDeniedException) {
      return e.getMessage() + " may not be written to";
    }
    if (e instanceof FileAlreadyExistsException) {
      return e.getMessage() + " is no folder";
    }
    return e instanceof NoSuchFileException ? e.getMessage() + " is not there" : e.getMessage();
  }
}
