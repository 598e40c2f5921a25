// Vectors of doubles in the compilers' own notation: GCC, clang and zig translate it for every processor.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace deeplinear {

typedef double Vector2 __attribute__((vector_size(16)));
typedef double Vector4 __attribute__((vector_size(32)));
#ifdef __AVX512F__
typedef double Vector8 __attribute__((vector_size(64)));
typedef Vector8 Wide;
#elif defined(__AVX__)
typedef Vector4 Wide;
#else
typedef Vector2 Wide;  // GCC takes longer vectors than the processor has apart through memory, ten times as slowly
#endif
constexpr size_t LANES = sizeof(Wide) / sizeof(double);

// Unaligned, by memcpy: as fast as aligned ones, and nothing is promised about addresses.
template <class V> [[gnu::always_inline]] inline V load(const double *from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

template <class V> [[gnu::always_inline]] inline void store(double *to, V v) { __builtin_memcpy(to, &v, sizeof v); }

// The entries whose bits are set in `mask`, and 0 for the others, whatever they are.
typedef int64_t WideBits __attribute__((vector_size(sizeof(Wide))));
[[gnu::always_inline]] inline Wide masked(Wide v, const uint64_t *mask) {
    WideBits bits;
    __builtin_memcpy(&bits, mask, sizeof bits);
    return (Wide)((WideBits)v & bits);
}

[[gnu::always_inline]] inline double sum_of(Vector2 v) { return v[0] + v[1]; }
[[gnu::always_inline]] inline double sum_of(Vector4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

#ifdef __AVX512F__
[[gnu::always_inline]] inline double sum_of(Vector8 v) {
    return sum_of(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
}
#endif

}  // namespace deeplinear
