// The innermost loop of every product: a tile of C stays in registers while the inner index runs.
#pragma once
#include "products.h"

namespace deeplinear {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif
#ifdef __clang__
constexpr int ENTRIES = 2;  // it takes the next entry of A while the last one is in use
#else
constexpr int ENTRIES = 1;
#endif
constexpr int MOST_ROWS = 8, MOST_VECTORS = 3;

// Rows of a tile of so many vectors: the accumulators, one row of B and entries of A fit into the registers.
constexpr int rows_beside(int vectors) {
    const int rows = (REGISTERS - vectors - ENTRIES) / vectors;
    return rows < 1 ? 1 : rows < MOST_ROWS ? rows : MOST_ROWS;
}
constexpr int ROWS_BESIDE[] = {rows_beside(1), rows_beside(2), rows_beside(3)};
constexpr int fitting(int rows, int vectors) { return rows < rows_beside(vectors) ? rows : rows_beside(vectors); }

// sums_rv += sum_k a[r * down + k * along] b[k * next + v], v in vectors.
template <class V, int ROWS, int VECTORS>
[[gnu::always_inline]] inline void accumulate(
    V (&sums)[ROWS][VECTORS], const double *a, size_t down, size_t along, const double *b, size_t next, int inner) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    for (int k = inner; k > 0; k--, a += along, b += next) {
        V row[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) row[v] = load<V>(b + v * LENGTH);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            const double entry = a[r * down];
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) sums[r][v] += entry * row[v];
        }
    }
}

// f(start, length) for parts of `total`, at most `most` and about equally long: no stub of a row or two at the end,
// whose few sums would wait for each other.
template <class F> [[gnu::always_inline]] inline void in_parts(int total, int most, F f) {
    int start = 0;
    for (int parts = (total + most - 1) / most; parts > 0; parts--) {
        const int rest = total - start, length = parts == 1 ? rest : (rest + parts - 1) / parts;
        f(start, length);
        start += length;
    }
}

// kernel<V, rows, vectors> for every tile that fits into the registers: TABLE[vectors - 1][rows - 1].
#define DEEPLINEAR_TILES_OF(kernel, vectors)                                                      \
    {kernel<V, fitting(1, vectors), vectors>, kernel<V, fitting(2, vectors), vectors>,            \
     kernel<V, fitting(3, vectors), vectors>, kernel<V, fitting(4, vectors), vectors>,            \
     kernel<V, fitting(5, vectors), vectors>, kernel<V, fitting(6, vectors), vectors>,            \
     kernel<V, fitting(7, vectors), vectors>, kernel<V, fitting(8, vectors), vectors>}
#define DEEPLINEAR_TILES(kernel) \
    {DEEPLINEAR_TILES_OF(kernel, 1), DEEPLINEAR_TILES_OF(kernel, 2), DEEPLINEAR_TILES_OF(kernel, 3)}

}  // namespace deeplinear
