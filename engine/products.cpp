// Register-blocked products: a tile of C stays in registers while the whole inner index runs. B is read in vectors
// along its rows, A entry by entry, so that A may as well be transposed. Nothing is packed: up to about 256 wide, and
// always between wide inputs and few outputs, the matrices lie in the first two caches as they are.
#include "products.h"

namespace deeplinear {
namespace {

// Rows of narrow matrices are whole vectors of 4.
#ifdef __AVX__
typedef Vector4 Narrow;
#else
typedef Wide Narrow;
#endif

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

template <class V, int ROWS, int VECTORS>
void tile(double *c, size_t stride, const Factors *terms, int count, size_t top, size_t left) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    V sums[ROWS][VECTORS] = {};
    for (const Factors *term = terms; term < terms + count; term++) {
        const double *a = term->a + top * term->down, *b = term->b + left;
        const size_t down = term->down, along = term->along, next = term->stride;
        for (int k = term->inner; k > 0; k--, a += along, b += next) {
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
    c += top * stride + left;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) store(c + r * stride + v * LENGTH, sums[r][v]);
}

using Tile = void (*)(double *, size_t, const Factors *, int, size_t, size_t);
constexpr int fitting(int rows, int vectors) { return rows < rows_beside(vectors) ? rows : rows_beside(vectors); }

#define TILES_OF(vectors)                                                                                         \
    {tile<V, fitting(1, vectors), vectors>, tile<V, fitting(2, vectors), vectors>,                                \
     tile<V, fitting(3, vectors), vectors>, tile<V, fitting(4, vectors), vectors>,                                \
     tile<V, fitting(5, vectors), vectors>, tile<V, fitting(6, vectors), vectors>,                                \
     tile<V, fitting(7, vectors), vectors>, tile<V, fitting(8, vectors), vectors>}
template <class V> constexpr Tile TILES[MOST_VECTORS][MOST_ROWS] = {TILES_OF(1), TILES_OF(2), TILES_OF(3)};
#undef TILES_OF
constexpr int ROWS_BESIDE[] = {rows_beside(1), rows_beside(2), rows_beside(3)};

// C in panels of up to three vectors, each in tiles of about equally many rows: no stub of a row or two at the end,
// whose few sums would wait for each other.
template <class V> void in_tiles(const Matrix &C, size_t width, const Factors *terms, int count) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    size_t vectors = width / LENGTH, left = 0;
    for (size_t panels = (vectors + MOST_VECTORS - 1) / MOST_VECTORS; panels > 0; panels--) {
        const size_t wide = panels == 1 ? vectors : (vectors + panels - 1) / panels;
        const int most = ROWS_BESIDE[wide - 1];
        int rows = C.rows, top = 0;
        for (int blocks = (rows + most - 1) / most; blocks > 0; blocks--) {
            const int high = blocks == 1 ? rows : (rows + blocks - 1) / blocks;
            TILES<V>[wide - 1][high - 1](C.at, C.stride, terms, count, size_t(top), left);
            top += high, rows -= high;
        }
        left += wide * LENGTH, vectors -= wide;
    }
}

}  // namespace

void multiply(const Matrix &C, const Factors *terms, int count) {
    // the padding of a row is computed too: zeros times zeros
    if (C.columns <= NARROW)
        in_tiles<Narrow>(C, (size_t(C.columns) + 3) / 4 * 4, terms, count);
    else
        in_tiles<Wide>(C, (size_t(C.columns) + 7) / 8 * 8, terms, count);
}

void transpose(const Matrix &A, const Matrix &B) {
    for (int i = 0; i < A.rows; i += 4)
        for (int j = 0; j < A.columns; j += 4) {
            const double *from = A.row(i) + j;
            const Vector4 a = load<Vector4>(from), b = load<Vector4>(from + A.stride),
                          c = load<Vector4>(from + 2 * A.stride), d = load<Vector4>(from + 3 * A.stride);
            const Vector4 ab_even = __builtin_shufflevector(a, b, 0, 4, 2, 6),
                          ab_odd = __builtin_shufflevector(a, b, 1, 5, 3, 7),
                          cd_even = __builtin_shufflevector(c, d, 0, 4, 2, 6),
                          cd_odd = __builtin_shufflevector(c, d, 1, 5, 3, 7);
            double *to = B.row(j) + i;
            const int rows = B.rows - j;  // B may end here
            store(to, __builtin_shufflevector(ab_even, cd_even, 0, 1, 4, 5));
            if (rows > 1) store(to + B.stride, __builtin_shufflevector(ab_odd, cd_odd, 0, 1, 4, 5));
            if (rows > 2) store(to + 2 * B.stride, __builtin_shufflevector(ab_even, cd_even, 2, 3, 6, 7));
            if (rows > 3) store(to + 3 * B.stride, __builtin_shufflevector(ab_odd, cd_odd, 2, 3, 6, 7));
        }
}

}  // namespace deeplinear
