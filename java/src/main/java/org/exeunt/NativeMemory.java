// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Native memory that the tensors, ops and workspaces of this process hold, on the host and on
 * devices. Memory of others that tensors were made of, and mapped files, do not count. {@link
 * Scope#allocatedBytes()} tells what a single scope has, {@link Op#workspaceBytes()} what an op
 * needs, {@link Workspace#bytes()} what a workspace that is shared holds.
 *
 * <p>The event {@code org.exeunt.NativeMemory} of JDK Flight Recorder has the same numbers.
 *
 * @param tensors bytes of the tensors that scopes allocated
 * @param workspaces bytes of scratch memory: of ops and of {@link Workspace}s
 * @param arguments bytes of the blocks in which ops keep their arguments
 * @param scopes open scopes that own something, a tensor or an op
 */
public record NativeMemory(long tensors, long workspaces, long arguments, long scopes) {
  /**
   * What is held now. May be called from any thread; numbers that others change meanwhile may be of
   * different moments.
   *
   * @return all 0 when every scope, and every op that has none, is closed
   */
  public static NativeMemory held() {
    return new NativeMemory(Memory.Use.TENSOR.held(), Memory.Use.WORKSPACE.held(),
        Memory.Use.ARGUMENTS.held(), Scope.owning());
  }

  /**
   * All bytes together.
   *
   * @return the same as {@link Backend#heldBytes()}
   */
  public long total() {
    return tensors + workspaces + arguments;
  }
}
