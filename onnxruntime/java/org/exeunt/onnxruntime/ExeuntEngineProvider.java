// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.djl.engine.Engine;
import ai.djl.engine.EngineProvider;

/** Tells DJL, which looks for such services, of the {@link ExeuntEngine}. */
public final class ExeuntEngineProvider implements EngineProvider {
  /** For DJL. */
  public ExeuntEngineProvider() {}

  @Override
  public String getEngineName() {
    return ExeuntEngine.NAME;
  }

  @Override
  public int getEngineRank() {
    return ExeuntEngine.RANK;
  }

  @Override
  public Engine getEngine() {
    return Holder.ENGINE;
  }

  private static final class Holder {
    static final Engine ENGINE = new ExeuntEngine();
  }
}
