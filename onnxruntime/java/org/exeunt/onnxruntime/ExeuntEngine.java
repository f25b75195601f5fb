// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.djl.Device;
import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.ndarray.NDManager;

/**
 * DJL's ONNX Runtime on exeunt, under a name of its own, so that whatever takes the name of an
 * engine takes exeunt: {@code Criteria}, {@code Model.newInstance}, a {@code serving.properties}.
 *
 * <pre>{@code
 * Criteria<NDList, NDList> criteria = Criteria.builder()
 *     .setTypes(NDList.class, NDList.class)
 *     .optModelPath(Path.of("model.onnx"))
 *     .optEngine(ExeuntEngine.NAME)
 *     .build();
 * }</pre>
 *
 * <p>Arrays and options are those of DJL's engine {@code OnnxRuntime}, which the class path needs
 * ({@code ai.djl.onnxruntime:onnxruntime-engine}). Options of a model that begin with {@code exeunt.}
 * are the provider's: {@code exeunt.threads}, {@code exeunt.report}, {@code exeunt.f32}.
 */
public final class ExeuntEngine extends Engine {
  /** The name of the engine. */
  public static final String NAME = "Exeunt";

  static final int RANK = Integer.MAX_VALUE; // never the default
  private static final String BASE = "OnnxRuntime";

  ExeuntEngine() {}

  private static Engine base() {
    return Engine.getEngine(BASE);
  }

  @Override
  public Engine getAlternativeEngine() {
    return base().getAlternativeEngine();
  }

  @Override
  public String getEngineName() {
    return NAME;
  }

  @Override
  public int getRank() {
    return RANK;
  }

  @Override
  public String getVersion() {
    return base().getVersion();
  }

  /** None of those that DJL asks for: exeunt's provider is for the CPU. */
  @Override
  public boolean hasCapability(String capability) {
    return false;
  }

  @Override
  public Model newModel(String name, Device device) {
    return new ExeuntModel(base().newModel(name, device == null ? defaultDevice() : device));
  }

  @Override
  public NDManager newBaseManager() {
    return newBaseManager(null);
  }

  @Override
  public NDManager newBaseManager(Device device) {
    return base().newBaseManager(device == null ? defaultDevice() : device);
  }

  @Override
  public String toString() {
    return NAME + " on " + base();
  }
}
