// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.zip.CRC32;

/**
 * Run by the build: writes NAME.digest beside each library of the given folders, one line of its
 * SHA-256, its CRC-32 and its size, which the loader (LibraryFiles) holds what it unpacks against.
 * Folders that are not there are no libraries.
 */
public final class Digests {
  private Digests() {}

  public static void main(String[] folders) throws IOException, NoSuchAlgorithmException {
    for (String folder : folders) {
      if (Files.isDirectory(Path.of(folder))) {
        try (DirectoryStream<Path> libraries =
                 Files.newDirectoryStream(Path.of(folder), "*.{so,dll,dylib}")) {
          for (Path library : libraries) {
            write(library);
          }
        }
      }
    }
  }

  private static void write(Path library) throws IOException, NoSuchAlgorithmException {
    byte[] bytes = Files.readAllBytes(library);
    CRC32 crc = new CRC32();
    crc.update(bytes);
    String sha = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    Files.writeString(library.resolveSibling(library.getFileName() + ".digest"),
        String.format("%s %08x %d%n", sha, crc.getValue(), bytes.length));
  }
}
