// SPDX-License-Identifier: Apache-2.0
package org.exeunt.presets;

/**
 * Provided by each module that holds native libraries (such as {@code
 * org.exeunt.jni.linux.x86_64}), and used by {@code org.exeunt.jni}: so the module system resolves
 * those on the module path for whoever requires the binding, without {@code --add-modules}. Nothing
 * asks for a provider; libraries are found as resources.
 */
public interface Natives {}
