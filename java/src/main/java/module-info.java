// SPDX-License-Identifier: Apache-2.0
/** Early-exit transformer kernels for the JVM. */
module org.exeunt {
  requires transitive org.bytedeco.javacpp;
  requires org.exeunt.jni;
  requires static jdk.jfr;
  requires static org.jspecify;

  exports org.exeunt;
}
