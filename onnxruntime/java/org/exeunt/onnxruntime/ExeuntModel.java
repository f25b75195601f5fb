// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.djl.BaseModel;
import ai.djl.MalformedModelException;
import ai.djl.Model;
import ai.djl.engine.EngineException;
import ai.djl.nn.Block;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** A model of DJL's ONNX Runtime, to whose session the provider is added when it is loaded. */
final class ExeuntModel extends BaseModel {
  private static final String SESSION_OPTIONS = "sessionOptions";
  private static final String PREFIX = "exeunt.";

  private final Model base;

  ExeuntModel(Model base) {
    super(base.getName());
    this.base = base;
    manager = base.getNDManager();
    dataType = base.getDataType();
  }

  private interface Loading {
    void load(Map<String, Object> options) throws IOException, MalformedModelException;
  }

  @Override
  public void load(Path modelPath, String prefix, Map<String, ?> options)
      throws IOException, MalformedModelException {
    load(options, all -> base.load(modelPath, prefix, all));
  }

  @Override
  public void load(InputStream in, Map<String, ?> options)
      throws IOException, MalformedModelException {
    load(options, all -> base.load(in, all));
  }

  private void load(Map<String, ?> options, Loading loading)
      throws IOException, MalformedModelException {
    Map<String, Object> all = new HashMap<>();
    ExeuntProvider provider = ExeuntProvider.configure();
    if (options != null) {
      options.forEach((name, value) -> {
        if (name.startsWith(PREFIX)) {
          provider.option(name.substring(PREFIX.length()), String.valueOf(value));
        } else {
          all.put(name, value);
        }
      });
    }
    // The session keeps what it takes of them.
    try (OrtSession.SessionOptions own = new OrtSession.SessionOptions()) {
      own.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR); // it warns of nodes we leave
      all.putIfAbsent(SESSION_OPTIONS, own);
      provider.add((OrtSession.SessionOptions) all.get(SESSION_OPTIONS));
      loading.load(all);
    } catch (OrtException e) {
      throw new EngineException(e.getMessage(), e);
    }
    modelDir = base.getModelPath();
    modelName = base.getName();
    block = base.getBlock();
    wasLoaded = true;
  }

  /** Before the load ONNX Runtime refuses it, in its words. */
  @Override
  public void setBlock(Block block) {
    base.setBlock(block);
    super.setBlock(block);
  }

  @Override
  public void close() {
    base.close();
  }
}
