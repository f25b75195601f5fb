// SPDX-License-Identifier: Apache-2.0
package org.exeunt.presets;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.bytedeco.javacpp.ClassProperties;
import org.bytedeco.javacpp.LoadEnabled;
import org.bytedeco.javacpp.Pointer;
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
      "exn_last_path", "exn_cpu_isa", "exn_cpu_isas", "exn_cpu_tuning"};

  private static final String[] TEXTS_OF_INT = {
      "exn_status_name", "exn_backend_reason", "exn_backend_name"};

  private static final String[] OF_TEXT = {
      "exn_cuda_open", "exn_cpu_set_isa", "exn_cpu_set_tuning"};

  /** What the binding calls Loader in its class of functions, and JavaCPP in those of structs. */
  protected static final class Loader {
    private Loader() {}

    /** Loads the libraries without JavaCPP, where that can be. */
    public static void load() {
      LibraryFiles.load();
    }
  }

  /** A C string; null for none. */
  protected static String text(long address) {
    if (address == 0) {
      return null;
    }
    ByteBuffer bytes = Direct.view(address, Direct.length(address) + 1);
    byte[] text = new byte[bytes.capacity() - 1];
    bytes.get(text);
    return new String(text, charset());
  }

  /** A C string of a Java one; null for none. */
  protected static byte[] bytes(String text) {
    return text == null ? null : text.concat("\0").getBytes(charset());
  }

  /** Of the C ABI's texts: that of file names, which the native library has in UTF-8 on Windows. */
  private static Charset charset() {
    return File.separatorChar == '\\' ? StandardCharsets.UTF_8 : Charset.defaultCharset();
  }

  /** As JavaCPP passes a pointer to a function; 0 for none. */
  protected static long at(Pointer pointer) {
    return pointer == null ? 0 : pointer.address() + pointer.position();
  }

  /** Keeps what it is given from the garbage collector until a call has returned. */
  protected static int after(int status, Object... used) {
    for (Object one : used) {
      Reference.reachabilityFence(one);
    }
    return status;
  }

  /** Loads the libraries before JavaCPP looks for them; a build that makes the binding has none. */
  @Override
  public void init(ClassProperties properties) {
    if (!org.bytedeco.javacpp.Loader.isLoadLibraries()) {
      List<String> headers = properties.get("platform.include");
      for (String path : properties.get("platform.includepath")) {
        read(Path.of(path), "exeunt/exeunt.h", headers);
      }
      headers.remove("exeunt/exeunt.h");
      headers.add("lazy.h");
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
    map.put(new Info("lazy.h").skip());
    map.put(new Info("EXN_API").cppTypes().annotations());
    map.put(new Info("_WIN32", "defined(_WIN32)", "defined(__has_include)").define(false));
    map.put(new Info("exn_status").valueTypes("int").cast());
    map.put(new Info("DLDeviceType").valueTypes("int").cast());
    map.put(new Info("exn_stream", "exn_graph", "exn_event").cast().pointerTypes("Pointer"));
    for (String op : OPS) {
      map.put(new Info("exn_" + op + "_params").pointerTypes("exn_" + op + "_params"));
      mapOp(map, "exn_" + op);
    }
    for (String text : TEXTS) {
      mapText(map, text, "", "");
    }
    for (String text : TEXTS_OF_INT) {
      mapText(map, text, "int which", "which");
    }
    for (String function : OF_TEXT) {
      String run =
          "public static native @Cast(\"exn_status\") int " + function + "(@Cast(\"const char*\") ";
      String text = "public static int " + function + "(";
      map.put(new Info(function).javaText(run + "byte[] text);\n" + run + "long text);\n" + text
          + "String text) {\n  return " + function + "(bytes(text));\n}\n" + text
          + "BytePointer text) {\n  return after(" + function + "(at(text)), text);\n}"));
    }
    String tune = "int exn_cpu_tune(int milliseconds, ";
    map.put(new Info("exn_cpu_tune")
            .javaText("public static native @Cast(\"exn_status\") " + tune
                + "@Cast(\"const char*\") byte[] path);\npublic static " + tune
                + "String path) {\n  return exn_cpu_tune(milliseconds, bytes(path));\n}"));
    mapMemory(map);
    mapDevice(map);
  }

  private static void mapText(InfoMap map, String text, String parameter, String argument) {
    map.put(new Info(text).javaText("@Name(\"" + text + "\")\n"
        + "private static native @Cast(\"intptr_t\") long address_of_" + text + "(" + parameter
        + ");\npublic static String " + text + "(" + parameter + ") {\n  return text(address_of_"
        + text + "(" + argument + "));\n}"));
  }

  /** With plain addresses: each Pointer costs 3 ns a call, and is taken apart in Java. */
  private static void mapOp(InfoMap map, String op) {
    String params = "(@Cast(\"const " + op + "_params*\") long params";
    String run = "public static native @Cast(\"exn_status\") int " + op;
    String pointers = "\npublic static int " + op;
    map.put(new Info(op).javaText(run + params + ", @Cast(\"void*\") long workspace,\n"
        + "    @Cast(\"size_t\") long workspaceBytes, @Cast(\"exn_stream\") long stream);"
        + pointers + "(Pointer params, Pointer workspace, long workspaceBytes, Pointer stream) {\n"
        + "  return after(" + op + "(at(params), at(workspace), workspaceBytes, at(stream)),\n"
        + "      params, workspace, stream);\n}"));
    map.put(new Info(op + "_supported")
            .javaText(run + "_supported" + params + ");" + pointers
                + "_supported(Pointer params) {\n  return after(" + op
                + "_supported(at(params)), params);\n}"));
    map.put(new Info(op + "_workspace_size")
            .javaText(run + "_workspace_size" + params + ", @Cast(\"size_t*\") long[] bytes);"
                + pointers + "_workspace_size(Pointer params, long[] bytes) {\n  return after(" + op
                + "_workspace_size(at(params), bytes), params);\n}"));
  }

  /** Functions of a device, whose other parameters are these. */
  private static void mapDevice(InfoMap map) {
    String stream = "@Cast(\"exn_stream\") long stream";
    String graph = "@Cast(\"exn_graph\") long graph";
    String event = "@Cast(\"exn_event\") long event";
    mapDevice(map, "exn_graph_begin", stream);
    mapDevice(map, "exn_graph_end", stream, "@Cast(\"exn_graph*\") long[] out");
    mapDevice(map, "exn_graph_abort", stream);
    mapDevice(map, "exn_graph_launch", graph, stream);
    mapDevice(map, "exn_graph_destroy", graph);
    mapDevice(map, "exn_event_create", "@Cast(\"exn_event*\") long[] out");
    mapDevice(map, "exn_event_destroy", event);
    mapDevice(map, "exn_event_record", event, stream);
    mapDevice(map, "exn_stream_wait", stream, event);
    mapDevice(map, "exn_event_query", event, "int[] reached");
    mapDevice(map, "exn_event_synchronize", event);
    mapDevice(map, "exn_event_elapsed", "@Cast(\"exn_event\") long start",
        "@Cast(\"exn_event\") long end", "float[] milliseconds");
    mapDevice(
        map, "exn_host_alloc", "@Cast(\"size_t\") long bytes", "@Cast(\"void**\") long[] out");
    mapDevice(map, "exn_host_free", "@Cast(\"void*\") long pointer");
  }

  private static void mapDevice(InfoMap map, String function, String... parameters) {
    map.put(new Info(function).javaText("public static native @Cast(\"exn_status\") int " + function
        + "(int deviceType, int deviceId, " + String.join(", ", parameters) + ");"));
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
    map.put(new Info("exn_blocks_row_bytes")
            .javaText(status + "exn_blocks_row_bytes(int blocks, @Cast(\"int64_t\") long columns,\n"
                + "    @Cast(\"int64_t*\") long[] bytes);"));
    String screen = "(@Cast(\"const exn_screen_params*\") long params";
    map.put(new Info("exn_screen_size")
            .javaText(status + "exn_screen_size" + screen + ", @Cast(\"size_t*\") long[] bytes);"));
    map.put(new Info("exn_screen_build").javaText(status + "exn_screen_build" + screen + ");"));
    map.put(new Info("exn_screen_check")
            .javaText(status + "exn_screen_check" + screen
                + ",\n    @Cast(\"exn_screen_info*\") long info);"));
    String pack = "(@Cast(\"const exn_pack_params*\") long params";
    map.put(new Info("exn_pack_size")
            .javaText(status + "exn_pack_size" + pack + ", @Cast(\"size_t*\") long[] bytes);"));
    map.put(new Info("exn_pack_build").javaText(status + "exn_pack_build" + pack + ");"));
    map.put(new Info("exn_pack_check")
            .javaText(
                status + "exn_pack_check" + pack + ",\n    @Cast(\"exn_pack_info*\") long info);"));
    String mapping = "(@Cast(\"const void*\") long begin";
    map.put(new Info("exn_mapping_guard")
            .javaText(status + "exn_mapping_guard" + mapping + ", @Cast(\"size_t\") long bytes);"));
    map.put(new Info("exn_mapping_check").javaText(status + "exn_mapping_check" + mapping + ");"));
    map.put(
        new Info("exn_mapping_release").javaText(status + "exn_mapping_release" + mapping + ");"));
    map.put(new Info("exn_read_probe")
            .javaText(status
                + "exn_read_probe(@Cast(\"const void*\") long data, @Cast(\"size_t\") long"
                + " bytes,\n"
                + "    int way, @Cast(\"uint64_t*\") long[] checksum);"));
    map.put(new Info("exn_copy_probe")
            .javaText(status
                + "exn_copy_probe(@Cast(\"void*\") long dst, @Cast(\"const void*\") long src,\n"
                + "    @Cast(\"size_t\") long bytes, int way);"));
    map.put(new Info("exn_fma_probe")
            .javaText(status + "exn_fma_probe(@Cast(\"uint64_t\") long multiplyAdds,\n"
                + "    @Cast(\"uint64_t*\") long[] done);"));
  }
}
