// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.lang.ref.Reference;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;
import java.util.Arrays;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.jni.DLTensor;
import org.exeunt.presets.Direct;

/**
 * An immutable view of memory: address, element type, shape, strides, device, and what keeps the
 * memory alive. Only the elements may change.
 *
 * <p>Addresses need the alignment of one element; 64-byte aligned rows take the fastest path.
 * Strides count elements. "Compact" means row-major without gaps.
 *
 * <p>Lifetime: a tensor allocated by a {@link Scope} lives until the scope closes; a tensor over a
 * direct buffer or a JavaCPP {@code Pointer} keeps that object reachable; a raw address is the
 * caller's word.
 *
 * <p>A pointer that is closed, itself or with its {@code PointerScope}, while ops or copies use its
 * memory is freed when the last of them has returned; those that come later throw an {@link
 * IllegalStateException}. On CUDA they have returned before the work is done: synchronise first.
 * Nothing helps where memory is freed past JavaCPP's count of references: by {@code deallocate()},
 * by closing a pointer again and again, or where the pointer never owned it. Order those after the
 * runs.
 *
 * <p>Thread-safe as a view. No two concurrent runs may write one tensor, or one write what the
 * other reads.
 */
public final class Tensor {
  /** Of a DLPack tensor: more than any framework has. */
  private static final int MOST_DIMENSIONS = 64;

  private final long address;
  private final DType dtype;
  private final long[] shape;
  private final long[] strides;
  private final Device device;
  private final Scope scope;
  private final Object owner;
  private final Held held; // of a JavaCPP pointer; null for other owners
  private volatile Buffer elements; // see inPlace(); its position means nothing

  Tensor(long address, DType dtype, long[] shape, long[] strides, Device device, Scope scope,
      Object owner) {
    this(address, dtype, shape, strides, device, scope, owner, Held.of(owner));
  }

  private Tensor(long address, DType dtype, long[] shape, long[] strides, Device device,
      Scope scope, Object owner, Held held) {
    this.address = address;
    this.dtype = Named.present("dtype", dtype);
    this.shape = shape;
    this.strides = strides;
    this.device = Named.present("device", device);
    this.scope = scope;
    this.owner = owner;
    this.held = held;
  }

  // ---- factories --------------------------------------------------------------------------------

  /**
   * A view of a direct buffer from its position on: F32 for a {@code FloatBuffer}, F64 for a {@code
   * DoubleBuffer}, I32 for an {@code IntBuffer}, I64 for a {@code LongBuffer}, U8 for a {@code
   * ByteBuffer}. A {@code ShortBuffer} may hold F16 or BF16: use {@link #of(Buffer, DType,
   * long...)}.
   *
   * @param buffer a direct buffer in native byte order; kept reachable. A read-only one makes the
   *     tensor {@link #isReadOnly read-only}
   * @param shape extents
   * @return the view
   * @throws IllegalArgumentException if the buffer is not direct, too short, or in the other byte
   *     order
   */
  public static Tensor of(Buffer buffer, long... shape) {
    return of(buffer, naturalType(buffer), shape);
  }

  /**
   * A view of a direct buffer from its position on.
   *
   * @param buffer a direct buffer in native byte order (a {@code ByteBuffer}'s order does not
   *     matter); kept reachable. A read-only one makes the tensor {@link #isReadOnly read-only}
   * @param dtype element type; a {@code ByteBuffer} may hold any, other buffers those of their
   *     width
   * @param shape extents
   * @return the view
   * @throws IllegalArgumentException if the buffer is not direct, too short, of another width, or
   *     in the other byte order
   */
  public static Tensor of(Buffer buffer, DType dtype, long... shape) {
    Native.require();
    Named.present("buffer", buffer);
    Named.present("dtype", dtype);
    if (!buffer.isDirect()) {
      throw new IllegalArgumentException("buffer: " + buffer.getClass().getSimpleName()
          + " is on the heap, a direct buffer is needed");
    }
    int width = elementBytes(buffer);
    if (width != 1 && width != dtype.bytes()) {
      throw new IllegalArgumentException("buffer: elements of " + width + " bytes cannot hold "
          + dtype + " of " + dtype.bytes() + " bytes");
    }
    if (width != 1 && order(buffer) != ByteOrder.nativeOrder()) {
      throw new IllegalArgumentException("buffer: byte order " + order(buffer)
          + ", but this machine's is " + ByteOrder.nativeOrder());
    }
    long needed = byteSize(dtype, shape);
    long present = (long) buffer.remaining() * width;
    if (present < needed) {
      throw new IllegalArgumentException("buffer: " + present + " bytes remain, but shape "
          + Arrays.toString(shape) + " of " + dtype + " needs " + needed);
    }
    long address = Direct.address(buffer) + (long) buffer.position() * width;
    return new Tensor(
        address, dtype, shape.clone(), compactStrides(shape), Device.CPU, null, buffer);
  }

  /**
   * A view of memory that a JavaCPP pointer points at, from its position on: host memory, or device
   * memory allocated through another binding such as {@code org.bytedeco:cuda}.
   *
   * @param pointer kept reachable, and its memory while an op or a copy runs; one whose references
   *     no one counts yet is counted from here on ({@code referenceCount()} becomes 1), which
   *     {@code close()} gives back
   * @param dtype element type
   * @param device where the memory lies
   * @param shape extents; not checked against the pointer's capacity if that is 0 (unknown)
   * @return the view
   * @throws IllegalArgumentException if the pointer is null or its remaining elements are too few
   */
  public static Tensor of(Pointer pointer, DType dtype, Device device, long... shape) {
    Native.require();
    if (pointer == null || pointer.isNull()) {
      throw new IllegalArgumentException("pointer: null");
    }
    long needed = byteSize(dtype, shape);
    long width = pointer.capacity() > 0 || pointer.position() != 0 ? pointer.sizeof() : 1;
    long present = (pointer.limit() - pointer.position()) * width;
    if (pointer.capacity() > 0 && present < needed) {
      throw new IllegalArgumentException("pointer: " + present + " bytes remain, but shape "
          + Arrays.toString(shape) + " of " + dtype + " needs " + needed);
    }
    long address = pointer.address() + pointer.position() * width;
    return new Tensor(address, dtype, shape.clone(), compactStrides(shape), device, null, pointer);
  }

  /**
   * A compact view of a raw address. Nothing is checked: a wrong address or shape may crash the
   * process.
   *
   * @param address of the first element
   * @param dtype element type
   * @param device where the memory lies
   * @param shape extents
   * @return the view
   */
  public static Tensor ofAddress(long address, DType dtype, Device device, long... shape) {
    return ofAddress(address, null, dtype, device, shape);
  }

  /**
   * A compact view of a raw address that keeps an object reachable.
   *
   * @param address of the first element
   * @param owner what owns the memory, such as a mapped file's object; kept reachable
   * @param dtype element type
   * @param device where the memory lies
   * @param shape extents
   * @return the view
   */
  public static Tensor ofAddress(
      long address, Object owner, DType dtype, Device device, long... shape) {
    long[] strides = compactStrides(shape);
    return new Tensor(address, dtype, shape.clone(), strides, device, null, owner);
  }

  /**
   * A view of what a DLPack {@code DLTensor} describes. The struct is read now and not kept; its
   * memory must stay alive.
   *
   * @param dlTensor pointer to a {@code DLTensor} in host memory (for a {@code DLManagedTensor}:
   *     its first field)
   * @return the view
   * @throws IllegalArgumentException if its dtype or device has no counterpart here, or its rank or
   *     an extent makes no sense
   */
  public static Tensor ofDlpack(Pointer dlTensor) {
    Native.require();
    if (dlTensor == null || dlTensor.isNull()) {
      throw new IllegalArgumentException("dlTensor: null");
    }
    DLTensor dl = new DLTensor(dlTensor);
    int rank = dl.ndim();
    if (rank < 0 || rank > MOST_DIMENSIONS) {
      throw new IllegalArgumentException(
          "dlTensor: rank " + rank + ", expected 0 to " + MOST_DIMENSIONS);
    }
    if (rank > 0 && dl.shape() == null) {
      throw new IllegalArgumentException("dlTensor: shape is null, but the rank is " + rank);
    }
    long[] shape = new long[rank];
    long[] strides = new long[rank];
    if (rank > 0) {
      dl.shape().get(shape);
    }
    elements(shape); // refuses extents that make no sense
    if (dl.strides() == null) {
      strides = compactStrides(shape);
    } else if (rank > 0) {
      dl.strides().get(strides);
    }
    Pointer data = dl.data();
    return new Tensor((data == null ? 0 : data.address()) + dl.byte_offset(),
        DType.of(dl.dtype().code(), dl.dtype().bits() & 0xff, dl.dtype().lanes()), shape, strides,
        new Device(Backend.ofDlpack(dl.device().device_type()), dl.device().device_id()), null,
        null);
  }

  /**
   * A view of what a DLPack {@code DLTensor} at a raw address describes. The struct is read now and
   * not kept.
   *
   * @param dlTensor address of a {@code DLTensor} in host memory
   * @return the view
   * @throws IllegalArgumentException as {@link #ofDlpack(Pointer)}
   */
  public static Tensor ofDlpack(long dlTensor) {
    return ofDlpack(new Memory.Address(dlTensor, 0));
  }

  // ---- properties -------------------------------------------------------------------------------

  /**
   * Address of the first element.
   *
   * @return host or device address
   */
  public long address() {
    return address;
  }

  /**
   * Element type.
   *
   * @return the dtype
   */
  public DType dtype() {
    return dtype;
  }

  /**
   * Where the memory lies.
   *
   * @return the device
   */
  public Device device() {
    return device;
  }

  /**
   * Number of dimensions.
   *
   * @return 0 for a scalar
   */
  public int rank() {
    return shape.length;
  }

  /**
   * All extents.
   *
   * @return a copy
   */
  public long[] shape() {
    return shape.clone();
  }

  /**
   * One extent.
   *
   * @param dimension 0 to {@code rank() - 1}
   * @return its extent
   * @throws IndexOutOfBoundsException if there is no such dimension
   */
  public long size(int dimension) {
    if (dimension < 0 || dimension >= shape.length) {
      throw new IndexOutOfBoundsException(
          "dimension " + dimension + " of a tensor of rank " + shape.length);
    }
    return shape[dimension];
  }

  /**
   * All strides.
   *
   * @return a copy, in elements
   */
  public long[] strides() {
    return strides.clone();
  }

  /**
   * Number of elements.
   *
   * @return the product of the extents
   */
  public long elements() {
    return elements(shape);
  }

  /**
   * Bytes of all elements, gaps not counted.
   *
   * @return {@code elements() * dtype().bytes()}
   */
  public long byteSize() {
    return elements() * dtype.bytes();
  }

  /**
   * Whether the elements are row-major without gaps.
   *
   * @return true if compact; strides of an extent of 1 and of an empty tensor do not matter
   */
  public boolean isCompact() {
    if (elements() == 0) {
      return true;
    }
    long expected = 1;
    for (int i = shape.length - 1; i >= 0; i--) {
      if (shape[i] > 1 && strides[i] != expected) {
        return false;
      }
      expected *= shape[i];
    }
    return true;
  }

  /**
   * Whether nothing may write the elements: the tensor, or the one it is a view of, was made from a
   * read-only buffer, such as that of a file mapped for reading.
   *
   * @return true if {@link #copyFrom} and ops that would write this tensor refuse it with an {@link
   *     IllegalArgumentException}
   */
  public boolean isReadOnly() {
    return owner instanceof Buffer buffer && buffer.isReadOnly();
  }

  /**
   * Whether the memory is still there as far as can be known: its scope is open, its pointer was
   * not closed.
   *
   * @return false if ops would refuse this tensor
   */
  public boolean isAlive() {
    return (scope == null || scope.isOpen()) && (held == null || held.isOpen());
  }

  // ---- views ------------------------------------------------------------------------------------

  /**
   * Rows {@code from} to {@code to - 1} of the first dimension.
   *
   * @param from first row
   * @param to one past the last row; may be {@code from}
   * @return a view of the same memory, same rank
   * @throws IndexOutOfBoundsException if not {@code 0 <= from <= to <= size(0)}
   */
  public Tensor rows(long from, long to) {
    return slice(0, from, to);
  }

  /**
   * One row: index {@code row} of the first dimension, which is dropped.
   *
   * @param row its index
   * @return a view of the same memory, rank one less
   * @throws IndexOutOfBoundsException if not {@code 0 <= row < size(0)}
   */
  public Tensor row(long row) {
    if (row < 0 || row >= size(0)) {
      throw new IndexOutOfBoundsException("row " + row + " of a tensor with " + size(0) + " rows");
    }
    Tensor one = slice(0, row, row + 1);
    int rank = shape.length;
    return with(
        one.address, Arrays.copyOfRange(shape, 1, rank), Arrays.copyOfRange(strides, 1, rank));
  }

  /**
   * Part of one dimension.
   *
   * @param dimension which
   * @param from first index
   * @param to one past the last index; may be {@code from}
   * @return a view of the same memory, same rank
   * @throws IndexOutOfBoundsException if dimension or indices are out of range
   */
  public Tensor slice(int dimension, long from, long to) {
    long extent = size(dimension);
    if (from < 0 || from > to || to > extent) {
      throw new IndexOutOfBoundsException(
          "slice " + from + ".." + to + " of dimension " + dimension + " with extent " + extent);
    }
    long[] extents = shape.clone();
    extents[dimension] = to - from;
    return with(address + from * strides[dimension] * dtype.bytes(), extents, strides);
  }

  /**
   * The same elements in another shape.
   *
   * @param extents new extents
   * @return a compact view of the same memory
   * @throws IllegalArgumentException if the number of elements differs
   * @throws UnsupportedOperationException if this tensor is not compact
   */
  public Tensor reshape(long... extents) {
    requireCompact("reshape");
    if (elements(extents) != elements()) {
      throw new IllegalArgumentException("reshape: " + Arrays.toString(extents) + " has "
          + elements(extents) + " elements, " + Arrays.toString(shape) + " has " + elements());
    }
    return with(address, extents.clone(), compactStrides(extents));
  }

  /**
   * Part of this tensor's bytes as another dtype, such as one tensor of a mapped file.
   *
   * @param type its element type
   * @param byteOffset of its first element from this tensor's first byte
   * @param extents its shape; compact
   * @return a view of the same memory
   * @throws IndexOutOfBoundsException if it does not lie inside this tensor
   * @throws UnsupportedOperationException if this tensor is not compact
   */
  public Tensor reinterpret(DType type, long byteOffset, long... extents) {
    requireCompact("reinterpret");
    long size = byteSize(type, extents);
    if (byteOffset < 0 || size > byteSize() - byteOffset) {
      throw new IndexOutOfBoundsException(
          "reinterpret: " + size + " bytes at " + byteOffset + " of a tensor of " + byteSize());
    }
    return new Tensor(address + byteOffset, type, extents.clone(), compactStrides(extents), device,
        scope, owner, held);
  }

  /**
   * The same memory with other extents and strides. Not checked against the memory's size: a wrong
   * stride may crash the process.
   *
   * @param extents new extents
   * @param steps new strides in elements, one for each extent
   * @return a view of the same memory
   * @throws IllegalArgumentException if the two have different lengths
   */
  public Tensor strided(long[] extents, long[] steps) {
    Named.present("extents", extents);
    Named.present("steps", steps);
    if (extents.length != steps.length) {
      throw new IllegalArgumentException(
          "strided: " + extents.length + " extents, but " + steps.length + " strides");
    }
    elements(extents);
    return with(address, extents.clone(), steps.clone());
  }

  private Tensor with(long at, long[] extents, long[] steps) {
    return new Tensor(at, dtype, extents, steps, device, scope, owner, held);
  }

  // ---- host access ------------------------------------------------------------------------------

  /**
   * A buffer over a compact CPU tensor. It does not keep the memory alive: do not touch it after
   * the scope's close.
   *
   * @return a direct buffer in native byte order; read-only if {@link #isReadOnly} says so
   * @throws UnsupportedOperationException if not on the CPU, not compact, or over 2 GiB
   * @throws IllegalStateException if the scope is closed
   */
  public ByteBuffer byteBuffer() {
    requireCpu("byteBuffer");
    requireCompact("byteBuffer");
    acquire();
    try {
      ByteBuffer bytes = Memory.view(address, byteSize());
      return isReadOnly() ? bytes.asReadOnlyBuffer().order(bytes.order()) : bytes;
    } finally {
      release();
    }
  }

  /**
   * A buffer over a compact F32 CPU tensor; see {@link #byteBuffer()}.
   *
   * @return its elements
   */
  public FloatBuffer floatBuffer() {
    requireType("floatBuffer", DType.F32);
    return byteBuffer().asFloatBuffer();
  }

  /**
   * A buffer over a compact F64 CPU tensor; see {@link #byteBuffer()}.
   *
   * @return its elements
   */
  public DoubleBuffer doubleBuffer() {
    requireType("doubleBuffer", DType.F64);
    return byteBuffer().asDoubleBuffer();
  }

  /**
   * A buffer over a compact I32 CPU tensor; see {@link #byteBuffer()}.
   *
   * @return its elements
   */
  public IntBuffer intBuffer() {
    requireType("intBuffer", DType.I32);
    return byteBuffer().asIntBuffer();
  }

  /**
   * A buffer over a compact I64 CPU tensor; see {@link #byteBuffer()}.
   *
   * @return its elements
   */
  public LongBuffer longBuffer() {
    requireType("longBuffer", DType.I64);
    return byteBuffer().asLongBuffer();
  }

  /**
   * A buffer over the bits of a compact F16 or BF16 CPU tensor; see {@link #byteBuffer()} and
   * {@link DType#f16ToFloat}.
   *
   * @return its elements' bits
   */
  public ShortBuffer shortBuffer() {
    requireType("shortBuffer", DType.F16, DType.BF16);
    return byteBuffer().asShortBuffer();
  }

  /**
   * Reads all elements, rounded to float, from any device. On CUDA it copies on the default stream
   * and waits for it; work queued on other streams needs its own {@link Stream#synchronize()}
   * before.
   *
   * @return elements in row-major order
   */
  public float[] toFloatArray() {
    float[] values = new float[arrayLength()];
    if (dtype == DType.F32 && isInPlace()) {
      FloatBuffer there = (FloatBuffer) inPlace();
      acquire();
      try {
        there.get(0, values);
      } finally {
        release();
      }
      return values;
    }
    Elements elements = Elements.read(this);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) elements.getDouble(i);
    }
    return values;
  }

  /**
   * Reads all elements from any device; synchronises like {@link #toFloatArray()}.
   *
   * @return elements in row-major order
   */
  public double[] toDoubleArray() {
    double[] values = new double[arrayLength()];
    Elements elements = Elements.read(this);
    for (int i = 0; i < values.length; i++) {
      values[i] = elements.getDouble(i);
    }
    return values;
  }

  /**
   * Reads all elements of an integer tensor from any device; synchronises like {@link
   * #toFloatArray()}.
   *
   * @return elements in row-major order; U8 as 0 to 255
   * @throws UnsupportedOperationException if the dtype is not I32, I64 or U8, or an I64 element
   *     does not fit an int
   */
  public int[] toIntArray() {
    if (dtype == DType.I32 && isInPlace()) {
      int[] values = new int[arrayLength()];
      IntBuffer there = (IntBuffer) inPlace();
      acquire();
      try {
        there.get(0, values);
      } finally {
        release();
      }
      return values;
    }
    requireType("toIntArray", DType.I32, DType.I64, DType.U8);
    int[] values = new int[arrayLength()];
    Elements elements = Elements.read(this);
    for (int i = 0; i < values.length; i++) {
      long value = elements.getLong(i);
      if (value != (int) value) {
        throw new UnsupportedOperationException(
            "toIntArray: element " + i + " is " + value + ", which an int cannot hold");
      }
      values[i] = (int) value;
    }
    return values;
  }

  /**
   * Writes all elements, rounded to this dtype (towards zero, if it is an integer), on any device;
   * on CUDA waits until they are there.
   *
   * @param values elements in row-major order
   * @return this
   * @throws IllegalArgumentException if the number of values differs from {@link #elements()}, one
   *     of them is none that an integer dtype can hold, or {@link #isReadOnly}; nothing is written
   */
  public Tensor copyFrom(float[] values) {
    Named.present("values", values);
    requireWritable("copyFrom");
    requireLength(values.length);
    if (dtype == DType.F32 && isInPlace()) {
      FloatBuffer there = (FloatBuffer) inPlace();
      acquire();
      try {
        there.put(0, values);
      } finally {
        release();
      }
      return this;
    }
    Elements elements = Elements.write(this);
    for (int i = 0; i < values.length; i++) {
      elements.put(i, values[i]);
    }
    elements.flush();
    return this;
  }

  /**
   * Writes all elements, rounded to this dtype (towards zero, if it is an integer), on any device;
   * on CUDA waits until they are there.
   *
   * @param values elements in row-major order
   * @return this
   * @throws IllegalArgumentException if the number of values differs from {@link #elements()}, one
   *     of them is none that an integer dtype can hold, or {@link #isReadOnly}; nothing is written
   */
  public Tensor copyFrom(double[] values) {
    Named.present("values", values);
    requireWritable("copyFrom");
    requireLength(values.length);
    Elements elements = Elements.write(this);
    for (int i = 0; i < values.length; i++) {
      elements.put(i, values[i]);
    }
    elements.flush();
    return this;
  }

  /**
   * Writes all elements, converted to this dtype, on any device; on CUDA waits until they are
   * there.
   *
   * @param values elements in row-major order
   * @return this
   * @throws IllegalArgumentException if the number of values differs from {@link #elements()}, one
   *     of them is none that an integer dtype can hold, or {@link #isReadOnly}; nothing is written
   */
  public Tensor copyFrom(int[] values) {
    Named.present("values", values);
    requireWritable("copyFrom");
    requireLength(values.length);
    if (dtype == DType.I32 && isInPlace()) {
      IntBuffer there = (IntBuffer) inPlace();
      acquire();
      try {
        there.put(0, values);
      } finally {
        release();
      }
      return this;
    }
    Elements elements = Elements.write(this);
    for (int i = 0; i < values.length; i++) {
      elements.put(i, (long) values[i]);
    }
    elements.flush();
    return this;
  }

  /**
   * Copies the elements of a tensor on any device to this one, in the stream's order. With pageable
   * host memory on one side CUDA makes the call synchronous, with {@link Scope#allocatePinned} not;
   * keep both tensors alive until the stream got there.
   *
   * @param source compact, same dtype and shape
   * @param stream where to queue the copy; CPU to CPU copies at once
   * @return this
   * @throws IllegalArgumentException if dtype or shape differ, or {@link #isReadOnly}
   * @throws UnsupportedOperationException if one of the two is not compact
   */
  public Tensor copyFrom(Tensor source, Stream stream) {
    Named.present("source", source);
    Named.present("stream", stream);
    requireWritable("copyFrom");
    if (source.dtype != dtype) {
      throw new IllegalArgumentException(
          "source: dtype " + source.dtype + ", but the destination has " + dtype);
    }
    if (!Arrays.equals(source.shape, shape)) {
      throw new IllegalArgumentException("source: shape " + Arrays.toString(source.shape)
          + ", but the destination has " + Arrays.toString(shape));
    }
    requireCompact("copyFrom");
    source.requireCompact("copyFrom");
    Device working = device.backend() == Backend.CUDA ? device : source.device;
    acquire();
    try {
      source.acquire();
      try {
        long handle = stream.acquireFor(working);
        try {
          Memory.copy(device, address, source.device, source.address, byteSize(), handle);
          if (Stream.captures != 0) {
            Capture.note(handle, this, source);
          }
        } finally {
          stream.release();
        }
      } finally {
        source.release();
      }
    } finally {
      release();
    }
    return this;
  }

  /**
   * The same as {@code destination.copyFrom(this, stream)}.
   *
   * @param destination compact, same dtype and shape
   * @param stream where to queue the copy
   * @return {@code destination}
   */
  public Tensor copyTo(Tensor destination, Stream stream) {
    return Named.present("destination", destination).copyFrom(this, stream);
  }

  // ---- internals --------------------------------------------------------------------------------

  Scope scope() {
    return scope;
  }

  Held held() {
    return held;
  }

  /** The extents and strides themselves, not to be written to. */
  long[] extents() {
    return shape;
  }

  long[] steps() {
    return strides;
  }

  /** Whether the host sees the elements one after the other. */
  boolean isInPlace() {
    return device.backend() == Backend.CPU && isCompact();
  }

  /**
   * The elements, if {@link #isInPlace}, to be touched between {@link #acquire} and {@link #release}
   * by absolute gets and puts alone: made once, since a buffer costs more than reading a result.
   */
  Buffer inPlace() {
    Buffer made = elements;
    if (made == null) {
      ByteBuffer bytes = Memory.view(address, byteSize());
      made = dtype == DType.F32 ? bytes.asFloatBuffer()
          : dtype == DType.I32
          ? bytes.asIntBuffer()
          : bytes;
      elements = made;
    }
    return made;
  }

  /** Keeps the memory until {@link #release}, or throws. */
  void acquire() {
    Native.require();
    StackRoom.require();
    if (scope != null) {
      scope.acquire();
    }
    if (held != null) {
      boolean done = false;
      try {
        Held.acquire(held.alone);
        done = true;
      } finally {
        if (!done && scope != null) {
          scope.release();
        }
      }
    }
  }

  void release() {
    try {
      if (held != null) {
        Held.release(held.alone);
      }
    } finally {
      if (scope != null) {
        scope.release();
      }
      Reference.reachabilityFence(this);
    }
  }

  void requireCpu(String what) {
    if (device.backend() != Backend.CPU) {
      throw new UnsupportedOperationException(
          what + ": tensor is on " + device + ", not on the cpu");
    }
  }

  void requireCompact(String what) {
    if (!isCompact()) {
      throw new UnsupportedOperationException(what + ": tensor with shape " + Arrays.toString(shape)
          + " and strides " + Arrays.toString(strides) + " is not compact");
    }
  }

  void requireWritable(String what) {
    if (isReadOnly()) {
      throw new IllegalArgumentException(
          what + ": the destination is written, but " + this + " is read-only");
    }
  }

  private void requireType(String what, DType... allowed) {
    if (!Arrays.asList(allowed).contains(dtype)) {
      throw new UnsupportedOperationException(
          what + ": dtype is " + dtype + ", needed is " + Arrays.toString(allowed));
    }
  }

  private void requireLength(int length) {
    if (length != elements()) {
      throw new IllegalArgumentException("values: " + length + " given, but shape "
          + Arrays.toString(shape) + " has " + elements());
    }
  }

  private int arrayLength() {
    long elements = elements();
    if (elements > Integer.MAX_VALUE - 8) {
      throw new UnsupportedOperationException(elements + " elements do not fit an array");
    }
    return (int) elements;
  }

  static long elements(long[] extents) {
    Named.present("shape", extents);
    long product = 1;
    for (long extent : extents) {
      if (extent < 0) {
        throw new IllegalArgumentException(
            "shape " + Arrays.toString(extents) + " has a negative extent");
      }
      try {
        product = Math.multiplyExact(product, extent);
      } catch (ArithmeticException e) {
        throw new IllegalArgumentException(
            "shape " + Arrays.toString(extents) + " has more elements than a long can count");
      }
    }
    return product;
  }

  static long byteSize(DType dtype, long[] extents) {
    Named.present("dtype", dtype);
    try {
      return Math.multiplyExact(elements(extents), dtype.bytes());
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException("shape " + Arrays.toString(extents) + " of " + dtype
          + " has more bytes than a long can count");
    }
  }

  static long[] compactStrides(long[] extents) {
    elements(extents);
    long[] steps = new long[extents.length];
    long step = 1;
    for (int i = extents.length - 1; i >= 0; i--) {
      steps[i] = step;
      step *= Math.max(1, extents[i]);
    }
    return steps;
  }

  private static DType naturalType(Buffer buffer) {
    Named.present("buffer", buffer);
    if (buffer instanceof FloatBuffer) {
      return DType.F32;
    } else if (buffer instanceof DoubleBuffer) {
      return DType.F64;
    } else if (buffer instanceof IntBuffer) {
      return DType.I32;
    } else if (buffer instanceof LongBuffer) {
      return DType.I64;
    } else if (buffer instanceof ByteBuffer) {
      return DType.U8;
    }
    throw new IllegalArgumentException(
        "buffer: a " + buffer.getClass().getSimpleName() + " may hold F16 or BF16, say which");
  }

  private static int elementBytes(Buffer buffer) {
    if (buffer instanceof ByteBuffer) {
      return 1;
    } else if (buffer instanceof ShortBuffer) {
      return 2;
    } else if (buffer instanceof FloatBuffer || buffer instanceof IntBuffer) {
      return 4;
    } else if (buffer instanceof DoubleBuffer || buffer instanceof LongBuffer) {
      return 8;
    }
    throw new IllegalArgumentException(
        "buffer: a " + buffer.getClass().getSimpleName() + " holds no DType");
  }

  private static ByteOrder order(Buffer buffer) {
    if (buffer instanceof FloatBuffer b) {
      return b.order();
    } else if (buffer instanceof DoubleBuffer b) {
      return b.order();
    } else if (buffer instanceof IntBuffer b) {
      return b.order();
    } else if (buffer instanceof LongBuffer b) {
      return b.order();
    } else if (buffer instanceof ShortBuffer b) {
      return b.order();
    }
    return ByteOrder.nativeOrder();
  }

  /** Dtype, shape and device, for messages. */
  @Override
  public String toString() {
    return dtype + Arrays.toString(shape) + " on " + device + " at 0x" + Long.toHexString(address);
  }
}
