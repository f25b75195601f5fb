// SPDX-License-Identifier: Apache-2.0
package org.exeunt.presets;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.bytedeco.javacpp.ClassProperties;
import org.bytedeco.javacpp.LoadEnabled;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;
import org.bytedeco.javacpp.tools.Info;
import org.bytedeco.javacpp.tools.InfoMap;
import org.bytedeco.javacpp.tools.InfoMapper;

/**
 * Tells JavaCPP how to read the C ABI. The tensor struct comes from exeunt's own DLPack
 * description: defining the guard of {@code dlpack/dlpack.h} keeps a system header, which declares
 * the same layout, from declaring it twice.
 */
@Properties(value = @Platform(define = "DLPACK_DLPACK_H_", link = "exeunt"),
    target = "org.exeunt.jni",
    global = "org.exeunt.jni.global.exeunt")
@NoException // the ABI returns statuses and never throws
public class exeunt implements InfoMapper, LoadEnabled {
  private static final Set<String> OPS = new LinkedHashSet<>();

  private static final String[] TEXTS = {"exn_version", "exn_library_path", "exn_last_error",
      "exn_last_path", "exn_cpu_isa", "exn_cpu_isas"};

  private static final String[] TEXTS_OF_INT = {
      "exn_status_name", "exn_backend_reason", "exn_backend_name"};

  /** Loads the libraries before JavaCPP looks for them; a build that makes the binding has none. */
  @Override
  public void init(ClassProperties properties) {
    if (!Loader.isLoadLibraries()) {
      List<String> headers = properties.get("platform.include");
      for (String path : properties.get("platform.includepath")) {
        read(Path.of(path), "exeunt/exeunt.h", headers);
      }
      headers.remove("exeunt/exeunt.h");
    }
    LibraryFiles.load(properties);
  }

  /** Adds a header behind those that it includes, and its ops. */
  private static void read(Path folder, String header, List<String> headers) {
    if (headers.contains(header) || !Files.exists(folder.resolve(header))) {
      return;
    }
    try {
      String text = Files.readString(folder.resolve(header));
      Matcher include = Pattern.compile("#include <(exeunt/\\w+\\.h)>").matcher(text);
      while (include.find()) {
        read(folder, include.group(1), headers);
      }
      Matcher params = Pattern.compile("\\} exn_(\\w+)_params;").matcher(text);
      while (params.find()) {
        OPS.add(params.group(1));
      }
      headers.add(header);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Override
  public void map(InfoMap map) {
    map.put(new Info("EXN_API").cppTypes().annotations());
    map.put(new Info("_WIN32", "defined(_WIN32)", "defined(__has_include)").define(false));
    map.put(new Info("exn_status").valueTypes("int").cast());
    map.put(new Info("DLDeviceType").valueTypes("int").cast());
    map.put(new Info("exn_stream").cast().pointerTypes("Pointer"));
    for (String op : OPS) {
      map.put(new Info("exn_" + op + "_params").pointerTypes("exn_" + op + "_params"));
      mapOp(map, "exn_" + op);
    }
    for (String text : TEXTS) {
      map.put(new Info(text).javaText("public static native String " + text + "();"));
    }
    for (String text : TEXTS_OF_INT) {
      map.put(new Info(text).javaText("public static native String " + text + "(int which);"));
    }
    mapMemory(map);
  }

  /** Beside the Pointer form, one with plain addresses: each Pointer argument costs 3 ns a call. */
  private static void mapOp(InfoMap map, String op) {
    String params = "@Cast(\"const " + op + "_params*\") ";
    String run = "public static native @Cast(\"exn_status\") int " + op;
    map.put(new Info(op).javaText(run + "(" + params + "Pointer params, Pointer workspace,\n"
        + "    @Cast(\"size_t\") long workspaceBytes, @Cast(\"exn_stream\") Pointer"
        + " stream);\n" + run + "(" + params + "long params, @Cast(\"void*\") long workspace,\n"
        + "    @Cast(\"size_t\") long workspaceBytes, @Cast(\"exn_stream\") long"
        + " stream);"));
    map.put(new Info(op + "_supported")
            .javaText(run + "_supported(" + params + "Pointer params);\n" + run + "_supported("
                + params + "long params);"));
    map.put(new Info(op + "_workspace_size")
            .javaText(run + "_workspace_size(" + params
                + "Pointer params, @Cast(\"size_t*\") long[] bytes);\n" + run + "_workspace_size("
                + params + "long params, @Cast(\"size_t*\") long[] bytes);"));
  }

  private static void mapMemory(InfoMap map) {
    String status = "public static native @Cast(\"exn_status\") int ";
    map.put(new Info("exn_alloc")
            .javaText(status
                + "exn_alloc(int deviceType, int deviceId, @Cast(\"size_t\") long bytes,\n"
                + "    @Cast(\"void**\") long[] out);"));
    map.put(new Info("exn_free")
            .javaText(
                status + "exn_free(int deviceType, int deviceId, @Cast(\"void*\") long pointer);"));
    map.put(new Info("exn_copy")
            .javaText(status
                + "exn_copy(@Cast(\"void*\") long dst, int dstDeviceType, int dstDeviceId,\n"
                + "    @Cast(\"const void*\") long src, int srcDeviceType, int srcDeviceId,\n"
                + "    @Cast(\"size_t\") long bytes, @Cast(\"exn_stream\") long stream);"));
    map.put(new Info("exn_stream_create")
            .javaText(status + "exn_stream_create(int deviceType, int deviceId,\n"
                + "    @Cast(\"exn_stream*\") long[] out);"));
    map.put(new Info("exn_stream_destroy")
            .javaText(status + "exn_stream_destroy(int deviceType, int deviceId,\n"
                + "    @Cast(\"exn_stream\") long stream);"));
    map.put(new Info("exn_stream_synchronize")
            .javaText(status + "exn_stream_synchronize(int deviceType, int deviceId,\n"
                + "    @Cast(\"exn_stream\") long stream);"));
    map.put(new Info("exn_read_probe")
            .javaText(status
                + "exn_read_probe(@Cast(\"const void*\") long data, @Cast(\"size_t\") long"
                + " bytes,\n"
                + "    @Cast(\"uint64_t*\") long[] checksum);"));
    map.put(new Info("exn_copy_probe")
            .javaText(status
                + "exn_copy_probe(@Cast(\"void*\") long dst, @Cast(\"const void*\") long src,\n"
                + "    @Cast(\"size_t\") long bytes, int pastCaches);"));
    map.put(new Info("exn_fma_probe")
            .javaText(status + "exn_fma_probe(@Cast(\"uint64_t\") long multiplyAdds,\n"
                + "    @Cast(\"uint64_t*\") long[] done);"));
  }
}
