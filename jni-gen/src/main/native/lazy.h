// SPDX-License-Identifier: Apache-2.0
//
// Included by what JavaCPP generates, whose JNI_OnLoad initialises JavaCPP's Pointer: two thirds of
// the time from the start of a JVM to the first op. No function of the C ABI needs it, so the JVM
// finds none here, and it waits for the first struct (Direct.java).
#ifndef EXEUNT_JNI_LAZY_H
#define EXEUNT_JNI_LAZY_H

// The tables are JavaCPP's, and known where its function begins.
#define JNI_OnLoad(vm_argument, reserved_argument)                                                \
  exn_structs_on_load(JavaVM* vm, void* reserved);                                                \
  JNIEXPORT jint JNICALL Java_org_exeunt_presets_Direct_offset(JNIEnv* env, jclass, jstring type, \
                                                               jstring name) {                    \
    const char* t = env->GetStringUTFChars(type, nullptr);                                        \
    const char* n = t == nullptr ? nullptr : env->GetStringUTFChars(name, nullptr);               \
    jint found = -1;                                                                              \
    constexpr int kClasses = sizeof(JavaCPP_classNames) / sizeof(JavaCPP_classNames[0]);          \
    for (int i = 0; n != nullptr && i < kClasses; ++i) {                                          \
      if (strcmp(JavaCPP_classNames[i], t) != 0) continue;                                        \
      for (int j = 0; j < JavaCPP_memberOffsetSizes[i]; ++j) {                                    \
        const char* member = JavaCPP_members[i][j];                                               \
        if (member != nullptr && strcmp(member, n) == 0) found = JavaCPP_offsets[i][j];           \
      }                                                                                           \
    }                                                                                             \
    if (n != nullptr) env->ReleaseStringUTFChars(name, n);                                        \
    if (t != nullptr) env->ReleaseStringUTFChars(type, t);                                        \
    return found;                                                                                 \
  }                                                                                               \
  JNIEXPORT jboolean JNICALL Java_org_exeunt_presets_Direct_structs(JNIEnv* env, jclass) {        \
    JavaVM* vm = nullptr;                                                                         \
    return env->GetJavaVM(&vm) == JNI_OK && exn_structs_on_load(vm, nullptr) != JNI_ERR;          \
  }                                                                                               \
  JNIEXPORT jobject JNICALL Java_org_exeunt_presets_Direct_view(JNIEnv* env, jclass,              \
                                                                jlong address, jlong bytes) {     \
    return env->NewDirectByteBuffer((void*)address, bytes);                                       \
  }                                                                                               \
  JNIEXPORT jlong JNICALL Java_org_exeunt_presets_Direct_address(JNIEnv* env, jclass,             \
                                                                 jobject buffer) {                \
    return (jlong)env->GetDirectBufferAddress(buffer);                                            \
  }                                                                                               \
  JNIEXPORT jlong JNICALL Java_org_exeunt_presets_Direct_length(JNIEnv*, jclass, jlong text) {    \
    return (jlong)strlen((const char*)text);                                                      \
  }                                                                                               \
  JNIEXPORT jint JNICALL exn_structs_on_load(vm_argument, reserved_argument)

#endif
