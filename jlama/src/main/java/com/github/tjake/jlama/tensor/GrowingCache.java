// SPDX-License-Identifier: Apache-2.0
package com.github.tjake.jlama.tensor;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.safetensors.Config;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Jlama's cache of keys and values, but in one piece of memory for each session, which grows, so
 * that a layer's slots lie side by side as exeunt's ops want them; Jlama's pages are mapped files
 * of 8 MB, each with a part of the context. When an answer is done, its session moves to a file as
 * it does in Jlama. That file has no name: it is gone with this cache, or with the process, however
 * that ends. In this package, since Jlama makes its buffers here alone.
 */
public final class GrowingCache extends KvBufferCache {
  private static final Logger LOG = LoggerFactory.getLogger(GrowingCache.class);
  private static final int LEAST = 256;

  private final Config config;
  private final Map<UUID, Buffer> buffers = new ConcurrentHashMap<>();
  private volatile boolean closed;

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

  /** Forgets all sessions. One that is answering, in another thread, ends with an exception. */
  @Override
  public void close() {
    closed = true;
    buffers.values().forEach(Buffer::drop);
    buffers.clear();
  }

  /**
   * The keys and values of one session. One thread at a time uses them; the cache may be closed in
   * another.
   */
  public final class Buffer extends KvBuffer {
    private final boolean ephemeral;
    private Scope scope; // null: no memory
    private Tensor memory;
    private int used;
    private int generation;
    private RandomAccessFile file; // null: nothing was written; no channel, which interrupts close

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
     * @throws IllegalStateException if the cache is closed
     */
    public synchronized Tensor reserve(int positions) {
      if (closed) {
        throw new IllegalStateException("the model of this session is closed");
      }
      if (scope == null || memory.size(2) < positions) {
        int capacity = LEAST;
        while (capacity < Math.max(positions, used)) {
          capacity *= 2;
        }
        Scope larger = Scope.open();
        Tensor target;
        try {
          target = larger.allocate(Device.CPU, DType.F32, config.numberOfLayers, 2,
              Math.min(capacity, config.contextLength), config.numberOfKeyValueHeads,
              config.headSize);
          for (int part = 0; scope != null && part < parts(); part++) {
            used(target, part).copyFrom(used(memory, part), Stream.DEFAULT);
          }
          if (file != null) {
            file.seek(0);
            move(file, target, false);
          }
        } catch (IOException e) {
          larger.close();
          throw new UncheckedIOException(e);
        } catch (RuntimeException | Error e) {
          larger.close();
          throw e;
        }
        free();
        forget();
        scope = larger;
        memory = target;
      }
      used = Math.max(used, positions);
      return memory;
    }

    /**
     * Which memory it is.
     *
     * @return another number after each change
     */
    public synchronized int generation() {
      return generation;
    }

    private int parts() {
      return 2 * config.numberOfLayers;
    }

    /** The slots in use of a layer's keys (even) or values (odd). */
    private Tensor used(Tensor of, int part) {
      return of.row(part / 2).row(part % 2).rows(0, used);
    }

    /** All that is in use, to a file or from it. */
    private void move(RandomAccessFile other, Tensor of, boolean out) throws IOException {
      byte[] piece = new byte[1 << 16];
      for (int part = 0; part < parts(); part++) {
        ByteBuffer bytes = used(of, part).byteBuffer();
        while (bytes.hasRemaining()) {
          int count = Math.min(piece.length, bytes.remaining());
          if (out) {
            bytes.get(piece, 0, count);
            other.write(piece, 0, count);
          } else {
            other.readFully(piece, 0, count);
            bytes.put(piece, 0, count);
          }
        }
      }
    }

    /** After an answer. The session may go on. */
    @Override
    public synchronized void close() {
      if (scope == null) {
        return;
      }
      if (!ephemeral && used > 0) {
        try {
          file = written();
        } catch (IOException e) {
          LOG.warn("a session's keys and values stay in memory: {}", e.toString());
          return;
        }
      }
      free();
    }

    /** A file without a name, which the system removes when it is closed, by whomever. */
    private RandomAccessFile written() throws IOException {
      Path path = config.workingDirectory().isPresent()
          ? Files.createTempFile(config.workingDirectory().get().toPath(), "kv", ".session")
          : Files.createTempFile("kv", ".session");
      RandomAccessFile target;
      try {
        target = new RandomAccessFile(path.toFile(), "rw");
      } finally {
        Files.delete(path);
      }
      try {
        move(target, memory, true);
        return target;
      } catch (IOException | RuntimeException | Error e) {
        target.close();
        throw e;
      }
    }

    /** The memory, in which nothing runs. */
    private void free() {
      if (scope != null) {
        scope.close();
        scope = null;
        memory = null;
      }
      generation++;
    }

    private void forget() {
      if (file != null) {
        try {
          file.close();
        } catch (IOException e) {
          LOG.warn("the file of a session's keys and values: {}", e.toString());
        }
        file = null;
      }
    }

    private synchronized void drop() {
      forget();
      free();
    }

    private AbstractTensor slots(int layer, int index, int positions) {
      Tensor slots = reserve(positions).row(layer).row(index);
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
      return new AbstractTensor[] {slots(layer, 0, position + 1)};
    }

    @Override
    public AbstractTensor[] getValTensorsUptoPosition(int layer, int position) {
      return new AbstractTensor[] {slots(layer, 1, position + 1)};
    }
  }
}
