// SPDX-License-Identifier: Apache-2.0
//
// Atomic read-modify-write operations on integers. Emulated threads switch only at known points,
// so a plain update is atomic; what matters is that the checker hears of it.
#pragma once

namespace simt {

// Announces an atomic access, before it happens.
void atomic_access(const void* address, size_t size, const char* file, int line);

// The update itself must not be seen as an ordinary access by the race detector.
template <class T>
__attribute__((noinline, no_sanitize("thread"))) T load_quietly(const T* address) {
  return *static_cast<const volatile T*>(address);
}

template <class T>
__attribute__((noinline, no_sanitize("thread"))) void store_quietly(T* address, T value) {
  *static_cast<volatile T*>(address) = value;
}

template <class T, class Update>
inline T atomic_update(T* address, const char* file, int line, Update update) {
  static_assert(std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                "atomics are for 32-bit and 64-bit integers: float atomics are not reproducible");
  atomic_access(address, sizeof(T), file, line);
  const T before = load_quietly(address);
  store_quietly(address, static_cast<T>(update(before)));
  return before;
}

// `T` is taken from the address alone, so that atomicAdd(&counter, 1) converts its operand.
template <class T>
struct Identity {
  using type = T;
};
template <class T>
using NoDeduce = typename Identity<T>::type;

template <class T>
inline T atomic_add(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line, [=](T before) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(before) + static_cast<Unsigned>(value));
  });
}

template <class T>
inline T atomic_sub(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line, [=](T before) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(before) - static_cast<Unsigned>(value));
  });
}

template <class T>
inline T atomic_min(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line,
                       [=](T before) { return value < before ? value : before; });
}

template <class T>
inline T atomic_max(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line,
                       [=](T before) { return value > before ? value : before; });
}

template <class T>
inline T atomic_and(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line, [=](T before) { return before & value; });
}

template <class T>
inline T atomic_or(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line, [=](T before) { return before | value; });
}

template <class T>
inline T atomic_xor(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line, [=](T before) { return before ^ value; });
}

template <class T>
inline T atomic_exchange(const char* file, int line, T* address, NoDeduce<T> value) {
  return atomic_update(address, file, line, [=](T) { return value; });
}

template <class T>
inline T atomic_compare_exchange(const char* file, int line, T* address, NoDeduce<T> expected,
                                 NoDeduce<T> value) {
  return atomic_update(address, file, line,
                       [=](T before) { return before == expected ? value : before; });
}

// Wraps to zero at `limit`, as the last-block idiom wants.
inline unsigned atomic_increment(const char* file, int line, unsigned* address, unsigned limit) {
  return atomic_update(address, file, line,
                       [=](unsigned before) { return before >= limit ? 0u : before + 1u; });
}

inline unsigned atomic_decrement(const char* file, int line, unsigned* address, unsigned limit) {
  return atomic_update(address, file, line, [=](unsigned before) {
    return before == 0u || before > limit ? limit : before - 1u;
  });
}

}  // namespace simt

#define atomicAdd(...) ::simt::atomic_add(__FILE__, __LINE__, __VA_ARGS__)
#define atomicSub(...) ::simt::atomic_sub(__FILE__, __LINE__, __VA_ARGS__)
#define atomicMin(...) ::simt::atomic_min(__FILE__, __LINE__, __VA_ARGS__)
#define atomicMax(...) ::simt::atomic_max(__FILE__, __LINE__, __VA_ARGS__)
#define atomicAnd(...) ::simt::atomic_and(__FILE__, __LINE__, __VA_ARGS__)
#define atomicOr(...) ::simt::atomic_or(__FILE__, __LINE__, __VA_ARGS__)
#define atomicXor(...) ::simt::atomic_xor(__FILE__, __LINE__, __VA_ARGS__)
#define atomicExch(...) ::simt::atomic_exchange(__FILE__, __LINE__, __VA_ARGS__)
#define atomicCAS(...) ::simt::atomic_compare_exchange(__FILE__, __LINE__, __VA_ARGS__)
#define atomicInc(...) ::simt::atomic_increment(__FILE__, __LINE__, __VA_ARGS__)
#define atomicDec(...) ::simt::atomic_decrement(__FILE__, __LINE__, __VA_ARGS__)
