// SPDX-License-Identifier: Apache-2.0
package com.github.tjake.jlama.tensor;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.safetensors.Config;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;

/**
 * Jlama's cache of keys and values, but in one piece of memory for each session, which grows, so
 * that a layer's slots lie side by side as exeunt's ops want them; Jlama's pages are mapped files
 * of 8 MB, each with a part of the context. When an answer is done, its session moves to a file as
 * it does in Jlama. In this package, since Jlama makes its buffers here alone.
 */
public final class GrowingCache extends KvBufferCache {
  private static final int LEAST = 256;

  private final Config config;
  private final Map<UUID, Buffer> buffers = new ConcurrentHashMap<>();

  /**
   * An empty cache.
   *
   * @param model whose layers it serves; F32
   */
  public GrowingCache(AbstractModel model) {
    super(model);
    config = model.getConfig();
  }

  @Override
  public KvBuffer getKvBuffer(UUID session) {
    return buffers.computeIfAbsent(session, id -> new Buffer(id, false));
  }

  @Override
  public KvBuffer getEphemeralKvBuffer() {
    return new Buffer(UUID.randomUUID(), true);
  }

  @Override
  public void close() {
    buffers.values().forEach(Buffer::drop);
    buffers.clear();
  }

  /** The keys and values of one session. One thread at a time. */
  public final class Buffer extends KvBuffer {
    private final boolean ephemeral;
    private Scope scope; // null: no memory
    private Tensor memory;
    private int used;
    private int generation;
    private Path file; // null: nothing was written

    private Buffer(UUID session, boolean ephemeral) {
      super(session, 1 << 23, ephemeral); // Jlama's pages, of which none is ever made
      this.ephemeral = ephemeral;
    }

    /**
     * Makes room, and memory of what was written to a file.
     *
     * @param positions how many will be in use
     * @return keys and values, F32 [layers, 2, at least {@code positions}, Hkv, dh]; another tensor
     *     when {@link #generation} is another number
     */
    public Tensor reserve(int positions) {
      if (scope == null || memory.size(2) < positions) {
        int capacity = LEAST;
        while (capacity < Math.max(positions, used)) {
          capacity *= 2;
        }
        Scope larger = Scope.open();
        Tensor target = larger.allocate(Device.CPU, DType.F32, config.numberOfLayers, 2,
            Math.min(capacity, config.contextLength), config.numberOfKeyValueHeads,
            config.headSize);
        if (scope != null) {
          for (int part = 0; part < parts(); part++) {
            used(target, part).copyFrom(used(memory, part), Stream.DEFAULT);
          }
          scope.close();
        }
        scope = larger;
        memory = target;
        generation++;
        if (file != null) {
          move(false);
        }
      }
      used = Math.max(used, positions);
      return memory;
    }

    /**
     * Which memory it is.
     *
     * @return another number after each change
     */
    public int generation() {
      return generation;
    }

    private int parts() {
      return 2 * config.numberOfLayers;
    }

    /** The slots in use of a layer's keys (even) or values (odd). */
    private Tensor used(Tensor of, int part) {
      return of.row(part / 2).row(part % 2).rows(0, used);
    }

    /** To the file, or from it, which is gone then. */
    private void move(boolean out) {
      try {
        try (FileChannel channel =
                 FileChannel.open(file, out ? StandardOpenOption.WRITE : StandardOpenOption.READ)) {
          for (int part = 0; part < parts(); part++) {
            ByteBuffer bytes = used(memory, part).byteBuffer();
            while (bytes.hasRemaining()) {
              if ((out ? channel.write(bytes) : channel.read(bytes)) < 0) {
                throw new IOException(file + " ends early");
              }
            }
          }
        }
        if (!out) {
          Files.delete(file);
          file = null;
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }

    /** After an answer. The session may go on. */
    @Override
    public void close() {
      if (scope == null) {
        return;
      }
      if (!ephemeral && used > 0) {
        try {
          file = config.workingDirectory().isPresent()
              ? Files.createTempFile(config.workingDirectory().get().toPath(), "kv", ".session")
              : Files.createTempFile("kv", ".session");
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
        move(true);
      }
      scope.close();
      scope = null;
      memory = null;
      generation++;
    }

    private void drop() {
      used = 0;
      close();
      if (file != null) {
        try {
          Files.deleteIfExists(file);
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
        file = null;
      }
    }

    private AbstractTensor slots(int layer, int index) {
      Tensor slots = memory.row(layer).row(index);
      return new FloatBufferTensor(
          slots.floatBuffer(), TensorShape.of((int) slots.size(0), config.kvLength), false);
    }

    @Override
    public AbstractTensor getKeyTensorForPosition(int layer, int position) {
      return getKeyTensorsUptoPosition(layer, position)[0].slice(position);
    }

    @Override
    public AbstractTensor getValTensorForPosition(int layer, int position) {
      return getValTensorsUptoPosition(layer, position)[0].slice(position);
    }

    @Override
    public AbstractTensor[] getKeyTensorsUptoPosition(int layer, int position) {
      reserve(position + 1);
      return new AbstractTensor[] {slots(layer, 0)};
    }

    @Override
    public AbstractTensor[] getValTensorsUptoPosition(int layer, int position) {
      reserve(position + 1);
      return new AbstractTensor[] {slots(layer, 1)};
    }
  }
}
