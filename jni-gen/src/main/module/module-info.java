// SPDX-License-Identifier: Apache-2.0
/** The generated JavaCPP binding of exeunt's C ABI. Programs use the module {@code org.exeunt}. */
module org.exeunt.jni {
  requires transitive org.bytedeco.javacpp;

  exports org.exeunt.jni;
  exports org.exeunt.jni.global;
  exports org.exeunt.presets;

  uses org.exeunt.presets.Natives;
}
