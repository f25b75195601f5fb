// SPDX-License-Identifier: Apache-2.0
package org.exeunt.presets;

import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.AclEntry;
import java.nio.file.attribute.AclEntryFlag;
import java.nio.file.attribute.AclEntryPermission;
import java.nio.file.attribute.AclEntryType;
import java.nio.file.attribute.AclFileAttributeView;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.UserPrincipal;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * What {@link PrivateFolder} asks of Windows: who owns a file, and whom its access list lets change
 * it. The folders above are not looked at: a user's profile, in which they lie, is closed to all
 * others but administrators.
 */
final class WindowsRights {
  private static final Set<AclEntryPermission> CHANGES = EnumSet.of(AclEntryPermission.WRITE_DATA,
      AclEntryPermission.APPEND_DATA, AclEntryPermission.DELETE, AclEntryPermission.DELETE_CHILD,
      AclEntryPermission.WRITE_ACL, AclEntryPermission.WRITE_OWNER);

  private static UserPrincipal user;

  private WindowsRights() {}

  /** The folder itself, made if it is not there, which only this user may write to. */
  static Path mine(Path folder) throws IOException {
    if (!Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
      try {
        close(Files.createDirectory(folder));
      } catch (FileAlreadyExistsException e) {
        // By another process, as whose it is looked at now.
      }
    }
    BasicFileAttributes found = attributes(folder);
    if (!found.isDirectory() || found.isOther()) {
      throw new IOException(folder + " is no folder");
    }
    AclFileAttributeView rights = rights(folder);
    if (!rights.getOwner().equals(user())) {
      throw new IOException(folder + " belongs to another user");
    }
    for (AclEntry entry : rights.getAcl()) {
      if (entry.type() == AclEntryType.ALLOW && !isTrusted(entry.principal())
          && !Collections.disjoint(entry.permissions(), CHANGES)) {
        throw new IOException(folder + " may be written to by others");
      }
    }
    return folder;
  }

  /** Some languages call the system otherwise; no list that close() has written names it there. */
  private static boolean isTrusted(UserPrincipal principal) throws IOException {
    return principal.equals(user()) || principal.getName().equals("NT AUTHORITY\\SYSTEM");
  }

  /** Takes a folder that this process has made from all others, whatever it has inherited. */
  static Path close(Path folder) throws IOException {
    AclEntry all =
        AclEntry.newBuilder()
            .setType(AclEntryType.ALLOW)
            .setPrincipal(user())
            .setPermissions(EnumSet.allOf(AclEntryPermission.class))
            .setFlags(AclEntryFlag.FILE_INHERIT, AclEntryFlag.DIRECTORY_INHERIT)
            .build();
    rights(folder).setAcl(List.of(all));
    return folder;
  }

  /** Whether a file is a regular one of this user's. */
  static boolean owns(Path file) throws IOException {
    try {
      return attributes(file).isRegularFile() && rights(file).getOwner().equals(user());
    } catch (NoSuchFileException e) {
      return false;
    }
  }

  /**
   * A new file whose name ends with {@code .part}. Not by Files.createTempFile: its random names
   * would have the JVM ask every network adapter for entropy first. Nor by the number of the
   * process, for which the JVM makes threads and classes that nothing else here needs.
   */
  static Path newFile(Path folder, String name) throws IOException {
    while (true) {
      try {
        return Files.createFile(folder.resolve(name + "-" + System.nanoTime() + ".part"));
      } catch (FileAlreadyExistsException e) {
        // Another was at it in the same moment.
      }
    }
  }

  private static BasicFileAttributes attributes(Path path) throws IOException {
    return Files.readAttributes(path, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
  }

  private static AclFileAttributeView rights(Path path) throws IOException {
    AclFileAttributeView view =
        Files.getFileAttributeView(path, AclFileAttributeView.class, LinkOption.NOFOLLOW_LINKS);
    if (view == null) {
      throw new IOException(path + " has no access list");
    }
    return view;
  }

  /** Who owns what this process makes. */
  private static UserPrincipal user() throws IOException {
    if (user == null) {
      Path file = newFile(Path.of(System.getProperty("java.io.tmpdir")), "exeunt");
      try {
        user = Files.getOwner(file);
      } finally {
        Files.delete(file);
      }
    }
    return user;
  }
}
